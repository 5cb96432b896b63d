"""Inspect: planted faults are all found, and nothing else; figures are those computed by hand."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fairsynth.commands.inspect.findings import association, fate
from fairsynth.commands.inspect.run import inspect_dataset
from fairsynth.commands.inspect.text import SHOWN, lines
from fairsynth.config import RunConfig
from tests.conftest import fairsynth
from tests.support.datasets import crops, encoded, tiny_folder_dataset, unchanged, write_rows
from tests.support.ingesting import inspected

# 300 images; numbers run through train, val and test.
MANY = {"train": (100, 20, 20, 100), "val": (10, 10, 5, 5), "test": (10, 10, 5, 5)}
FINDINGS = ("conflicts", "leaks", "copies", "near_copies", "orphans", "wrong_extensions", "remarks", "problems")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 different textured images."""
    return tiny_folder_dataset(tmp_path_factory.mktemp("clean") / "data", MANY, photos=True)


def test_a_clean_dataset_has_no_findings(clean: Path) -> None:
    found = inspected(clean)
    assert all(found[name] == [] for name in FINDINGS)
    assert found["quarantine"] == found["excluded"] == {"by_reason": {}, "files": []}
    assert found["images"] == {"input": 300, "used": 300, "quarantined": 0, "excluded": 0, "not_named": 0}
    assert found["formats"] == {"PNG": 300} and found["format"] == "folder" and found["root"] == str(clean)
    assert found["sizes"] == {"smallest": [96, 96], "median": [96, 96], "largest": [96, 96]}
    assert {(g["label"], g["attribute"]): (g["train"], g["val"], g["test"], g["fate"]) for g in found["groups"]} == {
        ("cat", "indoor"): (100, 10, 10, "adapters of its own"),
        ("cat", "outdoor"): (20, 10, 10, "adapters of its own"),
        ("dog", "indoor"): (20, 5, 5, "adapters of its own"),
        ("dog", "outdoor"): (100, 5, 5, "adapters of its own"),
    }


def numbered(folder: Path) -> Iterator[Path]:
    """Files of a folder in order."""
    yield from sorted(folder.glob("*.png"))


def plant(root: Path) -> dict[str, Any]:
    """Write a dataset with faults of every kind, each in files of its own; returns what is to be found."""
    tiny_folder_dataset(root, MANY, photos=True)
    train, val, test = (numbered(root / split) for split in ("train", "val", "test"))

    def put(path: Path, content: bytes) -> str:
        path.write_bytes(content)
        return str(path.relative_to(root))

    def whole(path: Path) -> Image.Image:
        return Image.open(path).convert("RGB")

    expected: dict[str, Any] = {}
    photo = next(train).read_bytes()
    bad = {
        "empty": b"",
        "truncated": photo[: len(photo) // 2],
        "unidentified": b"not an image at all",
        "format": b"%!PS-Adobe-3.0",
        "too_small": encoded(crops()[320].resize((96, 5))),
        "aspect": encoded(crops()[321].resize((420, 20))),
        "low_information": encoded(Image.new("RGB", (96, 96), "navy")),
        "too_large": encoded(Image.new("1", (9000, 9000))),
    }
    expected["quarantine"] = {put(next(train), content): reason for reason, content in bad.items()}
    gone, loop, outside = next(train), next(train), next(train)
    (root.parent / "outside.png").write_bytes(encoded(crops()[322]))
    for path, target, reason in (
        (gone, None, "missing_file"),
        (loop, loop, "unreadable"),
        (outside, "o", "outside_root"),
    ):
        path.unlink()
        if target is not None:
            path.symlink_to(root.parent / "outside.png" if target == "o" else path.name)
        expected["quarantine"][str(path.relative_to(root))] = reason
    copied = next(train)
    expected["copies"] = [[str(copied.relative_to(root)), *(put(next(train), copied.read_bytes()) for _ in range(2))]]
    leaked, validated = next(val), next(test)
    into_test, into_val = put(next(train), validated.read_bytes()), put(next(train), leaked.read_bytes())
    late = next(val)
    expected["leaks"] = {into_test, into_val, put(late, next(test).read_bytes())}
    conflicting = next(train)  # a cat indoors; number 200 is a dog outdoors
    dog = root / "train" / "0200.png"
    expected["conflicts"] = {str(conflicting.relative_to(root)), put(dog, conflicting.read_bytes())}
    # Near copies, from the photographs with most to see.
    cats = [next(train) for _ in range(60)]
    sources = iter(sorted(cats, key=lambda path: -len(path.read_bytes())))
    near = []
    for how, target, other_split, other_group in (
        ("jpeg", next(val), True, False),
        ("half", root / "train" / "0210.png", False, True),
        ("double", next(train), False, False),
        ("jpeg", root / "val" / "0262.png", True, True),
    ):
        source = next(sources)
        image = whole(source)
        if how == "jpeg":
            content = encoded(image, "JPEG", quality=60)
        else:
            side = 48 if how == "half" else 192
            content = encoded(image.resize((side, side), Image.Resampling.BICUBIC))
        paths = [str(source.relative_to(root)), put(target, content)]
        near.append((sorted(paths), other_split, other_group))
    expected["near_copies"] = near
    jpeg, webp = next(val), next(val)
    expected["wrong_extensions"] = {
        put(jpeg, encoded(whole(jpeg), "JPEG", quality=95)),
        put(webp, encoded(whole(webp), "WEBP", lossless=True)),
        *(path for paths, *_ in (near[0], near[3]) for path in paths[-1:]),
    }
    (root / "more").mkdir()
    put(root / ".hidden.png", photo)
    put(root / "readme.txt", b"no image")
    expected["orphans"] = {put(root / "more" / "new.JPG", photo), put(root / "stray.png", photo)}
    return expected


def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    expected = plant(tmp_path / "data")
    found = inspected(tmp_path / "data")
    assert {row["path"]: row["reason"] for row in found["quarantine"]["files"]} == expected["quarantine"]
    assert found["copies"] == expected["copies"]
    for name in ("leaks", "conflicts"):
        assert {row["path"] for row in found[name]} == expected[name]
    alike = [(sorted(s["paths"]), s["across_splits"], s["across_groups"]) for s in found["near_copies"]]
    assert sorted(alike) == sorted(expected["near_copies"])
    for name in ("wrong_extensions", "orphans"):
        assert set(found[name]) == expected[name] and len(found[name]) == len(expected[name])
    away = {name: len(expected[name]) for name in ("quarantine", "conflicts", "leaks")}
    quarantined = away["quarantine"] + away["conflicts"]
    images = {"input": 300, "used": 300 - quarantined - 3, "quarantined": quarantined, "excluded": 3, "not_named": 2}
    assert found["images"] == images
    assert [text.split(",")[0] for text in found["problems"]] == [
        "11 of 300 images cannot be used (empty 1",
        "2 of 300 images occur under different labels or attributes",
    ]
    assert sum(g[split] for g in found["groups"] for split in ("train", "val", "test")) == images["used"]


def test_the_text_names_every_finding(tmp_path: Path) -> None:
    expected = plant(tmp_path / "data")
    text = "\n".join(lines(inspected(tmp_path / "data")))
    for path in (*expected["quarantine"], *expected["leaks"], *expected["conflicts"], *expected["orphans"]):
        assert path in text
    assert "images that look alike: 4" in text and "(in different splits)" in text and "(in different groups)" in text
    assert text.endswith("a run would refuse this dataset")


def test_a_long_list_is_cut_in_the_text_and_whole_in_json(tmp_path: Path) -> None:
    found = inspected(tiny_folder_dataset(tmp_path, MANY, photos=True, changed={i: b"" for i in range(SHOWN + 5)}))
    text = list(lines(found))
    assert f"quarantined, empty: {SHOWN + 5}" in text and "  and 5 more (--json lists all)" in text
    assert sum("train/00" in line for line in text) == SHOWN + 1  # one more in the problem
    assert len(found["quarantine"]["files"]) == SHOWN + 5


def test_independent_label_and_attribute_have_no_association() -> None:
    tied = association({("x", "p"): 10, ("x", "q"): 30, ("y", "p"): 20, ("y", "q"): 60})
    assert tied["n"] == 120
    assert tied["mutual_information_bits"] == pytest.approx(0, abs=1e-12)
    assert tied["normalised"] == pytest.approx(0, abs=1e-12) and tied["cramers_v"] == pytest.approx(0, abs=1e-12)
    assert tied["per_label"] == [
        {"label": "x", "attribute": "q", "share": 0.75},
        {"label": "y", "attribute": "q", "share": 0.75},
    ]


def test_an_attribute_that_decides_the_label_has_all_there_is() -> None:
    tied = association({("x", "p"): 8, ("y", "q"): 8})
    assert (tied["mutual_information_bits"], tied["normalised"], tied["cramers_v"]) == (1, 1, 1)
    # Three labels, two attributes: the attribute says one bit less than the label has.
    tied = association({("x", "p"): 4, ("y", "q"): 2, ("z", "q"): 2})
    assert tied["mutual_information_bits"] == pytest.approx(1) and tied["normalised"] == pytest.approx(1)
    assert tied["cramers_v"] == pytest.approx(1)
    tied = association({("x", "p"): 3, ("y", "q"): 3, ("z", "r"): 3})
    assert tied["mutual_information_bits"] == pytest.approx(math.log2(3))
    assert tied["normalised"] == pytest.approx(1) and tied["cramers_v"] == pytest.approx(1)


def test_the_association_of_a_two_by_two_table_by_hand() -> None:
    # 0.95 and 0.05 of each label: 1 bit less the entropy of 0.05.
    tied = association({("x", "p"): 95, ("x", "q"): 5, ("y", "p"): 5, ("y", "q"): 95})
    entropy = -(0.95 * math.log2(0.95) + 0.05 * math.log2(0.05))
    assert tied["mutual_information_bits"] == pytest.approx(1 - entropy) == pytest.approx(0.7136030428840437)
    assert tied["cramers_v"] == pytest.approx(0.9)  # phi = (ad - bc) / sqrt of the margins' product
    assert [entry["share"] for entry in tied["per_label"]] == [0.95, 0.95]
    # Waterbirds' training split: 3498, 184, 56 and 1057.
    birds = association({("0", "0"): 3498, ("0", "1"): 184, ("1", "0"): 56, ("1", "1"): 1057})
    phi = (3498 * 1057 - 184 * 56) / math.sqrt(3682 * 1113 * 3554 * 1241)
    assert birds["cramers_v"] == pytest.approx(phi)
    assert birds["per_label"][0]["share"] == pytest.approx(0.95003, abs=1e-5)


def test_a_single_value_has_no_association_and_no_nan() -> None:
    assert association({}) == {"n": 0}
    tied = association({("x", "p"): 5, ("y", "p"): 5})
    assert tied["normalised"] is None and tied["cramers_v"] is None and tied["mutual_information_bits"] == 0


def test_a_dataset_that_is_hopeless_is_still_described(tmp_path: Path) -> None:
    sizes = {"train": (3, 0, 0, 0), "val": (1, 0, 0, 0)}
    found = inspected(tiny_folder_dataset(tmp_path, sizes, changed={i: b"" for i in range(4)}))
    assert found["images"]["used"] == 0 and found["sizes"] == {} and found["association"] == {"n": 0}
    parts = (
        "no images in split 'test'",
        "4 of 4 images cannot be used (empty 4)",
        "no usable image is left of split train",
    )
    assert all(any(part in problem for problem in found["problems"]) for part in parts)
    assert any("single label" in problem for problem in found["problems"])


def test_fates_of_groups() -> None:
    config = RunConfig()
    assert fate(config, 10) == "adapters of its own"
    assert fate(config, 9) == "fewer than 10 training images: no adapter of its own"
    assert fate(config, 0) == "no training images: not synthesised"
    made = RunConfig(synthesize={"absent_groups": "make"})
    assert fate(made, 0) == "no training images: made as groups without adapters are"


def test_copies_do_not_make_a_group_larger(tmp_path: Path) -> None:
    sizes = {"train": (30, 12, 12, 30), "val": (5,) * 4, "test": (5,) * 4}
    same = dict.fromkeys(range(30, 34), encoded(crops()[320]))
    found = inspected(tiny_folder_dataset(tmp_path, sizes, photos=True, changed=same))
    (group,) = (g for g in found["groups"] if (g["label"], g["attribute"]) == ("cat", "outdoor"))
    assert group["train"] == 12 and group["fate"].startswith("fewer than 10 training images")  # 9 different ones


def test_what_a_severity_leaves_out_is_left_out_and_no_orphan(clean: Path) -> None:
    found = inspected(clean, severity=0.95)
    # 100 of each label are aligned: ceil(100 / 19) = 6 of 20 stay.
    assert found["excluded"]["by_reason"] == {"severity": 28} and found["orphans"] == []
    assert found["images"] == {"input": 300, "used": 272, "quarantined": 0, "excluded": 28, "not_named": 0}
    assert [entry["share"] for entry in found["association"]["per_label"]] == [100 / 106, 100 / 106]
    assert {g["train"] for g in found["groups"]} == {100, 6}


def test_an_attribute_that_is_to_be_discovered_has_no_groups_yet(clean: Path) -> None:
    found = inspected(clean, attribute="discover")
    assert [(g["label"], g["attribute"], g["train"]) for g in found["groups"]] == [("cat", "", 120), ("dog", "", 120)]
    assert {g["fate"] for g in found["groups"]} == {"attributes are to be discovered"}
    assert found["association"]["normalised"] is None and found["problems"] == []


@pytest.mark.slow
def test_the_demo_can_be_inspected_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    found = inspect_dataset(RunConfig(data={"format": "demo"}))
    assert (found["root"], found["problems"], found["images"]["used"]) == ("demo", [], 2994)
    assert list(tmp_path.iterdir()) == []


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    done = fairsynth("inspect", *map(str, arguments), timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command_leaves_the_dataset_and_the_current_folder_alone(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with unchanged(clean):
        code, out, errors = command(clean, "--json")
    assert (code, errors, list(tmp_path.iterdir())) == (0, "", [])
    found = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert found == inspected(clean)


@pytest.mark.slow
def test_the_command_ends_with_3_if_a_run_would_refuse(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", changed={0: b""})
    code, out, errors = command(root)
    assert (code, errors) == (3, "") and "problem: 1 of 32 images cannot be used (empty 1)" in out
    assert command(root, "--data.max_bad_fraction", "0.5", "--data.max_bad_group_fraction", "0.5")[0] == 0
    write_rows(root / "metadata.csv", ("file_name", "split", "lable", "attribute"), [("a.png", "train", "x", "p")])
    code, out, errors = command(root)
    assert (code, out) == (3, "") and "did you mean 'lable'?" in errors and errors.count("\n") == 1
