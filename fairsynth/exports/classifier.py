"""The fair classifier for other programs: a transformers model for image classification, with its preprocessing."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel
from transformers.utils import logging

from fairsynth.classify.images import MEAN, STD
from fairsynth.exports.classifier_card import classifier_card
from fairsynth.run_folder.files import with_usual_mode
from fairsynth.run_folder.views import CONTENTS, remove_view, replace_view
from fairsynth.store.mirror import tree_gone, tree_sent

PROCESSOR = "preprocessor_config.json"


def publish(source: Path, target: Path, labels: Sequence[str], image_size: int, report: Mapping[str, Any]) -> None:
    """Lay out ``target`` as ``write_classifier`` does, with its card, in place of what is there.

    Nothing is left there if there is no ``source``: a run whose methods lack fairsynth.
    Raises ConfigError if what is there, or something in it, was not made by fairsynth.
    """
    if not source.exists():
        remove_view(target)
        tree_gone(target)
        return
    private = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        write_classifier(source, private, labels, image_size)
        (private / "README.md").write_text(classifier_card(report, image_size), "utf-8")
        replace_view(private, target)
        tree_sent(target, first=CONTENTS)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def write_classifier(source: Path, target: Path, labels: Sequence[str], image_size: int) -> None:
    """Write what ``models.classifier.save_classifier`` left in ``source`` as ``AutoModelForImageClassification`` reads it.

    Its probabilities are those of the training to rounding. The preprocessing (``AutoImageProcessor``): the shorter side
    scaled to ``image_size`` pixels, the middle square, ImageNet's mean and deviation.
    """
    logging.disable_progress_bar()
    head = load_file(source / "head.safetensors")
    encoder = ResNetModel.from_pretrained(source / "encoder", use_safetensors=True)
    config = ResNetConfig.from_dict(
        encoder.config.to_dict()
        | {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    )
    model = ResNetForImageClassification(config)
    model.resnet.load_state_dict(encoder.state_dict())
    linear = model.classifier[-1]
    with torch.no_grad():
        linear.weight.copy_(head["weight"])
        linear.bias.copy_(head["bias"])
    model.eval().save_pretrained(target)
    for weights in target.glob("*.safetensors"):
        with_usual_mode(weights)
    (target / PROCESSOR).write_text(json.dumps(_processor(image_size), indent=1), "utf-8")


def _processor(size: int) -> dict[str, object]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": size}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": size, "width": size},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD),
    }  # fmt: skip
