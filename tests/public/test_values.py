"""Values as people write them: joined by a stated rule, told, or refused; and words for codes."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.commands.export import finished
from fairsynth.config import DataConfig, RunConfig
from fairsynth.data.metadata import Entry
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.preflight import worded
from fairsynth.prompts import fill
from tests.support.data.dataset_files import image, load, put
from tests.support.ingesting import inspected
from tests.support.public import HEADER, ROWS, csv_text, image_folder, plain, read, told


def coded(number: int, row: tuple[str, ...]) -> str:
    """1 for a cat, as pandas writes it in every other row."""
    return {"cat": "1", "dog": "0"}[row[1]] + ("", ".0", ".00")[number % 3]


def test_codes_with_and_without_a_point_are_one(tmp_path: Path) -> None:
    numbers = iter(range(len(ROWS)))
    image_folder(tmp_path, lambda row: (row[0], coded(next(numbers), tuple(row)), *row[2:]))
    expected = [entry._replace(label={"cat": "1", "dog": "0"}[entry.label]) for entry in plain(tmp_path)]
    assert read(tmp_path).entries == expected
    combined = read(tmp_path, attribute_column=("label", "split"), label_column="attribute").entries
    assert {e.attribute for e in combined} == {f"label={y}, split={s}" for y in "01" for s in ("train", "val", "test")}


@pytest.mark.parametrize(("one", "other"), [("1", "01"), ("1", "+1"), ("1", " 1"), ("0.5", "0.50")])
def test_two_spellings_of_a_number_are_refused(tmp_path: Path, one: str, other: str) -> None:
    numbers = iter(range(len(ROWS)))
    image_folder(tmp_path, lambda row: (row[0], (one, other, "7")[next(numbers) % 3], *row[2:]))
    with pytest.raises(
        DataError, match=r"^label: '.*', '.*' are the same number, taken as different values; write them alike"
    ):
        load(tmp_path)


def test_values_that_differ_by_blanks_or_case_are_told(tmp_path: Path) -> None:
    forms = {"in": ("in", "in ", "In", "\uff49n", "i\u200bn"), "out": ("out",) * 5}
    numbers = iter(range(len(ROWS)))
    image_folder(tmp_path, lambda row: (*row[:2], forms[row[2]][next(numbers) % 5], row[3]))
    found = inspected(tmp_path)
    (remark,) = [r for r in found["remarks"] if "differ by case" in r]
    assert all(repr(form) in remark for form in forms["in"]) and "'out'" not in remark
    assert len({g["attribute"] for g in found["groups"]}) == 6
    code, text = told(tmp_path, "--data.allow_missing", "true")
    assert code == 0 and "'in '" in text and "'i\\u200bn'" in text


def test_unicode_forms_of_a_value_are_one(tmp_path: Path) -> None:
    numbers = iter(range(len(ROWS)))
    word = {"cat": "k\u00e4tzchen", "dog": "hund"}
    image_folder(
        tmp_path,
        lambda row: (row[0], unicodedata.normalize(("NFC", "NFD")[next(numbers) % 2], word[row[1]]), *row[2:]),
    )
    assert read(tmp_path).entries == [entry._replace(label=word[entry.label]) for entry in plain(tmp_path)]


def test_split_codes(tmp_path: Path) -> None:
    codes = {"train": "0", "val": "1.0", "test": "2"}
    image_folder(tmp_path, lambda row: (*row[:3], codes[row[3]].partition(".")[0]))
    found = read(tmp_path)
    assert found.entries == plain(tmp_path) and found.remarks == [
        "the split's values 0, 1, 2 are taken as train, val, test"
    ]
    image_folder(tmp_path, lambda row: (*row[:3], {"train": "0", "val": "1", "test": "1"}[row[3]]))
    with pytest.raises(
        DataError, match=r"split is '0'; allowed: train .*--data.split_names '\{\"0\": drop\}'; and 1 more"
    ):
        load(tmp_path)  # 1 could be validation or test
    found = read(tmp_path, split_names={"0": "train", "1": "test"}, split_from={"val": "train"})
    assert {e.split for e in found.entries} == {"train", "val", "test"}


def test_further_splits_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: (*row[:3], "extra" if "00001" in row[0] else row[3]))
    with pytest.raises(
        DataError, match=r"split is 'extra'; allowed: .* 1 images, first: 'images/00001.jpg'; say what it is"
    ):
        load(tmp_path)
    found = read(tmp_path, split_names={"extra": "drop"})
    assert [(image.path, image.reason) for image in found.excluded] == [("images/00001.jpg", "split_dropped")]
    assert found.entries == [entry for entry in plain(tmp_path) if "00001" not in entry.path]


def test_unlabelled_rows_need_no_split(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: row if "00001" not in row[0] else (row[0], "", "", ""))
    with pytest.raises(DataError, match=r"1 rows have an empty label .* set --data.unknown to drop"):
        load(tmp_path)
    found = read(tmp_path, unknown="drop")
    assert found.entries == [entry for entry in plain(tmp_path) if "00001" not in entry.path]
    assert [(image.path, image.reason) for image in found.excluded] == [("images/00001.jpg", "unknown_label")]


def class_labels(root: Path, unlabelled: bool = False) -> Path:
    """Parquet as Hugging Face's datasets writes it: codes, and their names in the schema's metadata."""
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
        "attribute": {"_type": "ClassLabel", "names": ["in", "out"]},
    }
    for split, word in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = [(n, row) for n, row in enumerate(ROWS) if row[3] == split]
        cells = [{"bytes": image(n), "path": row[0]} for n, row in rows]
        labels = [-1 if unlabelled and n % 8 == 0 else int(row[1] == "dog") for n, row in rows]
        table = pa.table({
            "image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels),
            "attribute": pa.array([int(row[2] == "out") for _, row in rows]),
        })  # fmt: skip
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        (root / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), root / "data" / f"{word}-00000-of-00001.parquet")
    return root


def test_names_of_class_labels_are_words_for_prompts(tmp_path: Path) -> None:
    found = load(class_labels(tmp_path))
    assert {(e.label, e.attribute) for e in found.entries} == {(y, a) for y in "01" for a in "01"}
    config = worded(RunConfig(data=DataConfig(root=str(tmp_path), label_names={"1": "hound"})), found)
    assert fill("{label} {attribute}", config.data, Group("0", "1")) == "cat out"
    assert fill("{label} {attribute}", config.data, Group("1", "0")) == "hound in"
    assert inspected(tmp_path)["prompts"]["(0, 0)"] == "a photo of a cat, in"
    assert inspected(tmp_path)["remarks"] == []


def test_the_code_of_an_unlabelled_row_is_no_value(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 rows have an empty label"):
        load(class_labels(tmp_path, unlabelled=True))
    assert len(load(tmp_path, unknown="drop").entries) == 21


@pytest.mark.parametrize("features", [
    b"no json", b"[]", b'{"info": {"features": {"label": 1}}}', b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": "ab"}}}}', b"[" * 100_000, b'{"info": 3}',
])  # fmt: skip
def test_names_that_make_no_sense_are_no_words(tmp_path: Path, features: bytes) -> None:
    class_labels(tmp_path)
    for path in (tmp_path / "data").iterdir():
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"huggingface": features}), path)
    assert load(tmp_path).words == {}


def test_codes_without_words_are_told_with_the_prompt(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: (row[0], str(int(row[1] == "dog")), *row[2:]))
    (remark,) = inspected(tmp_path)["remarks"]
    assert "a prompt now is 'a photo of a 0, in'" in remark
    assert '--data.label_names \'{"0": WORD, "1": WORD}\'' in remark
    assert inspected(tmp_path, label_names={"0": "cat", "1": "dog"})["remarks"] == []


def test_a_row_named_twice_in_two_spellings_is_one_file(tmp_path: Path) -> None:
    image_folder(tmp_path)
    name = unicodedata.normalize("NFD", "caf\u00e9.jpg")
    put(tmp_path / "images" / name, image(90))
    table = (tmp_path / "metadata.csv").read_text("utf-8")
    put(tmp_path / "metadata.csv", table + csv_text([("images/caf\u00e9.jpg", "cat", "in", "train")]))
    found = read(tmp_path)
    assert Entry(f"images/{name}", "train", "cat", "in") in found.entries
    assert found.remarks == [
        "1 images are named in another Unicode form (NFC, NFD): the files that are meant are there, and are taken"
    ]
    assert HEADER[0] in table


def test_exports_find_a_run_whose_words_came_from_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are part of what names the stages' results: an export that looked without them would find none."""
    asked: list[RunConfig] = []

    def opened(config: RunConfig, metadata: object) -> object:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(finished, "opened", opened)
    config = RunConfig(out=str(tmp_path / "out"), data=DataConfig(root=str(class_labels(tmp_path / "data"))))
    with pytest.raises(KeyboardInterrupt), finished.finished_stages(config):
        pass
    assert asked[0].data.label_names == {"0": "cat", "1": "dog"}
    assert asked[0].data.attribute_names == {"0": "in", "1": "out"}
