"""Ingest: every image is used, set aside with a reason, or the dataset is refused; it is never changed."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pytest

from fairsynth.artifacts import Counts
from fairsynth.config import DataConfig
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import image_id
from fairsynth.stages.ingest import Ingested, ingest
from tests.worlds import encoded, picture, tiny_folder_dataset, tiny_waterbirds

BIG = {"train": (20, 5, 5, 20), "val": (5,) * 4, "test": (5,) * 4}
N = 90


def run(root: Path, allowed: float = 0.1, **options: str) -> Ingested:
    """Ingest a dataset of the given folder."""
    return ingest(DataConfig(root=str(root), max_bad_fraction=allowed, **options), root)


def metadata(root: Path) -> list[dict[str, str]]:
    """The dataset's own table."""
    with open(root / "metadata.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_a_clean_dataset_is_used_whole(tmp_path: Path) -> None:
    result, table = run(tiny_folder_dataset(tmp_path, BIG)), metadata(tmp_path)
    assert result.counts == Counts(N, N, 0, 0) and result.quarantine.num_rows == 0
    rows = {row["path"]: row for row in result.manifest.rows()}
    assert len(rows) == N
    for given in table:
        row = rows[given["file_name"]]
        assert [row[key] for key in ("split", "label", "attribute", "source")] == [
            *(given[key] for key in ("split", "label", "attribute")),
            "real",
        ]
        assert row["sha256"] == hashlib.sha256((tmp_path / row["path"]).read_bytes()).hexdigest()
        assert row["image_id"] == image_id(row["path"])
    assert result.manifest.split("train").counts()[Group("cat", "indoor")] == 20


def test_waterbirds_are_read_by_their_layout(tmp_path: Path) -> None:
    result = run(tiny_waterbirds(tmp_path, BIG), format="waterbirds")
    assert result.counts == Counts(N, N, 0, 0)
    assert result.manifest.split("train").counts() == {
        Group("0", "0"): 20,
        Group("0", "1"): 5,
        Group("1", "0"): 5,
        Group("1", "1"): 20,
    }


def test_the_manifest_does_not_depend_on_the_order_of_rows_or_threads(tmp_path: Path) -> None:
    first = run(tiny_folder_dataset(tmp_path, BIG)).manifest
    lines = (tmp_path / "metadata.csv").read_text().splitlines()
    (tmp_path / "metadata.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    again = ingest(DataConfig(root=str(tmp_path)), tmp_path, threads=1).manifest
    assert again.rows() == first.rows() and again.digest() == first.digest()
    assert first.column("image_id") == sorted(first.column("image_id"))


def spoil(root: Path) -> dict[str, str]:
    """Make six images of the majority group bad, each in its own way; their reasons."""
    whole = encoded(picture(0, 0, 0))
    outside = root.parent / "outside.png"
    outside.write_bytes(whole)
    bad = {
        f"train/{i:04d}.png": reason
        for i, reason in enumerate(["empty", "truncated", "unidentified", "missing_file", "outside_root", "too_large"])
    }
    paths = [root / name for name in bad]
    from PIL import Image

    for path, content in zip(
        paths,
        [b"", whole[: len(whole) // 2], b"text" * 20, None, None, encoded(Image.new("1", (8000, 8000)))],
        strict=True,
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    paths[4].symlink_to(outside)
    return bad


def test_bad_images_are_set_aside_with_their_reason_and_the_others_kept(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    reasons = spoil(root)
    result = run(root)
    assert {row["path"]: row["reason"] for row in result.quarantine.to_pylist()} == reasons
    assert result.counts == Counts(N, N - 6, 6, 0)
    kept, given = set(result.manifest.column("path")), {row["file_name"] for row in metadata(root)}
    assert kept | reasons.keys() == given and not kept & reasons.keys()
    assert set(result.quarantine.column("stage").to_pylist()) == {"ingest"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_dataset_is_not_followed_and_one_inside_is(tmp_path: Path, folder: bool) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "0000.png").write_bytes(encoded(picture(0, 0, 99)))
    name = "link/0000.png" if folder else "link.png"
    (root / ("link" if folder else name)).symlink_to(tmp_path / "else" if folder else tmp_path / "else" / "0000.png")
    (root / "inner.png").symlink_to(root / "train" / "0001.png")
    with open(root / "metadata.csv", "a") as handle:
        handle.write(f"{name},train,cat,indoor\ninner.png,train,cat,indoor\n")
    result = run(root)
    assert [(row["path"], row["reason"]) for row in result.quarantine.to_pylist()] == [(name, "outside_root")]
    assert "inner.png" in result.manifest.column("path")


def test_a_link_to_itself_is_set_aside(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path, BIG)
    (root / "train" / "0000.png").unlink()
    os.symlink("0000.png", root / "train" / "0000.png")
    assert run(root).counts == Counts(N, N - 1, 1, 0)


def test_equal_rows_count_once(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path, BIG)
    with open(root / "metadata.csv", "a") as handle:
        handle.write("./train/0000.png,train,cat,indoor\ntrain/0000.png,train,cat,indoor\n")
    result = run(root)
    assert result.counts == Counts(N + 2, N, 0, 2) and len(set(result.manifest.column("image_id"))) == N


@pytest.mark.parametrize(("allowed", "refused"), [(9 / N, False), (8.9 / N, True), (0.0, True), (1.0, False)])
def test_more_bad_images_than_allowed_are_refused(tmp_path: Path, allowed: float, refused: bool) -> None:
    root = tiny_folder_dataset(tmp_path, BIG, changed={i: b"" for i in range(9)})
    if not refused:
        assert run(root, allowed).counts == Counts(N, N - 9, 9, 0)
        return
    with pytest.raises(
        DataError,
        match=rf"9 of {N} images cannot be used \(empty 9\), more than data\.max_bad_fraction .*'train/0000\.png'",
    ):
        run(root, allowed)


@pytest.mark.parametrize(
    ("first", "split", "group"), [(20, "train", r"\(cat, outdoor\)"), (85, "test", r"\(dog, outdoor\)")]
)
def test_a_group_without_any_usable_image_is_refused(tmp_path: Path, first: int, split: str, group: str) -> None:
    root = tiny_folder_dataset(tmp_path, BIG, changed={first + i: b"" for i in range(5)})
    with pytest.raises(DataError, match=f"no usable image is left of split {split}, group {group}"):
        run(root, 0.5)


def test_the_dataset_stays_as_it_was(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    spoil(root)

    def state() -> dict[str, tuple[int, bytes]]:
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        stats = {str(path): (path.lstat().st_mtime_ns, path.read_bytes()) for path in files}
        return stats | {str(p): (p.stat().st_mtime_ns, b"") for p in (root, *root.iterdir()) if p.is_dir()}

    before = state()
    run(root)
    assert state() == before
