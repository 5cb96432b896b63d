"""A base model's own values of what a config leaves open, and what it is refused for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import changed, load_config, preset_names
from fairsynth.errors import ConfigError
from fairsynth.models.families.table import FAMILIES
from fairsynth.models.hub.base_model import with_base
from tests.support.models.pipelines import Wide, described

Config = Callable[..., RunConfig]


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Configs whose base model is of another family; two underscores stand for the dot, ``index`` is what it says of itself."""
    monkeypatch.setitem(FAMILIES, "WidePipeline", Wide())  # type: ignore[arg-type]

    def config(index: dict[str, Any] | None = None, **given: Any) -> RunConfig:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        settings = {name.replace("__", "."): value for name, value in given.items()}
        model = str(described(folder, "WidePipeline", **(index or {})))
        return load_config(None, None, {"models.diffusion": model, **settings})

    return config


def own(config: RunConfig) -> tuple[object, ...]:
    """The values that a base model may bring."""
    models, synthesize = config.models, config.synthesize
    return models.image_size, config.finetune.target_modules, config.shared.target_modules, synthesize.scheduler


def test_what_the_config_leaves_open_is_the_base_models_own(wide: Config) -> None:
    assert own(with_base(wide())) == (1024, ("to_q", "to_v"), ("to_q", "to_v", "conv1"), "euler")


def test_what_the_config_says_stays(wide: Config) -> None:
    """Also where it says what is the default."""
    config = wide(
        models__image_size=512,
        finetune__target_modules=["to_k"],
        shared__target_modules=["conv2"],
        synthesize__scheduler="unipc",
    )
    assert with_base(config) == config and own(config) == (512, ("to_k",), ("conv2",), "unipc")


def test_a_config_that_is_changed_leaves_open_what_it_left_open(wide: Config) -> None:
    config = changed(RunConfig(), {"models.diffusion": wide().models.diffusion, "cluster.k": 3})
    assert own(with_base(config))[0] == 1024 and own(with_base(changed(config, {"models.image_size": 512})))[0] == 512
    # A record of a run says all of its values.
    whole = RunConfig.model_validate(with_base(config).model_dump())
    assert with_base(whole) == whole == with_base(config)


@pytest.mark.parametrize("preset", preset_names())
def test_nothing_changes_for_stable_diffusion(preset: str, tmp_path: Path) -> None:
    for model in ("demo", str(described(tmp_path / "sd"))):
        config = load_config(None, preset, {"models.diffusion": model})
        assert with_base(config).model_dump_json() == config.model_dump_json()
        plain = load_config(None, None, {"models.diffusion": model})
        assert with_base(plain).model_dump_json() == plain.model_dump_json()


OWN = {
    "models.image_size": 64,
    "finetune.target_modules": ["to_q"],
    "shared.target_modules": ["to_q"],
    "synthesize.scheduler": "euler",
}


def test_a_model_that_cannot_be_had_needs_its_own_values_from_the_config() -> None:
    away = {"models.diffusion": "owner/nowhere"}
    for left_out in OWN:
        said = away | {key: value for key, value in OWN.items() if key != left_out}
        with pytest.raises(
            ConfigError, match=rf"cache, and the hub .* its own {re.escape(left_out)} are not known; fetch it"
        ):
            with_base(load_config(None, None, said))
    config = load_config(None, None, away | OWN)
    assert with_base(config) == config


def test_the_defaults_are_those_of_stable_diffusion_whether_it_can_be_had_or_not() -> None:
    config = load_config(None, None, {})
    assert with_base(config) == config


def test_a_scheduler_that_the_model_has_not_is_refused(wide: Config) -> None:
    with pytest.raises(
        ConfigError, match=r"synthesize\.scheduler: ddim is not for Wide Diffusion; choose one of euler, unipc"
    ):
        with_base(wide(synthesize__scheduler="ddim"))


def test_a_distilled_model_makes_images_and_is_not_trained(wide: Config, tmp_path: Path) -> None:
    said = wide({"distilled": True})
    with pytest.raises(ConfigError, match=r"was distilled for two steps.*--finetune\.generator vanilla"):
        with_base(said)
    assert with_base(changed(said, {"finetune.generator": "vanilla"})).models.image_size == 1024
    # Of some no file says so: they are known by the name that their folder has from the hub.
    folder = str(described(tmp_path / "turbo", _name_or_path="stabilityai/sd-turbo"))
    with pytest.raises(ConfigError, match="was distilled to few steps"):
        with_base(load_config(None, None, {"models.diffusion": folder}))
    with_base(load_config(None, None, {"models.diffusion": folder, "finetune.generator": "vanilla"}))
