"""Finished models get into the package, all of them or one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fairsynth.demo.pretrain.install import PARTS, finished, install


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for _, source in PARTS.values():
        (tmp_path / "made" / source).mkdir(parents=True)
        (tmp_path / "made" / source / "config.json").write_text(source, "utf-8")
    return tmp_path / "made"


def _recorded(target: Path) -> dict[str, str]:
    return dict(json.loads((target / "weights.json").read_text("utf-8"))["files"])


def test_all_models_are_installed_with_their_hashes(made: Path, tmp_path: Path) -> None:
    assert finished(made)
    install(made, tmp_path / "package", 1)
    assert _recorded(tmp_path / "package") == {
        f"{name}/config.json": hashlib.sha256(source.encode()).hexdigest() for name, source in PARTS.values()
    }


def test_one_model_alone_is_replaced_and_the_others_are_not_needed(made: Path, tmp_path: Path) -> None:
    install(made, tmp_path / "package", 1)
    before = _recorded(tmp_path / "package")
    (tmp_path / "new" / "flow").mkdir(parents=True)
    (tmp_path / "new" / "flow" / "config.json").write_text("trained anew", "utf-8")
    assert not finished(tmp_path / "new")
    install(tmp_path / "new", tmp_path / "package", 1, only="flow")
    after = _recorded(tmp_path / "package")
    assert {name for name in after if after[name] != before[name]} == {"flow/config.json"}
    assert (tmp_path / "package" / "judge" / "config.json").read_text("utf-8") == "judge"
