"""Each rule of the architecture shown to bite, and to leave alone what only looks wrong."""

from __future__ import annotations

import pytest

from tests.support.architecture import (
    engine_that_knows_the_work,
    imports_from_above,
    layer,
    ray_outside_the_engine,
    science_that_knows_the_pipeline,
    second_doors_to_the_engine,
    stages_of_each_other,
    text_without_encoding,
    unsafe_reading,
)
from tests.support.structure import PACKAGES, SOURCES


@pytest.mark.parametrize(
    "module", ["fairsynth.pipeline", "fairsynth.stages.embed.embedding", "fairsynth.enginex", "jobs.embed"]
)
@pytest.mark.parametrize(
    "source",
    [
        "import ray",
        "import ray.data as rd",
        "import os, ray",
        "from ray import tune",
        "from ray.train.torch import TorchTrainer",
        "def f():\n    import ray",
        "if TYPE_CHECKING:\n    from ray.data import Dataset",
        "import importlib\nray = importlib.import_module('ray')",
    ],
)
def test_ray_outside_the_engine_is_found(module: str, source: str) -> None:
    assert ray_outside_the_engine(module, source)
    assert not ray_outside_the_engine("fairsynth.engine.units", source)


@pytest.mark.parametrize("source", ["import rayon", "from fairsynth.engine import session", "x = 'import ray'"])
def test_what_only_looks_like_ray_is_not_reported(source: str) -> None:
    assert not ray_outside_the_engine("fairsynth.pipeline", source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.errors", "from fairsynth.manifest import Manifest"),
        ("fairsynth.config", "import fairsynth.groups"),
        ("fairsynth.config.classify", "import fairsynth.groups"),
        ("fairsynth.manifest", "from fairsynth.data.readers import folder"),
        ("fairsynth.artifacts", "from fairsynth.stages.ingest.decide import decide_manifest"),
        ("fairsynth.something_new", "from fairsynth.data.storage import Storage"),
        ("fairsynth.data.storage", "from fairsynth.stages.ingest.content import CheckImages"),
        ("fairsynth.models.encoder", "def f():\n    from fairsynth.stages.embed import embedding"),
        ("fairsynth.data.tables.table", "from ...engine.session import Session"),
        ("fairsynth.classify.losses", "from fairsynth.stages.finetune.denoising import Latents"),
        ("fairsynth.exports.formats", "from fairsynth.stages.context import Context"),
        ("fairsynth.engine.units", "from fairsynth.stages.context import Context"),
        ("fairsynth.engine", "from ..pipeline import run"),
        ("fairsynth.stages.ingest.step", "from fairsynth import pipeline"),
        ("fairsynth.stages.ingest.step", "from fairsynth.commands.inspect import findings"),
        ("fairsynth.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.cli", "from jobs import pipeline"),
        ("fairsynth.exports.formats", "from fairsynth import __version__"),
        ("fairsynth.commands.run.command", "from fairsynth.api.running import run"),
        ("fairsynth.api.opened", "import fairsynth as fs"),
    ],
)
def test_an_import_from_above_is_found(module: str, source: str) -> None:
    assert imports_from_above(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jobs.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.pipeline", "from fairsynth.stages.ingest import step"),
        ("fairsynth.manifest", "from fairsynth.groups import Group"),
        ("fairsynth.stages.ingest.decide", "from fairsynth.data.readers import folder"),
        ("fairsynth.data.dataset", "from fairsynth.escaping import printable"),
        ("fairsynth.cli", "from fairsynth.version import __version__"),
        ("fairsynth", "from fairsynth.api.opened import Run"),
    ],
)
def test_an_import_from_below_is_not_reported(module: str, source: str) -> None:
    assert not imports_from_above(module, source)


def test_a_new_folder_needs_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.architecture.PACKAGES", {*PACKAGES, "fairsynth.attic"})
    with pytest.raises(AssertionError, match="attic has no layer"):
        layer("fairsynth.attic.old")


@pytest.mark.parametrize(
    "source",
    [
        "from fairsynth.stages.finetune.lot import Lot",
        "from fairsynth.classify.training import Training",
        "from fairsynth.exports import dataset_card",
        "def f():\n    from fairsynth.data.storage import Storage",
        "from ..commands.bench import grid",
    ],
)
def test_an_engine_that_knows_the_work_is_found(source: str) -> None:
    assert engine_that_knows_the_work("fairsynth.engine.train", source)
    assert not engine_that_knows_the_work("fairsynth.pipeline", source)
    assert not engine_that_knows_the_work("fairsynth.engine.train", "from fairsynth.artifacts import Units")


@pytest.mark.parametrize(
    "source",
    [
        "from fairsynth.engine.units import run_units",
        "from fairsynth.engine import session",
        "if TYPE_CHECKING:\n    from fairsynth.engine.session import Session",
        "def f():\n    from ...engine import train",
    ],
)
def test_a_second_door_to_the_engine_is_found(source: str) -> None:
    assert second_doors_to_the_engine("fairsynth.stages.tune.search", source)
    assert second_doors_to_the_engine("fairsynth.stages.views", source.replace("...engine", "..engine"))
    assert not second_doors_to_the_engine("fairsynth.stages.context", source.replace("...engine", "..engine"))
    assert not second_doors_to_the_engine("fairsynth.pipeline", source)


@pytest.mark.parametrize("source", ["from fairsynth.stages.context import Context", "from ..stage import Made"])
def test_science_that_knows_the_pipeline_is_found(source: str) -> None:
    assert science_that_knows_the_pipeline("fairsynth.stages.tune.search", source)
    assert not science_that_knows_the_pipeline("fairsynth.stages.tune.step", source)
    assert science_that_knows_the_pipeline("fairsynth.stages.tune.output", source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.embed.embedding", "from fairsynth.stages.ingest.decide import decide_manifest"),
        ("fairsynth.stages.embed.step", "from fairsynth.stages.ingest import decide"),
        ("fairsynth.stages.synthesize.rounds", "import fairsynth.stages.cluster.kmeans"),
        ("fairsynth.stages.cluster.kmeans", "from ..embed.embedding import EmbedUnit"),
        ("fairsynth.stages.cluster.kmeans", "def f():\n    from ..embed import step"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.finetune.output import adapters"),
        ("fairsynth.stages.audit.step", "from fairsynth.stages.report import output"),
    ],
)
def test_a_stage_that_imports_another_is_found(module: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "fairsynth.stages.report.output", "")
    assert stages_of_each_other(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.finetune.step", "from .denoising import Latents"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.cluster.kmeans import kmeans"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.embed.output import embedding_files"),
        ("fairsynth.stages.audit.step", "from fairsynth.stages.synthesize.view import show_audit"),
        ("fairsynth.stages.tune.step", "from fairsynth.stages.context import Context"),
        ("fairsynth.stages.views", "from fairsynth.stages.ingest.decide import decide_manifest"),
        ("fairsynth.commands.inspect.findings", "from fairsynth.stages.ingest.content import examine"),
    ],
)
def test_what_a_stage_leaves_may_be_imported(module: str, source: str) -> None:
    assert not stages_of_each_other(module, source)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle as cp",
        "import joblib",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "import torch\nread = torch.load",
        "from torch import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=flag)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', **{'trust_remote_code': True})",
    ],
)
def test_unsafe_reading_is_found(source: str) -> None:
    assert unsafe_reading("fairsynth.models.encoder", source)


@pytest.mark.parametrize(
    "source",
    [
        "'''Never pickle, never torch.load.'''",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import json\njson.load(open('x'))",
        "from safetensors.torch import load_file",
    ],
)
def test_safe_reading_is_not_reported(source: str) -> None:
    assert not unsafe_reading("fairsynth.models.encoder", source)


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "open(path, 'w', newline='')",
        "open(path, mode='a+')",
        "path.open('w')",
        "path.open(mode='r')",
        "path.read_text()",
        "path.write_text(text)",
        "path.write_text(text, newline='')",
        "def f():\n    with os.fdopen(n, 'w') as file:\n        pass",
        "NamedTemporaryFile('w')",
        "tempfile.TemporaryFile(mode='w+')",
        "io.TextIOWrapper(raw)",
    ],
)
def test_text_without_an_encoding_is_found(source: str) -> None:
    assert text_without_encoding("fairsynth.lock", source)


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'rb')",
        "open(path, 'w', encoding='utf-8')",
        "open(path, 'w', -1, 'utf-8')",
        "open(path, **options)",
        "path.open('rb')",
        "path.read_text('utf-8')",
        "path.write_text(text, 'utf-8')",
        "path.write_text(text, encoding='ascii')",
        "storage.open(path)",
        "storage.open('w.csv')",
        "tarfile.open(path, 'w')",
        "os.open(path, os.O_RDONLY)",
        "artifact.open()",
        "read_text(storage, path)",
        "NamedTemporaryFile()",
        "io.TextIOWrapper(raw, 'utf-8')",
    ],
)
def test_bytes_and_named_encodings_are_not_reported(source: str) -> None:
    assert not text_without_encoding("fairsynth.lock", source)
