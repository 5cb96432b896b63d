"""Ingest: every image is used, set aside with a reason, or the dataset is refused; nothing is lost on the way."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.artifacts import Counts
from fairsynth.config import DataConfig, ImageRules
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.manifest import SPLITS, image_id
from fairsynth.stages.ingest.decide import Decided, decide_manifest, set_aside_table
from tests.support.datasets import crops, encoded, tiny_folder_dataset, tiny_waterbirds, write_rows
from tests.support.ingesting import LENIENT, checked_as, decided, ingested

BIG = {"train": (20, 5, 5, 20), "val": (5,) * 4, "test": (5,) * 4}
N = 90
FREE = DataConfig(**LENIENT)


def entry(path: str, split: str = "train", label: str = "x", attribute: str = "p") -> Entry:
    """An image."""
    return Entry(path, split, label, attribute)


def whole(n: int = 2) -> list[Entry]:
    """A complete dataset: n images of each group in each split."""
    return [entry(f"{s}{y}{a}{i}", s, y, a) for s in SPLITS for y in "xy" for a in "pq" for i in range(n)]


def outcome(entries: list[Entry], content: dict[str, str], bad: dict[str, str], config: DataConfig = FREE) -> Decided:
    """Decide on entries whose files hold made-up content."""
    table = checked_as(entries, lambda e: (content.get(e.path, e.path), bad.get(e.path, "")))
    return decide_manifest(config, Metadata(entries), table)


def test_a_clean_dataset_is_used_whole(tmp_path: Path) -> None:
    result = decided(tiny_folder_dataset(tmp_path, BIG))
    assert result.counts == Counts(N, N, 0, 0)
    assert (result.quarantined, result.excluded, result.remarks) == ([], [], [])
    for row in result.manifest.rows():
        assert row["sha256"] == hashlib.sha256((tmp_path / row["path"]).read_bytes()).hexdigest()
        assert row["image_id"] == image_id(row["path"]) and row["path"].startswith(row["split"])
        assert (row["source"], row["location"], row["duplicate_of"], row["true_attribute"]) == ("real", "", "", "")
    train = result.manifest.split("train").counts()
    sizes = {("cat", "indoor"): 20, ("cat", "outdoor"): 5, ("dog", "indoor"): 5, ("dog", "outdoor"): 20}
    assert train == {Group(*group): n for group, n in sizes.items()}


def test_waterbirds_are_recognised_by_their_layout(tmp_path: Path) -> None:
    result = decided(tiny_waterbirds(tmp_path, BIG))
    assert result.counts == Counts(N, N, 0, 0)
    assert result.manifest.split("train").counts()[Group("0", "0")] == 20


def test_the_manifest_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    first = decided(tiny_folder_dataset(tmp_path, BIG)).manifest
    head, *lines = (tmp_path / "metadata.csv").read_text().splitlines()
    (tmp_path / "metadata.csv").write_text("\n".join([head, *reversed(lines)]))
    again = decided(tmp_path).manifest
    assert again.rows() == first.rows() and again.digest() == first.digest()
    assert first.column("image_id") == sorted(first.column("image_id"))


def test_copies_are_used_and_marked_and_counted(tmp_path: Path) -> None:
    same = encoded(crops()[0])
    result = decided(tiny_folder_dataset(tmp_path, BIG, changed={3: same, 7: same, 9: same}))
    marked = {row["path"]: row["duplicate_of"] for row in result.manifest.rows() if row["duplicate_of"]}
    assert marked == dict.fromkeys(("train/0007.png", "train/0009.png"), image_id("train/0003.png"))
    assert result.counts == Counts(N, N, 0, 0)
    remark = "2 images are exact copies inside their split: they count once for clustering and adapters"
    assert result.remarks == [remark]


def test_files_of_several_frames_and_of_wrong_extension_are_told(tmp_path: Path) -> None:
    moving = encoded(crops()[0], "GIF", save_all=True, append_images=[crops()[1]])
    changed = {0: moving, 1: encoded(crops()[2], "JPEG"), 2: encoded(crops()[3], "WEBP")}
    result = decided(tiny_folder_dataset(tmp_path, BIG, changed=changed))
    assert result.remarks == [
        "1 files hold several frames: the first of each is used",
        "3 files have the extension of another format: they are read by their content",
    ]
    assert result.counts == Counts(N, N, 0, 0)


def test_the_step_writes_what_was_decided(tmp_path: Path) -> None:
    leak, conflict = encoded(crops()[0]), encoded(crops()[1])
    changed = {0: b"", 1: leak, 50: leak, 2: conflict, 21: conflict}  # 21 is a cat outdoors, 50 is in validation
    root = tiny_folder_dataset(tmp_path / "data", BIG, changed=changed)
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert found.reasons == {
        "train/0000.png": "empty",
        "train/0002.png": "conflicting_groups",
        "train/0021.png": "conflicting_groups",
    }
    leaked = {
        "path": "train/0001.png",
        "stage": "ingest",
        "reason": "leak",
        "detail": "same content as val/0050.png in val",
    }
    assert found.excluded == [leaked]
    assert {row["stage"] for row in found.quarantine} == {"ingest"}
    assert found.record["counts"] == vars(Counts(N, N - 4, 3, 1))
    assert found.record["reasons"] == {"quarantined": {"empty": 1, "conflicting_groups": 2}, "excluded": {"leak": 1}}
    assert found.record["remarks"] == ["quarantined: empty 1, conflicting_groups 2", "excluded: leak 1"]
    assert len(found.manifest) == N - 4


def test_the_step_is_not_repeated_until_a_file_changes(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    first, again = (ingested(root, tmp_path / "out") for _ in range(2))
    assert again.record == first.record  # the time at which it finished, too
    (root / "val/0050.png").write_bytes(encoded(crops()[0]))
    changed = ingested(root, tmp_path / "out")
    assert changed.folder != first.folder and changed.record["digest"] != first.record["digest"]


def test_later_stages_depend_on_the_images_and_their_decoding_and_on_no_limit(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    first, limit, rules = (
        ingested(root, tmp_path / "out", **changed)
        for changed in ({}, {"max_bad_fraction": 0.5}, {"images": ImageRules(background="#000000")})
    )
    assert len({step.folder for step in (first, limit, rules)}) == 3
    assert limit.record["digest"] == first.record["digest"] != rules.record["digest"]


def test_the_record_tells_the_layout_that_was_recognised(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    named, recognised = (ingested(root, tmp_path / "out", format=name) for name in ("folder", "auto"))
    assert named.record["layout"] == recognised.record["layout"] == "folder"


def test_the_step_at_a_severity_keeps_the_list_of_what_it_kept(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG)
    found = ingested(root, tmp_path / "out", severity="95%")
    # 20 of each label are aligned: ceil(20 / 19) = 2 of 5 stay.
    assert found.record["counts"] == vars(Counts(N, N - 6, 0, 6)) and found.record["reasons"]["excluded"] == {
        "severity": 6
    }
    kept = (found.folder / "kept_ids.txt").read_text().splitlines()
    assert kept == found.manifest.split("train").column("image_id") and len(kept) == 44
    digest = hashlib.sha256("".join(f"{i}\n" for i in kept).encode()).hexdigest()
    assert found.record["severity"]["sha256"] == digest and found.record["severity"]["kept"] == 44
    whole_set = ingested(root, tmp_path / "out")
    assert whole_set.record["severity"] is None and whole_set.folder != found.folder
    assert not (whole_set.folder / "kept_ids.txt").exists()


def test_what_was_set_aside_is_a_table_with_its_columns_even_if_empty() -> None:
    assert set_aside_table([]).column_names == ["path", "stage", "reason", "detail"]
    (row,) = set_aside_table([SetAside("a", "leak", "b")]).to_pylist()
    assert row == {"path": "a", "stage": "ingest", "reason": "leak", "detail": "b"}


PATHS = st.integers(0, 60).map(lambda i: f"p{i}.png")
CELLS = st.tuples(st.sampled_from(SPLITS), st.sampled_from("xyz"), st.sampled_from("pqr"))


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_input_is_used_or_quarantined_or_excluded(data: st.DataObject) -> None:
    cells = data.draw(st.dictionaries(PATHS, CELLS, max_size=30))
    content = {path: data.draw(st.sampled_from("0123456789")) for path in cells}
    bad = {path: data.draw(st.sampled_from(("", "", "", "empty", "missing_file", "truncated"))) for path in cells}
    # One good image of each group and split, so that no group is lost as a whole.
    safe = {f"safe-{s}{y}{a}": (s, y, a) for s in SPLITS for y in "xyz" for a in "pqr"}
    cells, content, bad = cells | safe, content | {p: p for p in safe}, bad | dict.fromkeys(safe, "")
    entries = data.draw(st.permutations([entry(path, *cell) for path, cell in cells.items()]))
    quarantined = [SetAside(f"q{i}", "no_partition") for i in range(data.draw(st.integers(0, 3)))]
    excluded = [SetAside(f"x{i}", "severity") for i in range(data.draw(st.integers(0, 3)))]
    metadata = Metadata(entries, quarantined, excluded, ["a remark"])
    table = checked_as(entries, lambda e: (content[e.path], bad[e.path]))
    result = decide_manifest(FREE, metadata, table)
    parts = [result.manifest.column("path"), *([a.path for a in p] for p in (result.quarantined, result.excluded))]
    paths = [path for part in parts for path in part]
    given = [*cells, *(image.path for image in (*quarantined, *excluded))]
    assert sorted(paths) == sorted(given), "each exactly once"
    assert result.counts == Counts(len(given), *map(len, parts))
    assert sum(result.reasons["quarantined"].values()) == len(parts[1])
    assert sum(result.reasons["excluded"].values()) == len(parts[2])
    assert {p for p, reason in bad.items() if reason} == {
        a.path for a in result.quarantined if a.reason not in ("conflicting_groups", "no_partition")
    }
    assert all(image.reason for image in (*result.quarantined, *result.excluded))
    for row in result.manifest.rows():
        assert (row["split"], row["label"], row["attribute"]) == cells[row["path"]]
    # Another order of the same metadata: the same outcome.
    again = decide_manifest(FREE, Metadata(entries[::-1], quarantined, excluded), table)
    assert again.manifest.rows() == result.manifest.rows() and set(again.quarantined) == set(result.quarantined)
    assert "a remark" in result.remarks


SMALL = [encoded(image.resize((12, 12))) for image in crops()[:20]]
# What a file can hold, and the reason for which it is then set aside; none: there is no file.
FILES: dict[str, tuple[bytes | None, str]] = {
    "empty": (b"", "empty"),
    "gone": (None, "missing_file"),
    "cut": (SMALL[19][:-30], "truncated"),
    "text": (b"hello", "unidentified"),
    "page": (b"%PDF-1", "format"),
    **{f"image {i}": (SMALL[i], "") for i in range(12, 16)},
}
GROUPS = [(s, y, a) for s in SPLITS for y in "xy" for a in "pq"]


@given(st.lists(st.tuples(st.sampled_from(GROUPS), st.sampled_from(list(FILES)), st.integers(1, 3)), max_size=12))
@settings(deadline=None, max_examples=40)
def test_random_metadata_and_files_add_up(drawn: list[tuple[tuple[str, str, str], str, int]]) -> None:
    with TemporaryDirectory() as folder:
        root, rows, reasons = Path(folder), [], {}
        for number, group in enumerate(GROUPS):  # one good image of each, so that no group is lost
            (root / f"s{number}.png").write_bytes(SMALL[number])
            rows.append((f"s{number}.png", *group))
        for number, (group, file, times) in enumerate(drawn):
            content, reason = FILES[file]
            reasons |= {f"{number}.png": reason} if reason else {}
            rows += [(f"{number}.png", *group)] * times
            if content is not None:
                (root / f"{number}.png").write_bytes(content)
        write_rows(root / "metadata.csv", ("file_name", "split", "label", "attribute"), rows)
        result = decided(root, **LENIENT)
    used = result.manifest.column("path")
    repeated = [a.path for a in result.excluded if a.reason == "equal_row"]
    assert Counter(repeated) == {f"{n}.png": times - 1 for n, (*_, times) in enumerate(drawn) if times > 1}
    leaks = [a.path for a in result.excluded if a.reason == "leak"]
    conflicts = [a.path for a in result.quarantined if a.reason == "conflicting_groups"]
    assert sorted([*used, *leaks, *conflicts, *reasons]) == sorted({row[0] for row in rows}), "each exactly once"
    assert {a.path: a.reason for a in result.quarantined if a.path not in conflicts} == reasons
    assert result.counts == Counts(len(rows), len(used), len(result.quarantined), len(leaks) + len(repeated))


@given(st.sets(st.integers(0, 9), max_size=9), st.sampled_from(("empty", "conflict", "leak")))
@settings(deadline=None)
def test_bad_data_of_one_group_leaves_the_rows_of_others_as_they_are(spoilt: set[int], how: str) -> None:
    entries = whole(11)
    clean = outcome(entries, {}, {})
    group = [e for e in entries if (e.split, e.label, e.attribute) == ("train", "x", "p")]
    hit = {group[i].path for i in spoilt}
    content, bad = {}, {}
    if how == "empty":
        bad = dict.fromkeys(hit, "empty")
    elif how == "leak":
        content = dict.fromkeys(hit, "valxp0")
    else:  # the conflict is with an image of the same label: that one goes too
        content = dict.fromkeys(hit, "trainxq0")
    away = hit | ({"trainxq0"} if how == "conflict" and hit else set())
    result = outcome(entries, content, bad)
    assert result.manifest.rows() == [row for row in clean.manifest.rows() if row["path"] not in away]
    assert {a.path for a in (*result.quarantined, *result.excluded)} == away


def test_limits_are_checked_in_the_step(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", BIG, changed={i: b"" for i in range(9)})
    with pytest.raises(
        DataError, match=rf"9 of {N} images cannot be used \(empty 9\), more than data\.max_bad_fraction"
    ):
        ingested(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("manifest.parquet"))
    allowed = ingested(root, tmp_path / "out", max_bad_fraction=9 / N, max_bad_group_fraction=9 / 30)
    assert allowed.record["counts"] == vars(Counts(N, N - 9, 9, 0))
    assert pq.read_table(allowed.folder / "quarantine.parquet").num_rows == 9
