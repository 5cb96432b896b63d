"""The memory of a network by the headers of its files is that of the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from torch import nn

from fairsynth.config import ModelsConfig
from fairsynth.models.families.table import family_of
from fairsynth.models.hub.sizes import network_bytes
from fairsynth.models.int8 import quantise, weight_bytes
from tests.support.models import tiny_sdxl
from tests.support.models.tiny_flux2 import tiny_flux2
from tests.support.models.tiny_zimage import tiny_zimage


@pytest.mark.parametrize("make", [tiny_sdxl.pipeline, tiny_flux2, tiny_zimage], ids=lambda make: make.__module__)
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_the_headers_say_what_the_network_takes(make: Callable[[], Any], shard: str, tmp_path: Path) -> None:
    pipeline = make()
    # As published models are stored: numpy has no such format.
    nn.Module.to(pipeline.components[family_of(pipeline).network], torch.bfloat16)
    pipeline.save_pretrained(tmp_path, max_shard_size=shard)
    network = family_of(pipeline).network_of(pipeline)
    files = list((tmp_path / family_of(pipeline).network).glob("*.safetensors"))
    assert (len(files) > 1) == (shard != "1GB")
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        models = ModelsConfig(diffusion=str(tmp_path), clip="demo", dtype=name)
        assert network_bytes(models) == weight_bytes(nn.Module.to(network, dtype))
    quantise(network)
    # Of tiny networks what is before the blocks weighs more than of others.
    assert network_bytes(models, "int8") == pytest.approx(weight_bytes(network), rel=0.1)


def test_what_is_not_here_or_broken_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert network_bytes(ModelsConfig(diffusion="owner/away")) is None
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    models = ModelsConfig(diffusion=str(folder))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    for index, content in (
        ("{", b""),
        ("[]", b""),
        ('{"_class_name": "Odd"}', b""),
        ('{"_class_name": "StableDiffusionPipeline"}', b"x"),
    ):
        (folder / "model_index.json").write_text(index, "utf-8")
        weights.write_bytes(content)
        assert network_bytes(models) is None
    weights.unlink()
    assert network_bytes(models) is None
    (folder / "unet" / f"{weights.name}.index.json").write_text('{"weight_map": ["a"]}', "utf-8")
    assert network_bytes(models) is None


def test_models_of_the_package_have_one() -> None:
    assert (network_bytes(ModelsConfig(diffusion="demo")) or 0) > 1e6
