"""From a folder to checked metadata: what is unknown, repeated, not split or not a setting, is never guessed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.config import DataConfig
from fairsynth.data.dataset import check_options, load, reader, recognise
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from tests.support.datasets import tiny_folder_dataset, tiny_waterbirds, write_rows
from tests.support.ingesting import metadata_of

HEADER = ("file_name", "split", "label", "attribute")
ROWS = [
    (f"{s}-{y}{a}{i}.png", s, y, a) for s, y, a, i in itertools.product(("train", "val", "test"), "xy", "pq", range(3))
]


def table(folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER, **data: object) -> Metadata:
    """What is read from a folder with this metadata.csv."""
    write_rows(folder / "metadata.csv", header, rows)
    return metadata_of(folder, **data)


def refusal(folder: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER, **data: object) -> str:
    """Why this metadata.csv is refused."""
    with pytest.raises(DataError) as caught:
        table(folder, rows, header, **data)
    return str(caught.value)


def test_complete_metadata_is_taken_as_it_is(tmp_path: Path) -> None:
    found = table(tmp_path, ROWS)
    assert found == Metadata([Entry(*row) for row in ROWS])


def test_no_image_is_opened(tmp_path: Path) -> None:
    # There are no images at all; whether a row's file is there shows when the files are looked at.
    assert len(table(tmp_path, ROWS).entries) == len(ROWS) and len(list(tmp_path.iterdir())) == 1


UNKNOWN = [("a.png", "train", "", "p"), ("b.png", "train", "x", ""), ("c.png", "val", "x", "  ")]


def test_unknown_values_are_refused_with_a_count_of_values(tmp_path: Path) -> None:
    text = refusal(tmp_path, [*ROWS, *UNKNOWN])
    expected = "1 rows have an empty label (values: 'x' 20, 'y' 18); fill it in, or set --data.unknown to drop"
    assert text == f"{expected}; and 1 more problem: 'fairsynth inspect' lists them all"
    text = refusal(tmp_path, [*ROWS, *UNKNOWN[1:]])
    expected = "2 rows have an empty attribute (values: 'p' 18, 'q' 18); fill it in, or set --data.unknown to drop or own_group"
    assert text == expected


def test_hostile_values_are_shown_without_what_steers_a_terminal(tmp_path: Path) -> None:
    rows = [(name, split, f"{label}\x1b[2J\u202e", attribute) for name, split, label, attribute in ROWS]
    text = refusal(tmp_path, [*rows, *UNKNOWN])
    assert "'x?[2J?' 18" in text and text.isprintable()


def test_unknown_values_can_be_dropped(tmp_path: Path) -> None:
    found = table(tmp_path, [*ROWS, *UNKNOWN], unknown="drop")
    assert found.entries == [Entry(*row) for row in ROWS]
    assert found.excluded == [
        SetAside("a.png", "unknown_label"),
        SetAside("b.png", "unknown_attribute"),
        SetAside("c.png", "unknown_attribute"),
    ]


def test_an_unknown_attribute_can_have_a_group_of_its_own(tmp_path: Path) -> None:
    found = table(tmp_path, [*ROWS, *UNKNOWN[1:]], unknown="own_group")
    assert found.entries[-2:] == [Entry("b.png", "train", "x", "unknown"), Entry("c.png", "val", "x", "unknown")]
    assert found.excluded == []


def test_an_unknown_label_can_have_no_group_of_its_own(tmp_path: Path) -> None:
    assert "1 rows have an empty label" in refusal(tmp_path, [*ROWS, UNKNOWN[0]], unknown="own_group")


def test_the_own_group_must_not_meet_a_value_of_that_name(tmp_path: Path) -> None:
    rows = [*ROWS, ("d.png", "train", "x", "unknown")]
    assert len(table(tmp_path, rows, unknown="own_group").entries) == len(rows)
    text = refusal(tmp_path, [*rows, *UNKNOWN[1:]], unknown="own_group")
    assert text == "2 rows have no attribute, and 'unknown' is already a value of it; use data.unknown drop"


def test_an_attribute_that_is_to_be_discovered_may_be_unknown(tmp_path: Path) -> None:
    found = table(tmp_path, [*ROWS, *UNKNOWN[1:]], attribute="discover", attribute_column="attribute")
    assert {e.attribute for e in found.entries} == {""} and len(found.entries) == len(ROWS) + 2
    assert Counter(e.true_attribute.strip() for e in found.entries) == {"p": 18, "q": 18, "": 2}
    text = refusal(tmp_path, [*ROWS, *UNKNOWN], attribute="discover")
    assert "empty label" in text


def test_text_that_looks_like_nothing_or_a_number_stays_text(tmp_path: Path) -> None:
    values = ["NA", "None", "nan", "null", "01", "1.5", "-"]
    rows = [
        (f"{s}{i}{a}.png", s, value, a)
        for s in ("train", "val", "test")
        for i, value in enumerate(values)
        for a in ("NaN", "None")
    ]
    assert [e.label for e in table(tmp_path, rows).entries] == [row[2] for row in rows]


def test_equal_rows_are_merged_and_counted(tmp_path: Path) -> None:
    found = table(tmp_path, [*ROWS, ROWS[0], (f"./{ROWS[1][0]}", *ROWS[1][1:]), ROWS[0]])
    assert found.entries == [Entry(*row) for row in ROWS]
    assert found.excluded == [SetAside(ROWS[i][0], "equal_row") for i in (0, 1, 0)]


@pytest.mark.parametrize("changed", [("val", "x", "p"), ("train", "y", "p"), ("train", "x", "q")])
def test_different_rows_of_one_file_are_refused(tmp_path: Path, changed: tuple[str, str, str]) -> None:
    text = refusal(tmp_path, [*ROWS, ("train-xp0.png", *changed)])
    assert text.startswith("the metadata gives 'train-xp0.png' twice with different label, attribute or split")


CELLS = st.tuples(
    st.integers(0, 7).map(lambda i: f"{i}.png"),
    st.sampled_from(("train", "val")),
    st.sampled_from(("x", "y", "")),
    st.sampled_from(("p", "q", "")),
)


@given(rows=st.lists(CELLS, min_size=1, max_size=20), unknown=st.sampled_from(("refuse", "drop", "own_group")))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_an_entry_or_set_aside_or_the_dataset_refused(
    tmp_path: Path, rows: list[tuple[str, str, str, str]], unknown: str
) -> None:
    distinct = set(rows)
    different = len({row[0] for row in distinct}) < len(distinct)
    empty = any(not y or not a for _, _, y, a in rows)
    none_left = not any(y and (a or unknown == "own_group") for _, _, y, a in rows)
    refused = different or (empty and unknown == "refuse") or (unknown == "own_group" and not all(r[2] for r in rows))
    if refused or none_left:
        refusal(tmp_path, rows, unknown=unknown)
        return
    found = table(tmp_path, rows, unknown=unknown)
    assert len(found.entries) + len(found.excluded) == len(rows)
    reasons = Counter(image.reason for image in found.excluded)
    assert reasons["equal_row"] == len(rows) - len(distinct)
    assert len({e.path for e in found.entries}) == len(found.entries)
    kept = {(e.path, e.split, e.label, "" if e.attribute == "unknown" else e.attribute) for e in found.entries}
    assert kept <= distinct and all(e.label and e.attribute for e in found.entries)


WITHOUT = [(name, y, a) for name, _, y, a in ROWS]
COLUMNS = ("file_name", "label", "attribute")


def test_data_without_a_split_needs_one_to_be_asked_for(tmp_path: Path) -> None:
    text = refusal(tmp_path, WITHOUT, COLUMNS)
    assert text.startswith("the dataset has no split; add a column (train, val, test)")
    assert "--data.split_fractions '[0.7, 0.1, 0.2]'" in text


def test_a_split_is_made_in_the_asked_shares_and_told(tmp_path: Path) -> None:
    found = table(tmp_path, WITHOUT, COLUMNS, split_fractions=(0.34, 0.33, 0.33), split_seed=4)
    counts = Counter((e.label, e.attribute, e.split) for e in found.entries)
    assert set(counts.values()) == {3} and len(counts) == 12
    remark = "the dataset has no split of its own: made with shares 0.34, 0.33, 0.33 and data.split_seed 4"
    assert found.remarks == [remark]


def test_the_order_of_rows_does_not_change_the_split(tmp_path: Path) -> None:
    first = table(tmp_path, WITHOUT, COLUMNS, split_fractions=(0.5, 0.25, 0.25))
    again = table(tmp_path, WITHOUT[::-1], COLUMNS, split_fractions=(0.5, 0.25, 0.25))
    assert sorted(first.entries) == sorted(again.entries)
    other = table(tmp_path, WITHOUT, COLUMNS, split_fractions=(0.5, 0.25, 0.25), split_seed=1)
    assert sorted(other.entries) != sorted(first.entries)


def test_a_given_split_is_never_made_anew(tmp_path: Path) -> None:
    assert table(tmp_path, ROWS, split_fractions=(0.5, 0.25, 0.25)).entries == [Entry(*row) for row in ROWS]


def test_a_split_for_some_images_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partly = [Entry("a.png", "train", "x", "p"), Entry("b.png", "", "x", "p"), Entry("c.png", "", "x", "q")]
    monkeypatch.setattr(reader("folder"), "read", lambda storage, config: Metadata(partly))
    message = r"^2 images have no split, the others have one; first: 'b\.png'; say what it is .* --data\.split_names '\{\"\": drop\}'$"
    with pytest.raises(DataError, match=message):
        load(DataConfig(root=str(tmp_path), format="folder", split_fractions=(0.8, 0.1, 0.1)), Storage(str(tmp_path)))


def test_utkface_has_shares_of_its_own(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{30 if i % 2 else 2}_{i // 2 % 2}_0_2017{i:013d}.jpg").write_bytes(b"")
    found = metadata_of(tmp_path)
    assert Counter(e.split for e in found.entries) == {"train": 32, "val": 4, "test": 4}
    assert any("shares 0.8, 0.1, 0.1" in remark for remark in found.remarks)
    assert Counter(e.split for e in metadata_of(tmp_path, split_fractions=(0.5, 0.1, 0.4)).entries)["train"] == 20


@pytest.mark.parametrize("name", ["waterbirds", "celeba"])
def test_a_format_without_settings_refuses_any(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(DataConfig(options={"age_bins": {}}), name)
    assert str(caught.value) == f"the format {name} has no option 'age_bins' (data.options); it has none"
    check_options(DataConfig(), name)


def test_an_unknown_setting_of_a_format_names_the_allowed_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(DataConfig(options={"age_bin": 5}), "utkface")
    expected = "the format utkface has no option 'age_bin' (data.options) (did you mean 'age_bins'?); it has: age_bins, attribute, label"
    assert str(caught.value) == expected
    with pytest.raises(ConfigError, match=r"^the format parquet has no option 'column' .*it has: image_column$"):
        check_options(DataConfig(options={"column": "x"}), "parquet")


def test_a_wrong_value_of_a_setting_is_named_and_shown() -> None:
    with pytest.raises(ConfigError, match=r"^data\.options\.label: .*\(given: 'height'\)$"):
        check_options(DataConfig(options={"label": "height"}), "utkface")
    with pytest.raises(ConfigError, match=r"^data\.options\.age_bins: .*overlap"):
        check_options(DataConfig(options={"age_bins": {"a": [0, 5], "b": [5, 9]}}), "utkface")
    check_options(DataConfig(options={"label": "race", "age_bins": {"a": [0, 5], "b": [6, 9]}}), "utkface")


def test_settings_are_checked_before_the_dataset_is_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "metadata.csv", HEADER, ROWS)
    with pytest.raises(ConfigError, match="the format folder has no option"):
        metadata_of(tmp_path, options={"label": "x"})


def test_layouts_are_recognised(tmp_path: Path) -> None:
    assert recognise(Storage(str(tiny_folder_dataset(tmp_path / "a")))) == "folder"
    assert recognise(Storage(str(tiny_waterbirds(tmp_path / "b")))) == "waterbirds"


def test_a_layout_that_nobody_knows_is_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[2J.txt").write_text("")
    (tmp_path / ".hidden").write_text("")
    with pytest.raises(DataError) as caught:
        recognise(Storage(str(tmp_path)))
    text = str(caught.value)
    assert (
        "is not recognised (it holds: evil?[2J.txt)" in text and "say which with --data.format: celeba, classf" in text
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"it holds: nothing\)"):
        recognise(Storage(str(tmp_path / "empty")))


def test_a_layout_that_two_readers_know_is_refused(tmp_path: Path) -> None:
    tiny_folder_dataset(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("0\n")
    (tmp_path / "list_eval_partition.txt").write_text("")
    with pytest.raises(DataError, match=r"could be celeba or folder .*say which with --data\.format"):
        recognise(Storage(str(tmp_path)))
    assert len(metadata_of(tmp_path, format="folder").entries) == 32


def test_a_dataset_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, [("a.png", "train", "", "p")], unknown="drop")
    assert text == f"{tmp_path}: no usable images were found (format folder); unknown_label 1"
