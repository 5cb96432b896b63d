"""The fair classifier as an ONNX file, for programs without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairsynth.errors import ConfigError, FairsynthError
from fairsynth.escaping import code
from fairsynth.exports.classifier_card import MEASURED
from fairsynth.exports.classifier_folder import network
from fairsynth.version import __version__

MODEL, CARD = "model.onnx", "README.md"
OPSET = 18
# Largest difference of a probability that is taken for rounding.
TOLERANCE = 1e-4
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_COPIED = ("config.json", "preprocessor_config.json")
_MADE_BY = "made_by"
_USE = """import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
facts = session.get_modelmeta().custom_metadata_map
labels, mean, std = (json.loads(facts[name]) for name in ("labels", "image_mean", "image_std"))
side = int(facts["image_size"])

image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
pixels = ((np.asarray(image) / 255 - mean) / std).astype(np.float32)
logits, probabilities = session.run(None, {"pixel_values": pixels.transpose(2, 0, 1)[None]})
print(dict(zip(labels, probabilities[0].tolist())))"""


def require_packages() -> None:
    """Raise ConfigError if a package that writes or checks ONNX files is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format onnx needs {', '.join(missing)}: pip install 'fairsynth[onnx]'")


def write_onnx(classifier: Path, folder: Path) -> float:
    """Write ``model.onnx``, its card and the classifier's JSON files into ``folder``, and run the file once.

    Input ``pixel_values``: float32 (N, 3, S, S), normalised as the metadata say, any N. Outputs ``logits`` and
    ``probabilities``: float32 (N, labels). These are the names that transformers' exporters use.
    Returns the largest difference of a probability from PyTorch's. Raises ConfigError for missing packages,
    FairsynthError if the outputs differ by more than rounding.
    """
    require_packages()
    model = network(classifier)
    processor = json.loads((classifier / "preprocessor_config.json").read_text("utf-8"))
    size, names = int(processor["crop_size"]["height"]), model.config.id2label
    facts = {
        _MADE_BY: f"fairsynth {__version__}",
        "task": "image-classification",
        "labels": json.dumps([names[place] for place in range(len(names))]),
        "image_size": str(size),
        **{name: json.dumps(processor[name]) for name in ("image_mean", "image_std")},
    }
    _export(model, size, facts, folder / MODEL)
    difference = _difference(model, size, folder / MODEL)
    for name in _COPIED:
        shutil.copyfile(classifier / name, folder / name)
    (folder / CARD).write_text(_card(classifier, size, difference), "utf-8")
    return difference


def is_ours(file: Path) -> bool:
    """Whether an ONNX file was written by ``write_onnx``."""
    require_packages()
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception:  # whatever is no ONNX file
        return False
    return any(fact.key == _MADE_BY and fact.value.startswith("fairsynth") for fact in model.metadata_props)


def is_export(folder: Path) -> bool:
    """Whether a folder is empty or holds what ``write_onnx`` wrote, and nothing else."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return not names or (names <= {MODEL, CARD, *_COPIED} and is_ours(folder / MODEL))


def _export(model: Any, size: int, facts: Mapping[str, str], file: Path) -> None:
    import onnx
    import torch

    class WithProbabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.classifier(pixel_values=pixel_values).logits
            return logits, logits.softmax(1)

    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            WithProbabilities(),
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixel_values"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim.DYNAMIC}},
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    # By hand, for the exporter names it after a symbol.
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, dict(facts))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, file)


def _strip(proto: Any) -> None:
    """Remove the exporter's notes: they hold source lines and paths of this machine."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _difference(model: Any, size: int, file: Path) -> float:
    """Run the file; the largest difference of a probability. Raises FairsynthError if it is no rounding."""
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    draws, worst = torch.Generator().manual_seed(0), 0.0
    for n in (1, 5):  # one image and several: the batch is free
        pixels = torch.randn(n, 3, size, size, generator=draws)
        with torch.inference_mode():
            expected = model(pixel_values=pixels).logits.softmax(1).numpy()
        _, found = session.run(None, {"pixel_values": pixels.numpy()})
        worst = max(worst, float(np.abs(found - expected).max()))
    if not worst <= TOLERANCE:
        raise FairsynthError(
            f"the ONNX file's probabilities differ from PyTorch's by {worst:.2g}, more than rounding; nothing was written. "
            "Other versions of onnxscript and onnxruntime may do"
        )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own parts."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _card(classifier: Path, size: int, difference: float) -> str:
    lines = [
        "# An ONNX file of a classifier trained for its worst group", "",
        f"Written by fairsynth {__version__}, opset {OPSET}. Its probabilities differ from PyTorch's by {difference:.1g} at "
        "most, on random input (onnxruntime, CPU).", "",
        "| | name | type | shape |", "|---|---|---|---|",
        f"| input | {code('pixel_values')} | float32 | (N, 3, {size}, {size}), any N |",
        f"| output | {code('logits')} | float32 | (N, labels) |",
        f"| output | {code('probabilities')} | float32 | (N, labels), rows add up to 1 |", "",
        f"Before: RGB upright, the shorter side scaled to {size} pixels (bicubic), the middle square, values from 0 to 1, "
        "minus mean, by deviation, per channel. The file's metadata hold the labels in the order of the outputs, "
        "`image_size`, `image_mean` and `image_std`, as JSON.", "",
        "## How to use", "", "```python", _USE, "```", "",
    ]  # fmt: skip
    card = classifier / CARD
    if card.is_file():
        _, found, rest = card.read_text("utf-8").partition(MEASURED)
        lines += [found + rest] if found else []
    return "\n".join(lines)
