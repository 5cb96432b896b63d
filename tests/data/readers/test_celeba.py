"""CelebA: two lists, matched by file name, in both published forms."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fairsynth.config import DataConfig
from fairsynth.data.dataset import survey
from fairsynth.data.metadata import SetAside
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from tests.support.data.celeba import CELEBA, celeba, celeba_rows
from tests.support.data.dataset_files import SPLITS, load, sizes
from tests.support.data.metadata import cost_of_loading

GROUPS = [(y, a) for y in ("-1", "1") for a in ("-1", "1")]
SMALL = celeba_rows({split: (3, 3, 2, 2) for split in SPLITS})
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def refusal(path: Path, **options: object) -> str:
    """The message with which the dataset is refused."""
    with pytest.raises(DataError) as caught:
        load(path, format="celeba", **options)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["txt", "csv"])
def test_the_published_size_has_the_published_groups(tmp_path: Path, form: str) -> None:
    rows = celeba_rows(CELEBA)
    metadata = load(celeba(tmp_path, rows, form))
    assert sizes(metadata, GROUPS) == CELEBA and len(metadata.entries) == 202_599
    assert not metadata.quarantined and not metadata.excluded
    partition = {name: SPLITS[split] for name, split, _, _ in random.Random(2).sample(rows, 1000)}
    found = {entry.path.removeprefix("img_align_celeba/"): entry.split for entry in metadata.entries}
    assert {name: found[name] for name in partition} == partition


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says the peak")
def test_the_published_size_loads_fast_in_little_memory(tmp_path: Path) -> None:
    n, seconds, peak = cost_of_loading(celeba(tmp_path, celeba_rows(CELEBA)))
    assert n == 202_599 and seconds < 20 and peak < 1000


def test_both_forms_and_any_order_say_the_same(tmp_path: Path) -> None:
    one = load(celeba(tmp_path / "txt", SMALL)).entries
    other = load(celeba(tmp_path / "csv", SMALL[::-1], "csv")).entries
    assert sorted(one) == sorted(other)
    expected = sorted((f"img_align_celeba/{n}", SPLITS[s], str(y), str(a), "", "") for n, s, y, a in SMALL)
    assert sorted(map(tuple, one)) == expected


def test_other_attributes_can_be_asked_for_by_name(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL)
    found = load(tmp_path, label_column="Male", attribute_column=("Blond_Hair", "Young")).entries
    assert {e.label for e in found} == {"-1", "1"}
    assert "Blond_Hair=1, Young=-1" in {e.attribute for e in found if e.label == "1"}
    message = refusal(tmp_path, label_column="Blond_har")
    assert (
        "list_attr_celeba.txt has no column 'Blond_har' (did you mean 'Blond_Hair'?); it has: image_id, 5_o_Clock"
        in message
    )


def test_names_in_one_list_alone_are_set_aside(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL)
    first, second = SMALL[0][0], SMALL[1][0]
    lines = (tmp_path / PARTITION).read_text().splitlines()
    (tmp_path / PARTITION).write_text("\n".join([line for line in lines if first not in line] + ["extra.jpg 0"]))
    attributes = (tmp_path / ATTRIBUTES).read_text().splitlines()
    kept = [line for line in attributes[1:] if second not in line]
    (tmp_path / ATTRIBUTES).write_text("\n".join([str(len(kept) - 1), *kept]))
    metadata = load(tmp_path)
    assert len(metadata.entries) == len(SMALL) - 2
    assert metadata.quarantined == [
        SetAside(f"img_align_celeba/{first}", "no_partition", f"not in {PARTITION}"),
        *(
            SetAside(f"img_align_celeba/{name}", "no_attributes", f"not in {ATTRIBUTES}")
            for name in [line.split()[0] for line in lines if second in line] + ["extra.jpg"]
        ),
    ]


def test_a_cut_or_edited_list_is_refused_with_its_line(tmp_path: Path) -> None:
    def broken(name: str, old: str, new: str) -> str:
        edit(celeba(tmp_path, SMALL) / name, old, new)
        return refusal(tmp_path)

    second = f"{SMALL[1][0]} -1"
    assert f"{ATTRIBUTES}, line 1: the count is 99, but there are 30 rows" in broken(ATTRIBUTES, "30\n", "99\n")
    assert "line 1: must be the number of images; it is '5_o_Clock_Shadow" in broken(ATTRIBUTES, "30\n", "")
    assert f"{ATTRIBUTES}, line 4: 40 values where 41 are expected" in broken(ATTRIBUTES, second, SMALL[1][0])
    assert f"{ATTRIBUTES}, line 4: 42 values where 41 are expected" in broken(ATTRIBUTES, second, f"{second} 1")
    assert "line 4: '000001.jpg' is there twice with different values" in broken(
        ATTRIBUTES, (celeba(tmp_path, SMALL) / ATTRIBUTES).read_text().splitlines()[3], row("000001.jpg", -SMALL[0][2])
    )
    assert "the partition of '000001.jpg' is '3'; allowed: 0 (train), 1 (validation), 2 (test)" in broken(
        PARTITION, f"000001.jpg {SMALL[0][1]}", "000001.jpg 3"
    )
    assert "values where 2 are expected" in broken(PARTITION, f"000001.jpg {SMALL[0][1]}", "000001.jpg")
    assert "file name '../000001.jpg' must be a relative path" in broken(ATTRIBUTES, "000001.jpg", "../000001.jpg")


def row(name: str, blond: int) -> str:
    """A row of the attribute list in which all but Blond_Hair is -1."""
    return " ".join([name, *["-1"] * 9, str(blond), *["-1"] * 30])


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL)
    with open(tmp_path / PARTITION, "a") as handle:
        handle.write(f"000001.jpg {SMALL[0][1]}\n")
    metadata = load(tmp_path)
    assert len(metadata.entries) == len(SMALL)
    assert metadata.excluded == [SetAside("img_align_celeba/000001.jpg", "equal_row")]


def test_a_csv_that_is_cut_inside_a_row_is_refused(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL, "csv")
    path = tmp_path / "list_attr_celeba.csv"
    path.write_bytes(path.read_bytes()[:-20])
    assert "list_attr_celeba.csv, line 31:" in refusal(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL, images="elsewhere")
    assert "none of the listed images (000001.jpg, 000002.jpg, ...) is there; looked in img_align_celeba/" in refusal(
        tmp_path
    )
    (tmp_path / PARTITION).unlink()
    assert "has no list_eval_partition.txt or list_eval_partition.csv; looked in the folder itself, celeba/" in refusal(
        tmp_path
    )


def test_a_short_row_hides_no_other_fault(tmp_path: Path) -> None:
    celeba(tmp_path, SMALL)
    edit(tmp_path / ATTRIBUTES, f"{SMALL[1][0]} -1", SMALL[1][0])
    edit(tmp_path / PARTITION, f"000001.jpg {SMALL[0][1]}", "000001.jpg 3")
    config = DataConfig(root=str(tmp_path))
    problems = survey(config, Storage(config.root)).problems
    assert any("40 values where 41 are expected" in p for p in problems) and any(
        "the partition of" in p for p in problems
    )
