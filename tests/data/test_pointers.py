"""Files that were not fetched: pointers, dangling links and web pages are told as what they are, with what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import BadImage
from fairsynth.data.pointers import is_html, pointer_hint
from fairsynth.data.storage import Storage
from fairsynth.data.tables.text import text_lines
from fairsynth.errors import DataError
from tests.support.data.dataset_files import SPLITS, image, load, put, write_table
from tests.support.data.pictures import refused
from tests.support.ingesting import inspected
from tests.support.store.object_store import object_store

# Fault case 3: files that stand in for others

SHA = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA}\nsize 48213\n".encode()
ANNEX = f"/annex/objects/SHA256E-s48213--{SHA}.jpg\n".encode()
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
LFS_HINT, ANNEX_HINT = "a Git LFS pointer: run git lfs pull", "a git-annex pointer: run git annex get"
POINTERS = {
    LFS: LFS_HINT,
    LFS.replace(b"\noid", b"\next-0-crypt sha256:0123\noid"): LFS_HINT,
    LFS.replace(b"git-lfs", b"hawser").strip(): LFS_HINT,
    ANNEX: ANNEX_HINT,
    b"../../.git/annex/objects/zm/8w/" + ANNEX[15:]: ANNEX_HINT,
}


@pytest.mark.parametrize("content", POINTERS, ids=range(len(POINTERS)))
def test_pointers_say_what_to_run(content: bytes) -> None:
    assert pointer_hint(content) == POINTERS[content]
    assert refused(content).args == ("pointer", POINTERS[content])


@pytest.mark.parametrize(
    "content",
    [b"", image(0), b"file_name,label\nversion https,x\n", b"version 2\n", LFS[:60], LFS + b"more", LFS.replace(b"\nsize", b"\n" + b"x" * 999 + b"\nsize"),
     b"see /annex/objects/x", b"/annex/objects/two words"],
    ids=range(9),
)  # fmt: skip
def test_other_files_are_no_pointers(content: bytes) -> None:
    assert pointer_hint(content) == ""


def test_a_page_or_a_text_in_place_of_an_image_is_told() -> None:
    assert is_html(PAGE) and is_html(b"\xef\xbb\xbf\n <HTML>") and not is_html(b"<svg/>") and not is_html(b"a<html>")
    assert refused(PAGE).args == ("format", "HTML text, not an image; allowed are JPEG, PNG, WEBP, BMP, TIFF, GIF")
    assert refused(b"\xef\xbb\xbf404:\r\n\tNot Found " + b"x" * 99).args == (
        "unidentified", "text, not an image: '404: Not Found " + "x" * 45 + "'"
    )  # fmt: skip
    assert refused("é".encode() * 200).detail == f"text, not an image: '{'é' * 60}'"
    assert (
        refused(b"text\x1b[2J").detail == refused(b"\xff\xfetext").detail == "none of JPEG, PNG, WEBP, BMP, TIFF, GIF"
    )


def test_a_clone_without_its_images_is_told_with_what_to_run(tmp_path: Path) -> None:
    rows = []
    for number in range(12):
        rows.append((f"images/{number}.jpg", SPLITS[number % 3], "ab"[number // 3 % 2], "xy"[number // 6]))
        put(tmp_path / rows[-1][0], LFS.replace(b"48213", b"%d" % number))
    write_table(tmp_path / "metadata.csv", ("file_name", "split", "label", "attribute"), rows)
    found = inspected(tmp_path)
    assert found["quarantine"]["by_reason"] == {"pointer": 12}
    assert {file["detail"] for file in found["quarantine"]["files"]} == {LFS_HINT}
    assert (
        f"(pointer 12), more than data.max_bad_fraction 0.01 allows; first: 'images/0.jpg', {LFS_HINT}; "
        in found["problems"][0]
    )


@pytest.mark.parametrize("pointer", [LFS, ANNEX])
@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("metadata.csv", "folder"), ("metadata.jsonl", "folder"), ("metadata.parquet", "folder"), ("metadata.csv", "waterbirds"),
        ("list_attr_celeba.txt", "celeba"), ("train-0000.tar", "webdataset"), ("data/train-00000-of-00001.parquet", "parquet"),
    ],
)  # fmt: skip
def test_so_are_tables_and_shards(name: str, format: str, pointer: bytes, tmp_path: Path) -> None:
    put(tmp_path / name, pointer)
    with pytest.raises(DataError) as caught:
        load(tmp_path, format=format, label_column="Smiling", attribute_column="Male")
    assert str(caught.value) == f"{tmp_path / name} is {POINTERS[pointer]}"


def test_a_page_in_place_of_a_table_or_a_shard_is_told(tmp_path: Path) -> None:
    for name, format, kind in (("metadata.csv", "folder", "table"), ("train.tar", "webdataset", "tar")):
        put(tmp_path / name, PAGE * 20)
        with pytest.raises(DataError, match=f"{name} is HTML text, not a {kind}; get the file again"):
            load(tmp_path, format=format)


def test_a_bucket_may_hold_pointers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    put(tmp_path / "data" / "metadata.csv", LFS)
    put(tmp_path / "data" / "short.csv", "a,b\n1,2\n")
    with object_store(tmp_path) as query:
        storage = Storage(f"s3://bucket/data?{query}")
        with pytest.raises(DataError, match=f"s3://bucket/data/metadata.csv is {LFS_HINT}"):
            list(text_lines(storage, "metadata.csv"))
        assert [*text_lines(storage, "short.csv")] == ["a,b\n", "1,2\n"]


def problem(root: Path, path: str) -> tuple[str, str]:
    """Why an image cannot be read."""
    with pytest.raises(BadImage) as caught:
        ImageReader(Storage(str(root))).read(path)
    return caught.value.reason, caught.value.detail


def test_an_annex_link_without_its_content_is_told(tmp_path: Path) -> None:
    root = tmp_path / "repository" / "data"
    put(root / "here.jpg", image(0))
    for name, target in (("a.jpg", ".git"), ("b.jpg", "../.git"), ("c.jpg", "../../other")):
        os.symlink(f"{target}/annex/objects/zm/8w/KEY/KEY", root / name)
    assert problem(root, "a.jpg") == ("missing_file", ANNEX_HINT)
    assert problem(root, "b.jpg") == problem(root, "c.jpg") == ("outside_root", ANNEX_HINT)
    put(tmp_path / "repository" / ".git" / "annex" / "objects" / "zm" / "8w" / "KEY" / "KEY", image(1))
    assert problem(root, "b.jpg")[0] == "outside_root" and "--data.follow_links true" in problem(root, "b.jpg")[1]
    assert ImageReader(Storage(str(root), follow_links=True)).read("b.jpg").content == image(1)


def test_what_dvc_has_is_told(tmp_path: Path) -> None:
    root = tmp_path / "data"
    put(root / "one.jpg.dvc", "outs:\n- md5: 0\n  path: one.jpg\n")
    put(root / "images.dvc", "outs:\n- md5: 0.dir\n  path: images\n")
    put(tmp_path / "data.dvc", "outs: []\n")
    assert problem(root, "one.jpg") == ("missing_file", "DVC has it (one.jpg.dvc): run dvc pull")
    assert problem(root, "images/a/two.jpg") == ("missing_file", "DVC has it (images.dvc): run dvc pull")
    assert problem(root, "three.jpg") == ("missing_file", "")
