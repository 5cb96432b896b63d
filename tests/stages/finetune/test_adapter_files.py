"""What an adapter leaves behind: weights that load as they were, what they were made from, or why there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from fairsynth import __version__
from fairsynth.config import FinetuneConfig, ModelsConfig
from fairsynth.models import adapters
from fairsynth.models.sources import base_of
from fairsynth.stages.finetune.adapter_files import save_trained
from fairsynth.stages.finetune.lot_state import Progress, Trained
from fairsynth.stages.finetune.output import read_adapter
from tests.support.lots import CONFIG, Weights, changed, denoiser_of, jobs, same_bits, stack_of, tiny_unet

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
FULL = CONFIG.model_copy(update={"parameters": "full"})
# Three images.
JOB = changed(jobs([9, 9])[1], prompt='a "sks" grün | low', class_prompt="a low")
VALIDATED = Progress(
    JOB.name, 9, 1, 4, 'loss nan at step 5, "learning rate"', [(4, 0.25), (8, 0.125), (9, 0.5)], losses=[(1, 0.75)]
)


def lora(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of an adapter under peft's names."""
    stack = stack_of(tiny_unet())
    return stack.state(torch.randn(stack.size, generator=torch.Generator().manual_seed(seed)))


def whole(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of a whole UNet."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) for name, value in tiny_unet().state_dict().items()}


def save(
    weights: Weights | None,
    folder: Path,
    config: FinetuneConfig = CONFIG,
    progress: Progress = VALIDATED,
    dtype: torch.dtype = torch.float32,
    failure: str = "",
) -> Path:
    """Write an adapter into a new folder."""
    folder.mkdir()
    # The UNet was trained in float32, whatever the base was.
    models = MODELS.model_copy(update={"dtype": str(dtype).removeprefix("torch.")})
    save_trained(Trained(JOB, progress, weights, failure), config, models, denoiser_of(tiny_unet()), folder)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_adapter_is_read_back_as_it_was(tmp_path: Path) -> None:
    state, folder = lora(), save(lora(), tmp_path / "one")
    assert names(folder) == {"adapter.json", adapters.FILE_NAME}
    assert same_bits(load_file(folder / adapters.FILE_NAME), {f"unet.{name}": value for name, value in state.items()})
    layers, scale = adapters.load_adapter(folder / adapters.FILE_NAME)
    assert scale == 4 / 2, "alpha by rank of the config"
    assert len(layers) == len(state)
    for name, value in state.items():
        layer = name.replace(".lora_A.weight", ".down").replace(".lora_B.weight", ".up")
        assert torch.equal(layers[layer], value)


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["adapter", "full"])
def test_what_it_was_made_from_is_all_there(config: FinetuneConfig, tmp_path: Path) -> None:
    folder = save(lora() if config is CONFIG else whole(), tmp_path / "one", config)
    made_from = {
        "label": "low",
        "attribute": "flower",
        "cluster": 1,
        "prompt": 'a "sks" grün | low',
        "class_prompt": "a low",
        "seed": 101,
        "images": 3,
        "best_step": 8,
        "generator": "clustered-dreambooth",
    }
    assert read_adapter(folder) == made_from | {
        "name": "low--flower--1",
        "parameters": config.parameters,
        "steps": 9,
        "validation": [[4, 0.25], [8, 0.125], [9, 0.5]],
        "losses": [[1, 0.75]],
        "rolled_back": 'loss nan at step 5, "learning rate"',
        "failed": "",
    }
    if config is CONFIG:
        base = {
            "base_model": "demo",
            "base_revision": base_of(MODELS)["base_revision"],
            "family": "sd",
            "fairsynth": __version__,
        }
        assert adapters.read_provenance(folder / adapters.FILE_NAME) == made_from | base


def test_an_adapter_that_was_never_validated_is_kept_as_it_was_last(tmp_path: Path) -> None:
    folder = save(lora(), tmp_path / "one", progress=Progress(JOB.name, 7))
    assert (read_adapter(folder)["best_step"], read_adapter(folder)["validation"]) == (7, [])
    assert adapters.read_provenance(folder / adapters.FILE_NAME)["best_step"] == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_full_unet_loads_as_diffusers_loads_its_own(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save(whole(), tmp_path / "one", FULL, dtype=dtype)
    assert names(folder) == {"adapter.json", "config.json", adapters.FULL_FILE_NAME}
    loaded = UNet2DConditionModel.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    assert same_bits(loaded.state_dict(), {name: value.to(dtype) for name, value in whole().items()})
    assert {value.dtype for value in load_file(folder / adapters.FULL_FILE_NAME).values()} == {dtype}
    own, saved = (json.loads(unet.to_json_string()) for unet in (tiny_unet(), loaded))
    assert [key for key, value in own.items() if saved[key] != value] == []


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["adapter", "full"])
def test_a_failed_adapter_leaves_its_reason_and_no_weights(config: FinetuneConfig, tmp_path: Path) -> None:
    folder = save(None, tmp_path / "one", config, failure="loss nan at step 5 | lower it")
    assert names(folder) == {"adapter.json"} and adapters.weights_file(folder) is None
    facts = read_adapter(folder)
    assert (facts["failed"], facts["steps"], facts["images"]) == ("loss nan at step 5 | lower it", 9, 3)


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["adapter", "full"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_leave_no_file(config: FinetuneConfig, bad: float, tmp_path: Path) -> None:
    weights = lora() if config is CONFIG else whole()
    list(weights.values())[-1].view(-1)[-1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        save(weights, tmp_path / "one", config)
    assert list((tmp_path / "one").iterdir()) == []


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["adapter", "full"])
def test_the_same_adapter_is_the_same_files(config: FinetuneConfig, tmp_path: Path) -> None:
    made = lora if config is CONFIG else whole
    folders = [save(made(), tmp_path / str(attempt), config) for attempt in range(4)]
    assert all(contents(folder) == contents(folders[0]) for folder in folders)
    assert contents(save(made(seed=1), tmp_path / "other", config)) != contents(folders[0])
