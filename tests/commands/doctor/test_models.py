"""doctor: models that are whole, broken, missing, gated or not to be reached."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from fairsynth.commands.doctor.check import Check
from fairsynth.commands.doctor.models import model_checks
from fairsynth.config.load import load_config
from fairsynth.models.families.family import Part
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.families.table import FAMILIES
from fairsynth.models.sources import demo_folder
from tests.support.models.pipelines import described

GIB = 2**30
FILES = [
    *((f"{part}/diffusion_pytorch_model.safetensors", 3 * GIB) for part in ("unet", "vae")),
    *((f"text_encoder/model-0000{i}-of-00002.safetensors", GIB) for i in (1, 2)),
    # Nobody fetches the same weights in another spelling, nor what is no weights.
    *(
        (f"unet/diffusion_pytorch_model.{name}", 50 * GIB)
        for name in ("fp16.safetensors", "bin", "non_ema.safetensors")
    ),
    *((name, 50 * GIB) for name in ("v1-5-pruned.safetensors", "README.md")),
]


def checks(**models: str) -> dict[str, Check]:
    config = load_config(None, "demo", {f"models.{key}": value for key, value in models.items()})
    return {check.name: check for check in model_checks(config)}


def test_the_packages_models_are_whole() -> None:
    assert [(check.name, check.status) for check in checks().values()] == [
        ("models.diffusion", "ok"),
        ("models.clip", "ok"),
    ]


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


# Fault case 39: a model has weights that could run code alone.
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda root: half(root / "unet" / "diffusion_pytorch_model.safetensors"), "unet: diffusion_pytorch_model.safetensors is broken"),
        (lambda root: half(root / "vae" / "config.json"), "vae: config.json is not valid JSON"),
        (lambda root: shutil.rmtree(root / "text_encoder"), "it has no folder text_encoder"),
        (lambda root: shutil.rmtree(root / "scheduler"), "it has no folder scheduler"),
        (lambda root: (root / "model_index.json").unlink(), "it has no model_index.json"),
        (
            lambda root: (root / "unet" / "diffusion_pytorch_model.safetensors").rename(root / "unet" / "diffusion_pytorch_model.bin"),
            "but diffusion_pytorch_model.bin: only safetensors are loaded",
        ),
    ],
)  # fmt: skip
def test_a_broken_pipeline_is_found(tmp_path: Path, harm: Callable[[Path], object], told: str) -> None:
    root = tmp_path / "model"
    shutil.copytree(demo_folder("diffusion"), root)
    assert checks(diffusion=str(root))["models.diffusion"].status == "ok"
    harm(root)
    check = checks(diffusion=str(root))["models.diffusion"]
    assert check.status == "failed" and told in check.found and "get the model again" in check.do


def test_a_model_that_a_run_would_refuse_is_told(tmp_path: Path) -> None:
    video, root = described(tmp_path / "video", "StableVideoDiffusionPipeline"), tmp_path / "model"
    check = checks(diffusion=str(video))["models.diffusion"]
    assert check.status == "failed" and "is a StableVideoDiffusionPipeline, which is not supported" in check.found
    assert check.do.startswith("give ") and "StableDiffusionPipeline" in check.do
    shutil.copytree(demo_folder("diffusion"), root)
    (root / "README.md").write_text("---\nlicense: other\nlicense_name: sai-nc-community\n---\n", "utf-8")
    check = checks(diffusion=str(root))["models.diffusion"]
    assert check.status == "failed" and "--models.accept_licence stability-non-commercial" in check.found
    assert checks(diffusion=str(root), accept_licence="stability-non-commercial")["models.diffusion"].status == "ok"


def test_a_part_that_may_be_missing_may_be_broken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Helped(StableDiffusion):
        parts: ClassVar[Mapping[str, Part]] = {
            **StableDiffusion.parts,
            "helper": Part("transformers", ("T5EncoderModel",), needed=False),
        }

    monkeypatch.setitem(FAMILIES, "StableDiffusionPipeline", Helped())  # type: ignore[arg-type]
    root = tmp_path / "model"
    shutil.copytree(demo_folder("diffusion"), root)
    assert checks(diffusion=str(root))["models.diffusion"].status == "ok"
    index = json.loads((root / "model_index.json").read_text("utf-8"))
    (root / "model_index.json").write_text(json.dumps(index | {"helper": ["transformers", "T5EncoderModel"]}), "utf-8")
    assert "it has no folder helper" in checks(diffusion=str(root))["models.diffusion"].found


def test_a_broken_clip_and_missing_shards_are_found(tmp_path: Path) -> None:
    root = tmp_path / "clip"
    shutil.copytree(demo_folder("clip"), root)
    weights = root / "model.safetensors"
    index = root / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    shutil.copy(weights, root / "model-1.safetensors")
    weights.unlink()
    assert "it has no model-2.safetensors" in checks(clip=str(root))["models.clip"].found
    shutil.copy(root / "model-1.safetensors", root / "model-2.safetensors")
    assert checks(clip=str(root))["models.clip"].status == "ok"
    for name in ("tokenizer.json", "vocab.json"):
        (root / name).unlink(missing_ok=True)
    assert "tokenizer.json" in checks(clip=str(root))["models.clip"].found


# Fault case 38: a model cannot be had.
def test_what_is_not_there_is_told_without_asking_anybody(tmp_path: Path) -> None:
    found = checks(diffusion=str(tmp_path / "no"), clip="dmeo")
    assert "does not exist" in found["models.diffusion"].found and "did you mean 'demo'?" in found["models.clip"].found
    check = checks(diffusion="owner/name", diffusion_revision="abc")[
        "models.diffusion"
    ]  # HF_HUB_OFFLINE is set in tests
    assert (
        check.status == "failed"
        and "HF_HUB_OFFLINE" in check.found
        and "hf download owner/name --revision abc" in check.do
    )


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does of models that are open, gated, or not there."""

    def do_GET(self) -> None:
        gated, there = "gated" in self.path, "none" not in self.path
        code = 404 if not there else 403 if gated and self.path.endswith("/auth-check") else 200
        self.send_response(code)
        if code != 200:
            self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.end_headers()
        siblings = [{"rfilename": name, "size": size} for name, size in FILES]
        self.wfile.write(json.dumps({"id": "owner/open", "siblings": siblings}).encode())

    def log_message(self, *args: object) -> None:
        """Nothing."""


def test_the_hub_is_asked_and_nothing_is_fetched(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    code = """
import json
from fairsynth.commands.doctor.models import Source, _on_hub
print(json.dumps([_on_hub(Source("models.clip", f"owner/{name}", None), True)[0] for name in ("open", "gated", "none")]))
"""
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    server.shutdown()
    assert done.returncode == 0, done.stderr
    may, gated, none = (Check(*entry) for entry in json.loads(done.stdout))
    assert may.status == "ok" and "may be read; the run fetches it (8.0 GiB)" in may.found
    assert gated.status == "failed" and "gated" in gated.found and "hf auth login" in gated.do
    assert none.status == "failed" and "no model owner/none" in none.found
    assert not list(tmp_path.rglob("*.safetensors"))
    # Nobody answers there any more.
    server.server_close()
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert "the hub cannot be asked" in Check(*json.loads(done.stdout)[0]).found
