"""Fault cases 22 to 25, 27 and 28 of CASES.md: names that lead elsewhere, odd names, archives, files that change."""

from __future__ import annotations

import io
import os
import tarfile
import time
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fairsynth.commands.inspect.text import lines
from fairsynth.config import ImageRules
from fairsynth.data.dataset import recognise
from fairsynth.data.location import ImageReader
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.errors import DataError
from fairsynth.stages.embed.embedding import DecodeUnit, plan_rows
from tests.support.datasets import crops, encoded, picture, tiny_folder_dataset, tree, unchanged, write_rows
from tests.support.ingesting import LENIENT, decided, ingested, inspected, metadata_of

HEADER = ("file_name", "split", "label", "attribute")
SIZES = {"train": (10, 6, 6, 10), "val": (4,) * 4, "test": (4,) * 4}
ESCAPES = ["../x.png", "a/../../x.png", "a/../x.png", "..", "a/..", "/etc/passwd", "//etc/passwd", "/", "file:///etc/passwd",
           "file://x", "s3://bucket/k.png", "http://h/x.png", "https://h/../x", "gs://b/x", "hf://d/x", "", ".",
           "./../x.png", "x/./../../y.png", "a//../../b", "C:\\x.png", "\\\\host\\share\\x.png"]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_case_22_a_name_that_leads_out_of_the_dataset_refuses_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.png").write_bytes(encoded(picture(0, 0, 0)))
    root = tiny_folder_dataset(tmp_path / "data")
    (root / "metadata.csv").open("a", newline="").write(f"{name},train,cat,indoor\n")
    with pytest.raises(DataError, match=r"^file name .* must be a relative path inside"):
        metadata_of(root)


def test_case_23_a_link_out_of_the_dataset_is_followed_only_if_that_is_asked_for(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded(crops()[0]))
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    (root / "file.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "inner.png").symlink_to(root / "train" / "0001.png")
    rows = [(name, "train", "cat", "indoor") for name in ("file.png", "folder/secret.png", "inner.png")]
    with (root / "metadata.csv").open("a") as table:
        table.writelines(",".join(row) + "\n" for row in rows)
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert found.reasons == dict.fromkeys(("file.png", "folder/secret.png"), "outside_root")
    assert "inner.png" in found.manifest.column("path")
    followed = ingested(root, tmp_path / "out", follow_links=True)
    assert followed.reasons == {} and {"file.png", "folder/secret.png"} <= {*followed.manifest.column("path")}


def by_class(root: Path) -> Path:
    """Write the layout of folders by class."""
    number = 0
    for split, sizes in SIZES.items():
        for n, (label, attribute) in zip(sizes, [(y, a) for y in ("cat", "dog") for a in ("in", "out")], strict=True):
            folder = root / split / label / attribute
            folder.mkdir(parents=True)
            for _ in range(n):
                (folder / f"{number:03d}.png").write_bytes(encoded(crops()[number].resize((24, 24))))
                number += 1
    return root


def test_case_24_loops_of_links_end_and_each_file_is_there_once(tmp_path: Path) -> None:
    root = by_class(tmp_path / "data")
    plain = decided(root)
    (root / "train" / "cat" / "in" / "up").symlink_to(root)
    (root / "train" / "dog" / "again").symlink_to(root / "train" / "dog")
    (root / "test" / "cat" / "out" / "000.png").symlink_to("000.png")
    (root / "val" / "cat" / "a").symlink_to("b")
    (root / "val" / "cat" / "b").symlink_to("a")
    began = time.monotonic()
    files = Storage(str(root)).files()
    assert time.monotonic() - began < 1
    assert len(files) == 67  # with the three that lead nowhere, of which one is called an image
    found = decided(root, max_bad_fraction=1, max_bad_group_fraction=1)
    assert found.manifest.rows() == plain.manifest.rows()
    assert [(a.path, a.reason) for a in found.quarantined] == [("test/cat/out/000.png", "unreadable")]


def test_case_24_a_row_that_names_a_loop_is_quarantined(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    (root / "train" / "0000.png").unlink()
    (root / "train" / "0000.png").symlink_to("0000.png")
    assert ingested(root, tmp_path / "out", **LENIENT).reasons == {"train/0000.png": "unreadable"}


@pytest.mark.parametrize("link", ["aa", "zz"])
def test_case_24_a_folder_that_links_lead_to_as_well_goes_by_its_own_name(tmp_path: Path, link: str) -> None:
    for folder in (tmp_path / "mm" / "x", tmp_path / "nn"):
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"1")
    (tmp_path / link).symlink_to(tmp_path / "mm")
    (tmp_path / "nn" / link).symlink_to(tmp_path / "mm" / "x")
    assert [file.path for file in Storage(str(tmp_path)).files()] == ["mm/x/1.png", "nn/1.png"]


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
ODD = [b"caf\xe9", b"\xff\xfe\x80", "🙂👍🏽".encode(), NFC.encode(), NFD.encode(), b"Case", b"case", b"new\nline", b"-rf", b"--help",
       b"a b", b"tab\there", b"quote\"and'", b"\x1b[2Jsteer", "\u202egnp".encode(), b"%s{label}", b"n" * 251, b"=cmd()"]  # fmt: skip


def test_case_25_odd_names_are_processed_and_kept_apart(tmp_path: Path) -> None:
    root = by_class(tmp_path / "data")
    folder = os.fsencode(root / "train" / "cat" / "in")
    for number, name in enumerate(ODD):
        with open(os.path.join(folder, name + b".png"), "wb") as handle:
            handle.write(encoded(crops()[100 + number]))
    found = ingested(root, tmp_path / "out")
    assert found.record["counts"] == {"input": 64 + len(ODD), "used": 64 + len(ODD), "quarantined": 0, "excluded": 0}
    rows = {row["sha256"]: row for row in found.manifest.rows()}
    assert len({row["image_id"] for row in rows.values()}) == 64 + len(ODD)
    reader = ImageReader(Storage(str(root)))
    for row in rows.values():
        row["path"].encode("utf-8")  # valid Unicode: fits into Parquet, JSON and a page
        assert reader.read(row["path"], row["location"]).sha256 == row["sha256"]
    located = sorted(row["path"] for row in rows.values() if row["location"])
    assert [path.rpartition("/")[2].partition("~")[0] for path in located] == [r"\xff\xfe\x80.png", r"caf\xe9.png"]
    text = list(lines(inspected(root)))
    assert all(line.isprintable() for line in text)


def test_case_25_odd_names_in_metadata_are_found_or_noted(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    names = [name.decode() for name in ODD[2:]]
    for number, name in enumerate(names):
        (root / f"{name}.png").write_bytes(encoded(crops()[100 + number]))
    rows = [tuple(line.split(",")) for line in (root / "metadata.csv").read_text().splitlines()[1:]]
    given = [*rows, *((f"{name}.png", "train", "cat", "indoor") for name in names)]
    write_rows(root / "metadata.csv", HEADER, given)
    assert decided(root).counts.used == 64 + len(names)
    # A name in another Unicode form, or in other case, is another file; the reason says that one is there.
    (root / f"{NFC}.png").unlink()
    (root / "case.png").unlink()
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert {row["path"]: (row["reason"], row["detail"]) for row in found.quarantine} == {
        f"{NFC}.png": ("missing_file", "a file with this name in another Unicode form (NFC, NFD) is there"),
        "case.png": ("missing_file", "a file with this name in other case is there"),
    }


def test_case_25_a_name_of_256_bytes_is_quarantined(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    (root / "metadata.csv").open("a").write(f"{'n' * 252}.png,train,cat,indoor\n")
    assert ingested(root, tmp_path / "out", **LENIENT).reasons == {f"{'n' * 252}.png": "unreadable"}


def test_case_25_orphans_with_odd_names_are_listed_and_what_is_named_is_none(tmp_path: Path) -> None:
    root = by_class(tmp_path / "data")
    deep = os.path.join(os.fsencode(root), b"train/cat/in/deep")
    os.mkdir(deep)
    with open(os.path.join(deep, b"\xe9.png"), "wb") as handle:
        handle.write(encoded(crops()[100]))
    found = inspected(root, **LENIENT)
    assert found["quarantine"]["by_reason"] == {"unexpected_depth": 1} and found["orphans"] == []
    root = tiny_folder_dataset(tmp_path / "table", SIZES)
    with open(os.path.join(os.fsencode(root), b"\xe9.PNG"), "wb") as handle:
        handle.write(encoded(crops()[100]))
    (orphan,) = inspected(root)["orphans"]
    assert orphan.startswith(r"\xe9.PNG~")


def archive(path: Path) -> None:
    """An archive, of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("../evil.png", "x")
    else:
        with tarfile.open(path, f"w:{path.suffix[1:].replace('tgz', 'gz')}" if path.suffix != ".tar" else "w"):
            pass


@pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz", "d.tgz", "D.TAR.XZ"])
def test_case_27_an_archive_in_place_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive(tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    with unchanged(tmp_path), pytest.raises(DataError, match="is an archive; unpack it and give the folder"):
        Storage(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_case_27_an_archive_inside_a_dataset_is_never_opened(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    archive(root / "inner.zip")
    with (root / "metadata.csv").open("a") as table:
        table.write("inner.zip,train,cat,indoor\n")
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert found.reasons == {"inner.zip": "format"} and not (tmp_path / "evil.png").exists()


def shard(path: Path) -> None:
    """A shard of 64 samples, and members that would do harm if they were unpacked."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes, **facts: Any) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))

        members = [(s, y, a) for s, sizes in SIZES.items() for (y, a), n in zip(
            [(y, a) for y in ("cat", "dog") for a in ("in", "out")], sizes, strict=True) for _ in range(n)]  # fmt: skip
        for number, (split, label, attribute) in enumerate(members):
            add(f"{number:03d}.png", encoded(crops()[number]))
            fields = f'{{"label": "{label}", "attribute": "{attribute}", "split": "{split}"}}'
            add(f"{number:03d}.json", fields.encode())
        evil = encoded(crops()[99])
        add("../evil1.png", evil)
        add("/tmp/evil2.png", evil)
        add("evil3.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("evil4.png", b"", type=tarfile.LNKTYPE, linkname="../secret")


def test_case_27_members_of_a_shard_that_lead_elsewhere_are_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    shard(root / "all-000.tar")
    assert recognise(Storage(str(root))) == "webdataset"
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert found.record["reasons"]["quarantined"] == {"unsafe_member": 4}
    assert found.record["counts"] == {"input": 68, "used": 64, "quarantined": 4, "excluded": 0}
    assert not list(tmp_path.rglob("evil*"))


def test_case_28_a_file_that_changes_after_ingest_stops_the_unit(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    manifest = ingested(root, tmp_path / "out").manifest
    (name,) = write_plan(tmp_path / "plan.parquet", plan_rows(manifest.table), 100, "images")
    decode = DecodeUnit(Storage(str(root)), PlanRows(tmp_path / "plan.parquet"), 32, ImageRules())
    with unchanged(root):
        assert len(decode(name)["good"]) == 64
    before = tree(root)
    changed = root / "val" / "0040.png"
    times, content = changed.stat(), encoded(picture(1, 1, 999))
    changed.write_bytes(content)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time does not give it away
    with pytest.raises(DataError, match=r"^input_changed: 'val/0040\.png' is not what it was when the run began"):
        decode(name)
    after = tree(root)
    assert {path for path in before if before[path] != after[path]} == {os.fsencode(changed)}
