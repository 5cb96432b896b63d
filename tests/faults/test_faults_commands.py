"""Faults of data at the command line: exit code 3, one clear line, before Ray or torch are loaded, and no change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import fairsynth
from tests.support.datasets import crops, encoded, tiny_folder_dataset, tree, write_rows

SIZES = {"train": (12, 11, 11, 12), "val": (4,) * 4, "test": (4,) * 4}
SAME = encoded(crops()[0])


def data(root: Path, **options: object) -> Path:
    """A dataset."""
    return tiny_folder_dataset(root, SIZES, **options)  # type: ignore[arg-type]


def more_rows(root: Path, *rows: str) -> None:
    """A dataset with further rows."""
    (data(root) / "metadata.csv").open("ab").write("".join(f"{row}\n" for row in rows).encode("latin-1"))


def without(root: Path, split: str) -> None:
    """A dataset that lacks one group of a split."""
    tiny_folder_dataset(root, SIZES | {split: (0, *SIZES[split][1:])})


def renamed_column(root: Path) -> None:
    """A dataset whose label column is called otherwise."""
    text = (data(root) / "metadata.csv").read_text()
    (root / "metadata.csv").write_text(text.replace("label", "lable", 1))


def gone(root: Path) -> None:
    """A dataset with two rows more than files."""
    data(root)
    for name in ("train/0000.png", "train/0001.png"):
        (root / name).unlink()


def archive(root: Path) -> None:
    """An archive that is called like a dataset."""
    root.with_suffix(".zip").write_bytes(b"PK\3\4")


# Case, how the dataset is made, further options, part of the message.
FAULTS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "01 empty files": (
        lambda root: data(root, changed={0: b"", 1: b""}),
        [],
        "2 of 78 images cannot be used (empty 2)",
    ),
    "02 truncated files": (
        lambda root: data(root, changed={0: SAME[:-90], 1: SAME[:-90]}),
        [],
        "2 of 78 images cannot be used (truncated 2)",
    ),
    "15 conflicts": (
        lambda root: data(root, changed={0: SAME, 40: SAME}),
        [],
        "2 of 78 images occur under different labels or attributes",
    ),
    "16 leaks": (
        lambda root: data(root, changed={0: SAME, 46: SAME}),
        [],
        "1 of 46 training images are in another split",
    ),
    "17 missing column": (renamed_column, [], "no column 'label' (did you mean 'lable'?)"),
    "18 missing files": (gone, [], "2 of 78 images cannot be used (missing_file 2)"),
    "19 different rows": (lambda root: more_rows(root, "train/0000.png,train,dog,outdoor"), [], "twice with different"),
    "20 unknown attribute": (lambda root: more_rows(root, "x.png,train,dog,"), [], "1 rows have an empty attribute"),
    "21 latin-1": (lambda root: more_rows(root, "caf\xe9.png,train,dog,outdoor"), [], "is not UTF-8 (line 80)"),
    "22 escape": (lambda root: more_rows(root, "../x.png,train,dog,outdoor"), [], "must be a relative path inside"),
    "22 url": (
        lambda root: more_rows(root, "file:///etc/passwd,train,dog,outdoor"),
        [],
        "must be a relative path inside",
    ),
    "26 hostile label": (
        lambda root: more_rows(root, "x.png,test,\x1b[2J<b>,outdoor"),
        [],
        r"label '\x1b[2J<b>' occurs only outside the training split",
    ),
    "27 archive": (archive, ["--data.root", "{root}.zip"], "is an archive; unpack it and give the folder"),
    "29 one label": (lambda root: data(root, labels=("cat", "cat")), [], "the single label 'cat'"),
    "29 no split": (lambda root: tiny_folder_dataset(root, {"train": (9, 9, 9, 9)}), [], "no images in split 'val'"),
    "31 no validation": (lambda root: without(root, "val"), [], "group (cat, indoor) has no validation images"),
    "33 many clusters": (
        data,
        ["--cluster.k", "12", "--cluster.min_group", "10"],
        "cluster.k is 12, but group (cat, outdoor) has only 11",
    ),
    "severity": (
        lambda root: tiny_folder_dataset(root, SIZES | {"train": (12, 1, 1, 12)}),
        ["--data.severity", "80%"],
        "data.severity 0.8 needs 3 images of label 'cat' that go against 'indoor', but there are 1",
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, bool]]:
    """Exit code, output, errors and whether the dataset stayed the same, of 'fairsynth run' on each fault.

    All commands in one process, where importing ray or torch ends it.
    """
    folder = tmp_path_factory.mktemp("faults")
    for name in ("ray", "torch"):
        (folder / f"{name}.py").write_text(
            "import os, traceback\ntraceback.print_stack(file=open(2, 'w'))\nos._exit(99)\n"
        )
    jobs, before = {}, {}
    for number, (case, (make, options, _)) in enumerate(FAULTS.items()):
        root = folder / f"data{number}"
        make(root)
        before[case] = tree(root)
        words = ["run", "--preset", "demo", "--data.format", "auto", "--data.root", str(root), "--cluster.k", "5"]
        jobs[case] = [*words, "--out", str(folder / f"out{number}"), *(word.format(root=root) for word in options)]
    code = (
        "import contextlib, io, json, sys\n"
        "from fairsynth.cli import main\n"
        "found = {}\n"
        "for case, words in json.loads(sys.stdin.read()).items():\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:\n"
        "        code = main(words)\n"
        "    found[case] = code, out.getvalue(), errors.getvalue()\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(jobs),
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    same = {case: tree(folder / f"data{number}") == before[case] for number, case in enumerate(FAULTS)}
    return {case: (*outcome, same[case]) for case, outcome in found.items()}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_the_data_ends_with_3_and_one_line(
    outcomes: dict[str, tuple[int, str, str, bool]], case: str
) -> None:
    code, out, errors, same = outcomes[case]
    assert (code, out) == (3, "")
    assert errors.startswith("fairsynth: ") and errors.count("\n") == 1 and errors[:-1].isprintable()
    assert FAULTS[case][2] in errors
    assert same, "the dataset was changed"


@pytest.mark.slow
def test_the_same_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("import os\nos._exit(99)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    root = data(tmp_path / "data", changed={0: b"", 1: b""})
    words = ("--preset", "demo", "--data.format", "folder", "--data.root", str(root), "--out", str(tmp_path / "out"))
    done = fairsynth("run", *words, timeout=120)
    assert done.returncode == 3 and "(empty 2)" in done.stderr and done.stderr.count("\n") == 1
    write_rows(root / "metadata.csv", ("file_name", "split", "label", "attribute"), [])
    done = fairsynth("inspect", str(root), timeout=120)
    assert done.returncode == 3 and "has no rows" in done.stderr and done.stderr.count("\n") == 1
