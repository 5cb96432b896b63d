"""Files of a trained adapter: its weights and what it was made from, or why it failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.models import adapters
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.sources import base_of
from fairsynth.run_folder.files import with_usual_mode
from fairsynth.stages.finetune.lot_state import Trained
from fairsynth.stages.finetune.output import ADAPTER_FILE
from fairsynth.version import __version__


def save_trained(
    trained: Trained, config: FinetuneConfig, models: ModelsConfig, denoiser: Denoiser, folder: Path
) -> None:
    """Write an adapter's weights, if it has any, and ``adapter.json``.

    With ``parameters: full`` the weights are a network as ``save_pretrained`` writes it, in the base's number format.
    """
    facts = _facts(trained, config)
    if trained.weights is not None and config.parameters == "full":
        # Not the network's own format: it is trained in float32.
        dtype = getattr(torch, models.dtype)
        tensors = {name: value.to(dtype).contiguous() for name, value in trained.weights.items()}
        adapters.require_finite(tensors)
        denoiser.network.save_config(folder)
        save_file(tensors, folder / adapters.FULL_FILE_NAME, {"format": "pt"})
        with_usual_mode(folder / adapters.FULL_FILE_NAME)
    elif trained.weights is not None:
        kept = ("label", "attribute", "cluster", "prompt", "class_prompt", "seed", "images", "best_step", "generator")
        rounded = {"frozen_weights": "int8"} if config.frozen_weights == "int8" else {}
        provenance = (
            {key: facts[key] for key in (*kept, "prompts") if key in facts}
            | base_of(models)
            | {"fairsynth": __version__, "family": denoiser.family.name}
            | rounded
        )
        adapters.save_adapter(
            trained.weights,
            folder,
            config.rank,
            config.alpha,
            config.target_modules,
            provenance,
            denoiser.family.network,
        )
    (folder / ADAPTER_FILE).write_text(json.dumps(facts, indent=1), "utf-8")


def _facts(trained: Trained, config: FinetuneConfig) -> dict[str, Any]:
    job, progress = trained.job, trained.progress
    shared = {"prompts": list(job.kinds.prompts)} if job.kinds else {}
    return shared | {
        "name": job.name,
        "label": job.group.label,
        "attribute": job.group.attribute,
        "cluster": job.cluster,
        "images": len(job.image_ids),
        "prompt": job.prompt,
        "class_prompt": job.class_prompt,
        "seed": job.seed,
        "generator": config.generator,
        "parameters": config.parameters,
        "steps": progress.step,
        "best_step": progress.best_step if progress.validation else progress.step,
        "validation": progress.validation,
        "losses": progress.losses,
        "rolled_back": progress.fault,
        "failed": trained.failure,
    }
