"""The manifest: identities that never change, and tables that lose nothing."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from fairsynth.groups import Group
from fairsynth.manifest import SCHEMA, Manifest, image_id, seed_for

ROWS = [
    {"image_id": image_id(f"{i}.png"), "sha256": f"{i:064x}", "path": f"{i}.png", "split": split, "label": y, "attribute": a, "source": "real"}
    for i, (split, y, a) in enumerate(
        [("train", "x", "p")] * 3 + [("train", "x", "q"), ("train", "y", "p"), ("val", "x", "p"), ("test", "y", "q"), ("test", "y", "q")]
    )
]  # fmt: skip


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.from_rows(ROWS)


def test_image_id_is_the_start_of_the_paths_sha256() -> None:
    assert image_id("train/a.png") == "f1665762b02cc96e"  # printf train/a.png | sha256sum
    assert image_id("caf\udce9.png") != image_id("café.png")


def test_seed_never_changes() -> None:
    # printf '["0", "image", "a", "b"]' | sha256sum: 7102e3ef8ce5c0d8...
    assert seed_for(0, "image", "a", "b") == 0x7102E3EF8CE5C0D8 >> 1


def test_seeds_of_different_parts_differ_and_fit_in_63_bits() -> None:
    parts = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("abc", ""),
        ('a", "b', "c"),
        ("a", "b", "c"),
        ("c", "ab"),
        (),
        (0,),
        (1,),
        (10,),
        (1, 0),
    ]
    seeds = [seed_for(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_digest_ignores_the_order_of_rows(manifest: Manifest) -> None:
    for seed in range(5):
        assert Manifest.from_rows(random.Random(seed).sample(ROWS, len(ROWS))).digest() == manifest.digest()


@pytest.mark.parametrize("column", SCHEMA.names)
@pytest.mark.parametrize("value", ["other", "", None, "None"])
def test_digest_changes_with_any_cell(manifest: Manifest, column: str, value: str | None) -> None:
    digests = {manifest.digest()}
    for i in range(len(ROWS)):
        digests.add(
            Manifest.from_rows([row | {column: value} if i == j else row for j, row in enumerate(ROWS)]).digest()
        )
    # Rows 0-2 differ in more than the cell that is replaced, so every change gives a digest of its own.
    assert len(digests) == len(ROWS) + 1


def test_digest_changes_with_a_row_more_less_or_twice(manifest: Manifest) -> None:
    tables = [ROWS[:-1], [*ROWS, ROWS[0]], [*ROWS, ROWS[0], ROWS[0]], []]
    assert len({manifest.digest(), *(Manifest.from_rows(rows).digest() for rows in tables)}) == 5


def test_digest_sees_further_columns(manifest: Manifest) -> None:
    clusters = [0, 1, 0, 1, 0, 1, 0, 1]
    one = manifest.with_column("cluster", clusters, pa.int64())
    two = manifest.with_column("cluster", clusters[::-1], pa.int64())
    assert len({manifest.digest(), one.digest(), two.digest()}) == 3
    assert one.column("cluster") == clusters and "cluster" not in manifest.table.column_names


def test_splits_part_the_manifest(manifest: Manifest) -> None:
    parts = [manifest.split(name).rows() for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5, 1, 2]
    assert [row for part in parts for row in part] == ROWS
    assert len(manifest.split("Train")) == 0


def test_counts_and_groups(manifest: Manifest) -> None:
    assert manifest.counts() == {Group("x", "p"): 4, Group("x", "q"): 1, Group("y", "p"): 1, Group("y", "q"): 2}
    assert sum(len(manifest.of_group(group)) for group in manifest.counts()) == len(manifest)
    assert manifest.of_group(Group("y", "q")).column("path") == ["6.png", "7.png"]


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_many_rows_in_pieces_are_those_of_a_loop(seed: int) -> None:
    rng = random.Random(seed)
    words = ["", "a", "a\u00e9", "NA", "0"]
    rows = [ROWS[0] | {"image_id": image_id(str(i)), "label": rng.choice(words), "attribute": rng.choice(words), "split": rng.choice(["train", "val"])} for i in range(500)]  # fmt: skip
    whole = Manifest.from_rows(rows).table
    found = Manifest(pa.concat_tables([whole.slice(0, 3), whole.slice(3, 0), whole.slice(3)]))
    groups = [Group(row["label"], row["attribute"]) for row in rows]
    assert found.groups() == groups and found.digest() == Manifest(whole).digest()
    assert list(found.counts().items()) == list(Counter(groups).items())  # in the order in which they come
    for group in [*found.counts(), Group("a", "none")]:
        assert found.of_group(group).rows() == [row for row, one in zip(rows, groups, strict=True) if one == group]
    assert found.split("val").rows("image_id", "label") == [
        {name: row[name] for name in ("image_id", "label")} for row in rows if row["split"] == "val"
    ]
    nothing = found.split("test")
    assert (nothing.groups(), nothing.counts(), nothing.rows()) == ([], {}, [])


def test_filter_keeps_order_and_refuses_a_wrong_length(manifest: Manifest) -> None:
    assert manifest.filter(i % 3 == 0 for i in range(8)).column("path") == ["0.png", "3.png", "6.png"]
    with pytest.raises(pa.ArrowInvalid):
        manifest.filter([True])


def test_sorted_is_the_same_for_every_order(manifest: Manifest) -> None:
    ordered = manifest.sorted().column("image_id")
    assert ordered == sorted(row["image_id"] for row in ROWS)
    assert Manifest.from_rows(ROWS[::-1]).sorted().column("image_id") == ordered


def test_parquet_gives_back_what_was_written(manifest: Manifest, tmp_path: Path) -> None:
    rows = [
        row | {"label": label}
        for row, label in zip(ROWS, ["NA", "None", "01", "", "ä", "a\nb", "=1", "x"], strict=True)
    ]
    before = Manifest.from_rows([row | {"cluster": i} for i, row in enumerate(rows)], {"cluster": pa.int64()})
    before.write(tmp_path / "manifest.parquet")
    after = Manifest.read(tmp_path / "manifest.parquet")
    assert after.rows() == before.rows() and after.digest() == before.digest()
    assert after.table.schema.equals(before.table.schema)


def test_a_table_without_a_needed_column_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="attribute"):
        Manifest(manifest.table.drop_columns(["attribute"]))
