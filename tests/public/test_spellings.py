"""Any spelling of a dataset gives the manifest of its plain form, or one clear line with exit code 3 that names the cause.

Property tests over random combinations: separators, encodings, marks, line ends, spellings of the header, styles of
paths, number formats of codes, Unicode forms of values and names, hidden files, names of splits, kinds of tables.
"""

from __future__ import annotations

import json
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.metadata import Entry
from fairsynth.errors import DataError
from tests.support.data.dataset_files import image, load, put
from tests.support.ingesting import inspected
from tests.support.public import ROWS, csv_text

HEADERS = {
    "file_name": ("file_name", "filename", "File_Name", "file-name", " file_name", "image_file_name", "FILE NAME"),
    "label": ("label", "Label", " label ", "LABEL"),
    "attribute": ("attribute", "Attribute", "attribute "),
    "split": ("split", "Split", "SPLIT "),
}
SPLITS = {
    "train": ("train", "Training", " TRAIN ", "training_set", "train2017"),
    "val": ("val", "valid", "Validation", "dev", "val_set"),
    "test": ("test", "Testing", "TEST", "test_images"),
}
CODES = {"cat": ("0", "0.0", "0.", "-0.0", "0.000"), "dog": ("1", "1.0", "1.", "1.00", "1.0")}
ATTRIBUTES = {"in": "dr\u00ednnen", "out": "\u1e09 au\u00dfen"}
HIDDEN = (".DS_Store", "._metadata.csv", ".hidden/x.jpg", "__MACOSX/images/._00000.jpg", "images/._00001.jpg")
PATHS = {
    "plain": lambda name, root: name,
    "dot": lambda name, root: f"./{name}",
    "backslash": lambda name, root: name.replace("/", "\\"),
    "root": lambda name, root: f"{root}/{name}",
    "double": lambda name, root: name.replace("/", "//"),
    "decomposed": lambda name, root: unicodedata.normalize("NFD", name),
}


@dataclass(frozen=True)
class Spelling:
    """How a dataset is written down."""

    header: tuple[str, str, str, str]
    splits: tuple[str, str, str]
    codes: tuple[int, ...]
    form: str
    path: str
    separator: str
    encoding: str
    end: str
    kind: str
    hidden: tuple[str, ...]


spellings = st.builds(
    Spelling,
    st.tuples(*(st.sampled_from(names) for names in HEADERS.values())),
    st.tuples(*(st.sampled_from(words) for words in SPLITS.values())),
    st.tuples(*(st.integers(0, 4) for _ in range(3))),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(sorted(PATHS)),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["csv", "tsv", "CSV", "jsonl", "parquet"]),
    st.sets(st.sampled_from(HIDDEN)).map(lambda names: tuple(sorted(names))),
)


def name_of(name: str) -> str:
    """A file's name with an accent, composed on the disk."""
    return f"images/\u00e9{name}"


def write(root: Path, spelling: Spelling) -> None:
    """Write the dataset in this spelling."""
    rows = []
    for number, (name, label, attribute, split) in enumerate(ROWS):
        put(root / name_of(name), image(number))
        rows.append((
            PATHS[spelling.path](name_of(name), root.name),
            CODES[label][spelling.codes[number % 3]],
            unicodedata.normalize(spelling.form, ATTRIBUTES[attribute]),
            spelling.splits[("train", "val", "test").index(split)],
        ))  # fmt: skip
    for name in spelling.hidden:
        put(root / name, image(0))
    table = root / f"metadata.{spelling.kind}"
    if spelling.kind == "jsonl":
        lines = [json.dumps(dict(zip(spelling.header, row, strict=True)), ensure_ascii=False) for row in rows]
        put(table, (spelling.end if spelling.end != "\r" else "\n").join(lines).encode(spelling.encoding, "replace"))
    elif spelling.kind == "parquet":
        columns = {name: pa.array([row[i] for row in rows]) for i, name in enumerate(spelling.header)}
        pq.write_table(pa.table(columns), table)
    else:
        put(
            table,
            csv_text([spelling.header, *rows], spelling.separator, spelling.end).encode(spelling.encoding, "replace"),
        )


EXPECTED = sorted(Entry(name_of(name), split, {"cat": "0", "dog": "1"}[y], ATTRIBUTES[a]) for name, y, a, split in ROWS)
REFUSED = {"utf-16-le": "UTF-16 without a byte order mark", "cp1252": "is not UTF-8"}


@settings(max_examples=100, deadline=None)
@given(spelling=spellings)
def test_any_spelling_gives_the_plain_manifest_or_names_the_cause(spelling: Spelling) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write(root, spelling)
        if spelling.encoding in REFUSED and spelling.kind != "parquet":
            with pytest.raises(DataError, match=REFUSED[spelling.encoding]) as caught:
                load(root)
            assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
        else:
            assert sorted(load(root).entries) == EXPECTED


# Every file that looks like an image is used, set aside with a reason, or counted as not named.
ODD = (
    "a.heic",
    "b.AVIF",
    "train/c.jfif",
    "train/cat/d.gif",
    "train/cat/in/e.jxl",
    "train/cat/in/deep/f.png",
    "test/y/g.tif",
)
LAYOUTS = ("table", "classes", "utkface", "parquet", "tar", "waterbirds", "celeba")


@settings(max_examples=40, deadline=None)
@given(layout=st.sampled_from(LAYOUTS), odd=st.sets(st.sampled_from(ODD)), gone=st.integers(0, 3))
def test_every_file_that_looks_like_an_image_is_counted(layout: str, odd: set[str], gone: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inside = _write_layout(root, layout)
        for number, name in enumerate(sorted(odd)):
            put(root / name, image(100 + number) if number % 2 else b"no image")
        files = [
            path
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in (".jpg", *{Path(n).suffix.lower() for n in ODD})
        ]
        for path in [path for path in files if path.parent.name in ("images", "birds", "img_align_celeba")][:gone]:
            path.unlink()
        names = {"table": "folder", "classes": "classfolder", "tar": "webdataset"}
        found = inspected(root, format=names.get(layout, layout))["images"]
        assert found["input"] == found["used"] + found["quarantined"] + found["excluded"]
        assert found["input"] + found["not_named"] == len(files) + inside


def _write_lists(root: Path, layout: str) -> None:
    """Waterbirds' table or CelebA's lists, and their images."""
    codes = [(name, int(y == "dog"), int(a == "out"), ("train", "val", "test").index(s)) for name, y, a, s in ROWS]
    for number, (name, *_) in enumerate(codes):
        put(root / ("birds" if layout == "waterbirds" else "img_align_celeba") / name, image(number))
    if layout == "waterbirds":
        rows = [(str(i), f"birds/{name}", str(y), str(s), str(a)) for i, (name, y, a, s) in enumerate(codes)]
        put(root / "metadata.csv", csv_text([("img_id", "img_filename", "y", "split", "place"), *rows]))
    else:
        attributes = "".join(f"{name} {2 * y - 1} {2 * a - 1}\n" for name, y, a, _ in codes)
        put(root / "list_attr_celeba.txt", f"{len(codes)}\nBlond_Hair Male\n{attributes}")
        put(root / "list_eval_partition.txt", "".join(f"{name} {s}\n" for name, _, _, s in codes))


def _write_layout(root: Path, layout: str) -> int:
    """Write the small dataset; returns how many images lie inside of other files."""
    from tests.support.data.dataset_files import write_tar
    from tests.support.public import image_folder

    if layout == "table":
        image_folder(root)
    elif layout in ("waterbirds", "celeba"):
        _write_lists(root, layout)
    elif layout == "parquet":
        table = {
            "image": [image(n) for n in range(len(ROWS))],
            "label": [r[1] for r in ROWS],
            "attribute": [r[2] for r in ROWS],
        }
        pq.write_table(pa.table(table | {"split": [r[3] for r in ROWS]}), root / "all.parquet")
    elif layout == "tar":
        members = []
        for number, (name, y, a, split) in enumerate(ROWS):
            fields = {"label": y, "attribute": a, "split": split}
            members += [(name, image(number)), (name.replace(".jpg", ".json"), json.dumps(fields).encode())]
        write_tar(root / "all.tar", members)
    else:
        for number, (name, y, a, split) in enumerate(ROWS):
            age, gender = {"in": 3, "out": 30}[a], int(y == "dog")
            face = f"{age}_{gender}_0_2017011617452{number:04d}.jpg"
            put(root / (face if layout == "utkface" else f"{split}/{y}/{a}/{name}"), image(number))
    return len(ROWS) if layout in ("parquet", "tar") else 0
