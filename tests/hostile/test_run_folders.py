"""Run folders of others: nothing outside is read, written or removed, nothing of others in them is replaced, one line says why."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Artifact, Counts, Identity, Units
from fairsynth.errors import ConfigError, DataError
from fairsynth.exports.published import published_classifier
from fairsynth.groups import Group
from fairsynth.lock import locked
from fairsynth.run_folder.files import write_text
from fairsynth.run_folder.mark import claim
from fairsynth.stages.evaluate.output import read_predictions
from fairsynth.stages.finetune.output import adapter_facts, copy_adapter
from fairsynth.stages.synthesize.codec import codec_of
from fairsynth.stages.views import new_folder, publish
from tests.hostile.run_folders import (
    ADAPTERS,
    CANARY,
    FACTS,
    FINGERPRINT,
    LINKS,
    RECORDS,
    THEIRS,
    UNITS,
    put_home,
    put_run,
)
from tests.support.calling import call
from tests.support.datasets import tree


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return put_home(tmp_path / "home")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(outcome: tuple[int, str, str], *codes: int) -> str:
    """Check that it is one of these exit codes, told in one printable line, without secrets; returns the line."""
    code, out, complaint = outcome
    assert code in codes and re.fullmatch("fairsynth: .+\n", complaint), outcome
    assert complaint[:-1].isprintable() and "internal error" not in complaint and CANARY not in complaint + out
    return complaint


@pytest.mark.parametrize("attack", LINKS)
def test_links_and_pipes_lead_nowhere(attack: str, tmp_path: Path, home: Path) -> None:
    root = put_run(tmp_path / "out")
    LINKS[attack](root, home)
    before = tree(home), sorted(os.listdir(root))
    for words in (("run", "--preset", "demo", "--out", root), ("gc", root, "--delete"), ("gc", root)):
        line = one_line(call(*words), 2)
        assert "remove it" in line and str(root) in line
    one_line(call("export", root, "--format", "kohya"), 2)
    for words in (("status", root), ("logs", root)):
        code, out, complaint = call(*words)
        assert code in (0, 2) and CANARY not in out + complaint and "internal error" not in complaint
    assert (tree(home), sorted(os.listdir(root))) == before


@pytest.mark.parametrize("name", THEIRS)
def test_what_people_have_in_a_folder_stays_as_it_is(name: str, tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("mine")
    for command in ("run", "plan", "bench"):
        assert str(root) in one_line(call(command, "--preset", "demo", "--out", root), 2)
    assert contents(root) == {name: b"mine"}


@pytest.mark.parametrize("name", ["classifier/model.txt", "adapters/a.txt", "report.html", "trials.csv", "search.png"])
def test_nor_is_it_replaced_in_the_folder_of_a_run(name: str, tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    claim(root)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("mine")
    line = one_line(call("run", "--preset", "demo", "--out", root), 2)
    assert name.split("/")[0] in line and "move it elsewhere" in line
    assert (root / name).read_text() == "mine" and set(os.listdir(root)) == {".fairsynth", name.split("/")[0]}


def test_the_file_systems_root_and_home_folders_are_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "people" / "me"))
    for folder in (Path("/"), tmp_path, tmp_path / "people" / "me"):
        assert "with --out" in one_line(call("run", "--preset", "demo", "--out", folder), 2)
    assert not list(tmp_path.iterdir())


def evaluated(tmp_path: Path) -> Artifact:
    artifact = Artifact(tmp_path / "out", Identity("evaluate", 1, {}, {}))
    artifact.open()
    return artifact


def test_links_that_come_while_a_run_is_at_work_are_not_followed(tmp_path: Path, home: Path) -> None:
    before, artifact = tree(home), evaluated(tmp_path)
    (artifact.path / "units").symlink_to(home)
    with pytest.raises(ConfigError, match="is a link"):
        artifact.units().sweep()
    artifact.clear("units")  # the link goes, what it leads to stays
    artifact.path.rmdir()
    artifact.path.symlink_to(home)
    with pytest.raises(ConfigError, match="is a link"):
        artifact.clear("checkpoints", "ray")
    with pytest.raises(ConfigError, match="is a link"):
        artifact.open()
    root = tmp_path / "out"
    (root / ".lock").symlink_to(home / ".bashrc")
    with pytest.raises(ConfigError, match="is a link"), locked(root):
        pytest.fail("a lock that is a link")
    assert tree(home) == before


def test_views_are_put_in_the_place_of_links_and_of_nothing_behind_them(tmp_path: Path, home: Path) -> None:
    artifact, before = evaluated(tmp_path), tree(home)
    target = tmp_path / "out" / "adapters"
    target.symlink_to(home)
    (tmp_path / "out" / f".adapters.{'0' * 32}").symlink_to(home)
    with pytest.raises(ConfigError):
        publish(new_folder(target), target, artifact)
    target.unlink()
    publish(new_folder(target), target, artifact)
    (target / "README.md").symlink_to(home / ".bashrc")
    write_text(target / "README.md", "a card")
    assert (target / "README.md").read_text() == "a card" and tree(home) == before
    assert not (tmp_path / "out" / f".adapters.{'0' * 32}").is_symlink()


def test_of_a_unit_its_own_files_alone_are_copied(tmp_path: Path, home: Path) -> None:
    unit = tmp_path / "unit"
    unit.mkdir()
    (unit / "adapter.json").write_text("{}")
    (unit / "evil.desktop").write_text("x")
    (unit / "notes.txt").symlink_to(home / ".ssh" / "id_rsa")
    copy_adapter(unit, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {"adapter.json": b"{}"}
    (unit / "config.json").symlink_to(home / ".ssh" / "id_rsa")
    with pytest.raises(ConfigError, match=r"config\.json is a link"):
        copy_adapter(unit, tmp_path / "other")
    assert CANARY.encode() not in contents(tmp_path / "other").values()


@pytest.mark.parametrize("kind", RECORDS)
def test_damaged_records_are_told_in_a_line_that_names_them(kind: str, tmp_path: Path) -> None:
    artifact = evaluated(tmp_path)
    artifact.fingerprint, old = FINGERPRINT, artifact.path
    artifact._path = old.rename(old.with_name(f"evaluate-{FINGERPRINT}"))
    (artifact.path / "artifact.json").write_bytes(RECORDS[kind].encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        _ = artifact.record
    text = str(caught.value)
    assert str(artifact.path / "artifact.json") in text and "remove this file" in text
    assert text.isprintable() and len(text) < 1500


@pytest.mark.parametrize("change", ADAPTERS)
def test_an_adapters_record_becomes_no_path(change: str, tmp_path: Path) -> None:
    artifact = evaluated(tmp_path)
    unit = artifact.units().path / "low--flower--0"
    unit.mkdir(parents=True)
    (unit / "adapter.json").write_text(json.dumps(FACTS))
    assert adapter_facts(artifact) == [FACTS]
    (unit / "adapter.json").write_text(json.dumps(FACTS | ADAPTERS[change]))
    with pytest.raises(DataError, match=re.escape(str(unit / "adapter.json"))):
        adapter_facts(artifact)


@pytest.mark.parametrize("name", UNITS)
def test_text_that_is_no_units_name_leads_nowhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no name of a unit"):
        _ = Units(tmp_path)[name]


def test_predictions_of_other_groups_and_methods_are_refused(tmp_path: Path) -> None:
    artifact, groups = evaluated(tmp_path), [Group("low", "flower")]
    path = artifact.path / "predictions.parquet"
    row = {"method": "erm", "label": "low", "attribute": "flower"}
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert read_predictions(artifact, groups, ["erm"]).to_pylist() == [row]
    for change in ({"label": "\x1b[2Jx"}, {"attribute": None}, {"method": "x"}):
        pq.write_table(pa.Table.from_pylist([row | change]), path)
        with pytest.raises(DataError, match=re.escape(str(path))) as caught:
            read_predictions(artifact, groups, ["erm"])
        assert str(caught.value).isprintable()
    for content in (b"", b"PAR1" + b"\xff" * 64 + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_predictions(artifact, groups, ["erm"])


@pytest.mark.parametrize("codec", [{"format": "BMP"}, {}, {"format": "PNG", "quality": 3}, None, [], {"format": []}])
def test_a_codec_of_another_version_is_refused(codec: object, tmp_path: Path) -> None:
    artifact = evaluated(tmp_path)
    artifact.finish(Counts(), 1.0, codec=codec)
    with pytest.raises(DataError, match=r"artifact\.json is damaged, or another version wrote it \(codec"):
        codec_of(artifact)


HEADERS = {
    "a list": b"[]", "no JSON": b"{", "deep": b"[" * 100_000, "metadata of numbers": b'{"__metadata__": {"a": 1}}',
    "no offsets": b'{"x": {"dtype": "F32"}}', "longer than the file": b'{"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}',
    "an entry that is a list": b'{"__metadata__": {"lora_adapter_metadata": "[]"}}',
}  # fmt: skip


@pytest.mark.parametrize("kind", [*HEADERS, "a length of 2^62", "empty"])
def test_weights_with_a_broken_header_are_named(kind: str, tmp_path: Path) -> None:
    header = HEADERS.get(kind, b"")
    content = struct.pack("<Q", 2**62 if "2^62" in kind else len(header)) + header if kind != "empty" else b""
    adapter, classifier = (tmp_path / "run" / name for name in ("adapters/low--flower/0", "classifier"))
    for folder, name in ((adapter, "pytorch_lora_weights.safetensors"), (classifier, "model.safetensors")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
    line = one_line(call("export", tmp_path / "run", "--format", "kohya"), 3)
    assert str(adapter / "pytorch_lora_weights.safetensors") in line and "remove " in line
    (classifier / "config.json").write_text("{}")
    if kind != "an entry that is a list":  # which is no adapter's header, and may be a classifier's
        with pytest.raises(DataError, match=re.escape(str(classifier / "model.safetensors"))):
            published_classifier(tmp_path / "run")
