"""Fault cases 1 to 21 of CASES.md: images and metadata. What a bad file does to others; how it is read is in tests/data.

22 to 28 (names, links, archives, changes) are in test_faults_names, hostile text (26) in test_faults_text,
29 to 35 (groups, vectors) in test_faults_groups, 60 to 70 (around a run) in test_faults_run, and what ends a command in
test_faults_commands. 36 to 59 are tested where what they strike is. The dataset is the same after every test.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fairsynth.data.decode import inspect_image
from fairsynth.errors import DataError
from fairsynth.manifest import image_id
from fairsynth.stages.report.pictures.sheets import sheet
from tests.support.datasets import crops, encoded, tiny_folder_dataset, write_rows
from tests.support.ingesting import LENIENT, Ingested, decided, ingested, inspected, metadata_of

# 64 images.
SIZES = {"train": (10, 6, 6, 10), "val": (4,) * 4, "test": (4,) * 4}
HEADER = ("file_name", "split", "label", "attribute")
PHOTO = encoded(crops()[0])
CASES = Path(__file__).with_name("CASES.md")


# How a case without a test begins, and what is still to come of one that has some.
REASONS = re.compile(r"(none|being built): \S+")


def listed() -> dict[int, list[str]]:
    """The cases of CASES.md, and the files that each is said to be tested in: at least one, or a reason why not."""
    rows = [line.strip("|").split(" | ") for line in CASES.read_text("utf-8").splitlines() if re.match(r"\| \d", line)]
    cases = {int(row[0]): re.findall(r"\]\((.+?)\)", row[-1]) for row in rows}
    assert [int(row[0]) for row in rows] == list(cases) and {len(row) for row in rows} == {4}
    assert all(cases[int(row[0])] or REASONS.match(row[-1].strip()) for row in rows)
    return cases


def named(source: str) -> set[int]:
    """The cases that tests are named after, each or a whole section of them."""
    sections = re.findall(r"^# Fault cases? ([^:]+):", source, re.M)
    alone = re.findall(r"^def test_case_(\d\d)_", source, re.M)
    return {int(number) for number in [*alone, *re.findall(r"\d+", " ".join(sections))]}


def test_every_case_of_the_list_has_its_tests() -> None:
    assert list(listed()) == list(range(1, 71))
    for number, files in listed().items():
        assert all(number in named((CASES.parent / file).read_text("utf-8")) for file in files), number


def test_every_number_of_a_test_is_in_the_list() -> None:
    sources = {path: path.read_text("utf-8") for path in CASES.parents[1].glob("**/test_*.py")}
    commands = {int(n) for n in re.findall(r'^    "(\d\d) ', sources[CASES.with_name("test_faults_commands.py")], re.M)}
    assert {1, 2, 15, 33} <= commands <= set(listed())
    assert set().union(*map(named, sources.values())) == {number for number, files in listed().items() if files}


def one_bad_in_64(tmp_path: Path, content: bytes) -> Ingested:
    """Ingest a dataset in which one file is bad; the others must be as they are without it."""
    (tmp_path / "clean").mkdir()
    clean = ingested(tiny_folder_dataset(tmp_path / "clean" / "data", SIZES), tmp_path / "clean" / "out")
    root = tiny_folder_dataset(tmp_path / "data", SIZES, changed={17: content})
    found = ingested(root, tmp_path / "out", **LENIENT)
    others = [row for row in clean.manifest.rows() if row["path"] != "train/0017.png"]
    assert found.manifest.rows() == others and len(others) == 63
    assert found.record["counts"] == {"input": 64, "used": 63, "quarantined": 1, "excluded": 0}
    return found


def test_case_01_an_empty_file_is_quarantined_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    assert one_bad_in_64(tmp_path, b"").reasons == {"train/0017.png": "empty"}


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_case_02_a_truncated_file_is_quarantined_and_its_neighbours_are_kept(
    tmp_path: Path, format: str, share: float
) -> None:
    content = encoded(crops()[200], format)
    assert one_bad_in_64(tmp_path, content[: int(len(content) * share)]).reasons == {"train/0017.png": "truncated"}


def test_case_03_what_is_no_image_is_quarantined_and_a_wrong_extension_is_not(tmp_path: Path) -> None:
    assert one_bad_in_64(tmp_path, b"some text").reasons == {"train/0017.png": "unidentified"}
    root = tiny_folder_dataset(tmp_path / "named", SIZES, changed={3: encoded(crops()[0], "JPEG")})
    result = decided(root)
    assert result.counts.used == 64
    assert result.remarks == ["1 files have the extension of another format: they are read by their content"]


def test_case_04_images_of_one_unit_do_not_share_a_fate(tmp_path: Path) -> None:
    # All 64 are one unit; the table of reasons names the one.
    found = one_bad_in_64(tmp_path, PHOTO[:-40])
    assert len(list((found.folder / "units").iterdir())) == 1
    (row,) = pq.read_table(found.folder / "quarantine.parquet").to_pylist()
    assert (row["path"], row["stage"], row["reason"]) == ("train/0017.png", "ingest", "truncated") and row["detail"]


def texts(table: pa.Table) -> str:
    """Everything that a table holds."""
    return json.dumps(table.to_pylist(), default=repr)


def test_case_08_places_and_people_in_exif_are_in_no_output(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Canary Artist"
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 21.125), 3: "E", 4: (11.0, 34.0, 30.5), 29: "2001:02:03"}
    content = encoded(crops()[0], "JPEG", exif=exif, comment=b"Canary comment")
    assert b"Canary" in content and Image.open(io.BytesIO(content)).getexif().get_ifd(0x8825)
    root = tiny_folder_dataset(tmp_path / "data", SIZES, changed={0: content})
    found = ingested(root, tmp_path / "out")
    outputs = [texts(pq.read_table(path)) for path in found.folder.rglob("*.parquet")]
    outputs += [path.read_text("utf-8") for path in found.folder.rglob("*.json")]
    outputs += [json.dumps(inspected(root))]
    assert len(outputs) >= 5
    for text in outputs:
        assert not any(canary in text for canary in ("Canary", "2001:02:03", "21.125", "48.0"))
    image, _ = inspect_image(content)
    assert not dict(image.getexif()) and not {"exif", "comment", "xmp"} & image.info.keys()
    shown = base64.b64decode(sheet([content]).uri.partition(",")[2])
    assert b"Canary" not in shown and not dict(Image.open(io.BytesIO(shown)).getexif())


@pytest.mark.parametrize(
    "content", [b"SIMPLE  =                    T", b"%!PS-Adobe", b"8BPS\0\1", b"<svg xmlns='x'/>", b"%PDF-1.7"]
)
def test_case_11_formats_that_are_not_read_are_named(tmp_path: Path, content: bytes) -> None:
    found = one_bad_in_64(tmp_path, content * 10)
    assert found.reasons == {"train/0017.png": "format"}
    assert "allowed are JPEG, PNG" in found.quarantine[0]["detail"]


def test_case_14_exact_copies_of_one_label_count_once_and_are_told(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, photos=True, changed=dict.fromkeys((2, 5, 7), PHOTO))
    # Number 0 is that crop as well.
    found = ingested(root, tmp_path / "out")
    first = image_id("train/0000.png")
    copies = {row["path"]: row["duplicate_of"] for row in found.manifest.rows() if row["duplicate_of"]}
    assert copies == {f"train/{i:04d}.png": first for i in (2, 5, 7)}
    assert found.record["counts"]["used"] == 64 and "3 images are exact copies" in found.record["remarks"][0]
    assert inspected(root)["copies"] == [[f"train/{i:04d}.png" for i in (0, 2, 5, 7)]]


def test_case_15_one_content_under_two_groups_is_refused_or_both_are_quarantined(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, changed=dict.fromkeys((0, 30), PHOTO))
    message = (
        r"^2 of 64 images occur under different labels or attributes, more than data\.max_conflict_fraction 0\.001"
    )
    with pytest.raises(DataError, match=message):
        decided(root)
    found = ingested(root, tmp_path / "out", max_conflict_fraction=0.1)
    both = ("train/0000.png", "train/0030.png")
    assert found.reasons == dict.fromkeys(both, "conflicting_groups")
    assert {row["path"] for row in inspected(root)["conflicts"]} == set(both)
    assert len(found.manifest) == 62


def test_case_16_a_leak_leaves_training_and_stays_where_it_is_evaluated(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, changed=dict.fromkeys((1, 48), PHOTO))
    with pytest.raises(
        DataError, match=r"^1 of 32 training images are in another split too, more than .* 0\.01 allows"
    ):
        decided(root)
    found = ingested(root, tmp_path / "out", max_leak_fraction=0.05)
    (row,) = found.excluded
    expected = {"path": "train/0001.png", "stage": "ingest", "reason": "leak"}
    assert row == expected | {"detail": "same content as test/0048.png in test"}
    assert "test/0048.png" in found.manifest.column("path") and "train/0001.png" not in found.manifest.column("path")


def rows(folder: Path) -> list[tuple[str, ...]]:
    """The dataset's own metadata."""
    lines = (folder / "metadata.csv").read_text().splitlines()[1:]
    return [tuple(line.split(",")) for line in lines]


def refusal(root: Path, **data: object) -> str:
    """Why a dataset's metadata are refused."""
    with pytest.raises(DataError) as caught:
        metadata_of(root, **data)
    return str(caught.value)


def test_case_17_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    write_rows(root / "metadata.csv", ("file_name", "split", "labels", "attribute"), rows(root))
    text = refusal(root)
    assert "no column 'label' (did you mean 'labels'?)" in text and "file_name, split, labels, attribute" in text


def test_case_18_a_row_without_file_is_quarantined_and_a_file_without_row_is_an_orphan(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    (root / "train/0004.png").rename(root / "train/more.png")
    found = ingested(root, tmp_path / "out", **LENIENT)
    assert found.reasons == {"train/0004.png": "missing_file"}
    assert found.record["counts"] == {"input": 64, "used": 63, "quarantined": 1, "excluded": 0}
    assert inspected(root, **LENIENT)["orphans"] == ["train/more.png"]


def test_case_19_equal_rows_are_one_and_different_rows_are_refused(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    given = rows(root)
    write_rows(root / "metadata.csv", HEADER, [*given, given[0], given[0], given[9]])
    found = ingested(root, tmp_path / "out")
    assert Counter(row["path"] for row in found.excluded) == {given[0][0]: 2, given[9][0]: 1}
    assert found.record["counts"] == {"input": 67, "used": 64, "quarantined": 0, "excluded": 3}
    write_rows(root / "metadata.csv", HEADER, [*given, (given[0][0], "train", "dog", "indoor")])
    assert refusal(root).startswith(f"the metadata gives {given[0][0]!r} twice with different label")


def test_case_20_values_are_text_and_empty_ones_are_never_guessed(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, labels=("NA", "01"), attributes=("None", "nan"))
    found = ingested(root, tmp_path / "out")
    assert {*found.manifest.column("label")} == {"NA", "01"} and {*found.manifest.column("attribute")} == {
        "None",
        "nan",
    }
    given = [(*row[:3], "" if number in (3, 4) else row[3]) for number, row in enumerate(rows(root))]
    write_rows(root / "metadata.csv", HEADER, given)
    assert "2 rows have an empty attribute (values: 'nan' 32, 'None' 30)" in refusal(root)
    dropped = ingested(root, tmp_path / "out", unknown="drop")
    assert dropped.record["reasons"]["excluded"] == {"unknown_attribute": 2}
    own = ingested(root, tmp_path / "out", unknown="own_group", allow_missing=True)
    assert own.manifest.column("attribute").count("unknown") == 2


def test_case_21_marks_and_line_ends_do_not_matter_and_other_encodings_are_named(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, labels=("cat, small", 'the "dog"\nof a friend'))
    plain = decided(root).manifest
    assert {*plain.column("label")} == {"cat, small", 'the "dog"\nof a friend'}
    table = root / "metadata.csv"
    for content in (b"\xef\xbb\xbf" + table.read_bytes(), table.read_bytes().replace(b"\r\n", b"\n")):
        table.write_bytes(content)
        assert decided(root).manifest.rows() == plain.rows()
    write_rows(table, HEADER, [(f"{i}.png", "train", "x", "p") for i in range(3)])
    table.write_bytes(table.read_bytes() + "café.png,train,x,p\n".encode("latin-1"))
    assert "is not UTF-8 (line 5); save it as UTF-8" in refusal(root)
