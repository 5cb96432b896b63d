"""Models from elsewhere: none of them runs code, whatever its files say; what would is refused before a library reads it."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.classifier import build_classifier
from fairsynth.models.diffusion import load_denoiser, load_pipeline, load_text_encoder
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.exported import classifier_class
from fairsynth.models.hub.check import check_sources
from fairsynth.models.sources import demo_folder
from tests.support.calling import call
from tests.support.structure import SOURCES

SMALL = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=2)


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What foreign code leaves behind where it runs; and no pickle may even reach torch."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a file reached torch.load")

    monkeypatch.setattr(torch, "load", reached)
    return tmp_path / "mark"


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), "utf-8")


def with_code(folder: Path, mark: Path) -> None:
    """Modules beside a model, and configurations that name them in every way that a hub's model does."""
    for name in ("modeling_evil", "configuration_evil", "tokenization_evil", "pipeline"):
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n", "utf-8")
    named = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"}
    tokenizer = {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}
    for file, auto_map in (("config.json", named), ("tokenizer_config.json", tokenizer)):
        if (folder / file).is_file():
            edited(folder / file, auto_map=auto_map, custom_pipelines={"evil": {"impl": "pipeline.py"}})


def with_pickle(folder: Path, mark: Path, weights: str, name: str = "evil.bin") -> None:
    """The weights are in shards, of which the only one is a pickle."""
    file = folder / f"{weights}.safetensors"
    file.unlink()
    (folder / name).write_bytes(pickle.dumps(Evil(mark)))
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": name}}
    (folder / f"{weights}.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(demo_folder(name), folder / name))


def backbone(folder: Path) -> Path:
    ResNetModel(SMALL).save_pretrained(folder)
    return folder


def models(**changes: Any) -> ModelsConfig:
    return ModelsConfig(**{"diffusion": "demo", "clip": "demo", "image_size": 32, **changes})


def test_code_beside_a_clip_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = copied("clip", tmp_path)
    with_code(folder, mark)
    assert ClipEncoder(models(clip=str(folder))).texts(["a digit"]).shape[0] == 1
    assert not mark.exists()


def test_code_beside_a_base_model_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = copied("diffusion", tmp_path)
    for part in ("", "unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        with_code(folder / part, mark)
    config = models(diffusion=str(folder))
    load_pipeline(config)
    load_denoiser(config)
    assert not mark.exists()


def test_code_beside_a_backbone_or_a_classifier_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = backbone(tmp_path / "resnet")
    with_code(folder, mark)
    build_classifier(ClassifyConfig(backbone=str(folder)), 2, 0)
    finished = tmp_path / "classifier"
    ResNetForImageClassification(SMALL).save_pretrained(finished)
    with_code(finished, mark)
    assert classifier_class(finished).from_pretrained(finished, use_safetensors=True).config.num_labels == 2
    edited(finished / "config.json", model_type="evil")
    with pytest.raises(ConfigError, match="names no kind of image classifier"):
        classifier_class(finished)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["evil.bin", "../evil.safetensors", "/tmp/evil.safetensors", "sub/evil.safetensors"])
def test_an_index_that_names_anything_but_safetensors_beside_it_is_refused(
    name: str, tmp_path: Path, mark: Path
) -> None:
    folder = copied("clip", tmp_path)
    with_pickle(folder, mark, "model")
    index = folder / "model.safetensors.index.json"
    edited(index, weight_map={"a": name})
    with pytest.raises(
        ConfigError, match=r"models\.clip: .* as weights; only \.safetensors files beside it are loaded"
    ):
        ClipEncoder(models(clip=str(folder)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("part", "weights", "load"),
    [
        ("unet", "diffusion_pytorch_model", load_denoiser),
        ("vae", "diffusion_pytorch_model", load_pipeline),
        ("text_encoder", "model", load_text_encoder),
    ],
)
def test_a_pickle_in_any_part_of_a_base_model_is_refused(
    part: str, weights: str, load: Callable[[ModelsConfig], object], tmp_path: Path, mark: Path
) -> None:
    folder = copied("diffusion", tmp_path)
    with_pickle(folder / part, mark, weights)
    with pytest.raises(ConfigError, match=r"models\.diffusion: .*'evil\.bin' as weights"):
        load(models(diffusion=str(folder)))
    assert not mark.exists()


def test_a_pickle_in_a_backbone_or_a_classifier_is_refused(tmp_path: Path, mark: Path) -> None:
    folder = backbone(tmp_path / "resnet")
    with_pickle(folder, mark, "model")
    with pytest.raises(ConfigError, match=r"classify\.backbone: .*'evil\.bin' as weights"):
        build_classifier(ClassifyConfig(backbone=str(folder)), 2, 0)
    with pytest.raises(ConfigError, match=r"'evil\.bin' as weights"):
        classifier_class(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "value", ["evil/kernel", "kernels-community/flash-attn", "flash_attention_2", "paged|evil/kernel"]
)
def test_attention_that_would_be_fetched_is_refused(value: str, tmp_path: Path) -> None:
    clip = copied("clip", tmp_path)
    vision = json.loads((clip / "config.json").read_text("utf-8"))["vision_config"]
    edited(clip / "config.json", vision_config={**vision, "_attn_implementation": value})
    with pytest.raises(ConfigError, match="would fetch code"):
        ClipEncoder(models(clip=str(clip)))
    base = copied("diffusion", tmp_path)
    edited(base / "text_encoder" / "config.json", attn_implementation=value)
    with pytest.raises(ConfigError, match="would fetch code"):
        load_text_encoder(models(diffusion=str(base)))
    edited(base / "text_encoder" / "config.json", attn_implementation="sdpa")
    load_text_encoder(models(diffusion=str(base)))


@pytest.mark.parametrize(
    "changes",
    [
        {"unet": ["pipeline", "Evil"]},
        {"vae": ["diffusers", "AutoModel"]},
        {"text_encoder": ["transformers", "AutoModel"]},
        {"tokenizer": ["os", "system"]},
        {"scheduler": ["scheduling_evil", "EvilScheduler"]},
        {"scheduler": "EvilScheduler"},
        {"_class_name": ["pipeline", "Evil"]},
    ],
    ids=str,
)
def test_a_pipeline_of_other_classes_is_refused(changes: dict[str, Any], tmp_path: Path, mark: Path) -> None:
    folder = copied("diffusion", tmp_path)
    with_code(folder, mark)
    edited(folder / "model_index.json", **changes)
    with pytest.raises(ConfigError, match=r"models\.diffusion: "):
        load_pipeline(models(diffusion=str(folder)))
    assert not mark.exists()


def test_it_is_told_before_any_work_begins(tmp_path: Path, mark: Path) -> None:
    folder = copied("clip", tmp_path)
    with_pickle(folder, mark, "model")
    with pytest.raises(ConfigError, match="as weights"):
        check_sources(models(clip=str(folder)), ClassifyConfig(backbone="small"))
    code, out, err = call("plan", "--preset", "demo", "--models.clip", folder, "--out", tmp_path / "out")
    assert (code, out) == (2, "") and "only .safetensors files beside it are loaded" in err


def foreign(module: str, source: str) -> list[str]:
    """Classes that look for code of the model's own, and weights that may be a pickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("transformers", "diffusers"):
            names = [alias.name for alias in node.names]
            found += [f"{module}: {name}" for name in names if name.startswith("Auto") and name != "AutoencoderKL"]
            found += [f"{module}: {name}" for name in names if name == "DiffusionPipeline"]
        if isinstance(node, ast.keyword) and node.arg in ("custom_pipeline", "trust_remote_code", "allow_all_kernels"):
            found.append(f"{module}: {node.arg}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
            given = {keyword.arg for keyword in node.keywords}
            weights = getattr(node.func.value, "id", "").endswith(("Model", "Pipeline", "Classification", "KL"))
            found += [f"{module}: from_pretrained"] if weights and "use_safetensors" not in given else []
    return found


def test_the_package_loads_concrete_classes_and_safetensors_alone() -> None:
    # The recipe of the tiny models reads what it wrote itself.
    sources = {name: text for name, text in SOURCES.items() if not name.startswith("fairsynth.demo.pretrain")}
    assert [problem for name, source in sources.items() for problem in foreign(name, source)] == []
    assert foreign("a", "from transformers import AutoModel") and foreign("a", "CLIPModel.from_pretrained(x)")
    assert foreign("a", "P.from_pretrained(x, custom_pipeline=y)")
