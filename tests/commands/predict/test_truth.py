"""predict --truth: labels and attributes from tables and datasets, and what becomes of every image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.commands.predict.truth import Known, matched, read_truth
from fairsynth.config import DataConfig
from fairsynth.data.storage import Storage
from tests.support.calling import call, refused
from tests.support.data.dataset_files import put
from tests.support.models.classifiers import expected_of, put_run

LABELS = ["0", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_run(tmp_path_factory.mktemp("run"), LABELS)


def said_by(run: Path) -> list[str]:
    return [LABELS[place] for place in expected_of(run).argmax(1)]


def predicted(run: Path, to: Path, *more: str | Path) -> tuple[str, dict[str, Any]]:
    """What predict prints, and its figures."""
    code, out, err = call("predict", run / "images", "--run", run, "--to", to, *more)
    assert code == 0 and not err, err
    return out, json.loads(to.with_suffix(".groups.json").read_text("utf-8"))


def table(path: Path, *rows: str) -> Path:
    return put(path, "\n".join([*rows, ""]))


def test_every_image_is_used_or_left_out_with_a_reason(run: Path, tmp_path: Path) -> None:
    right = said_by(run)
    wrong = LABELS[1 - LABELS.index(right[1])]
    put(run / "images" / "b" / "broken.png", b"no image")
    truth = table(
        tmp_path / "truth.csv", "path,label,attribute", f"a/0.png,{right[0]}.0,x", f"./a/1.png,{wrong},x",
        f"{run}/images/a/2.png,{right[2]},y", "a/3.png,,y", "a/4.png,0,", "a/5.png,2,y", "b/broken.png,0,x", "gone.png,0,x",
    )  # fmt: skip
    out, figures = predicted(run, tmp_path / "t.csv", "--truth", truth)
    (run / "images" / "b" / "broken.png").unlink()
    assert figures["images"] == 8 and figures["used"] == 3 and figures["rows_without_image"] == 1
    assert figures["excluded"] == {
        "cannot_be_read": 1, "label_not_of_classifier": 1, "no_attribute": 1, "no_label": 1, "no_row": 1
    }  # fmt: skip
    (part,) = figures["parts"]
    assert part["n"] == 3 and part["accuracy"] == pytest.approx(2 / 3)
    assert part["worst_group"] == {"label": wrong, "attribute": "x", "n": 1} and part["worst_group_accuracy"] == 0
    assert "left out of these figures: cannot_be_read 1, " in out and "names 1 images that are not among these" in out
    rows = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert rows[0] == "path,label,probability,reason,true_label,attribute,split,p: 0,p: 1"
    assert rows[2].split(",")[4:7] == [wrong, "x", ""]


def test_figures_of_groups_take_no_other_files_place(run: Path, tmp_path: Path) -> None:
    mine = put(tmp_path / "t.groups.json", '{"mine": 1}')
    truth = table(tmp_path / "truth.csv", "path,label,attribute", f"a/0.png,{said_by(run)[0]},x")
    words = ("predict", run / "images", "--run", run, "--to", tmp_path / "t.csv", "--truth", truth)
    assert "t.groups.json is there and not written by predict" in refused(call(*words))
    assert mine.read_text("utf-8") == '{"mine": 1}' and not (tmp_path / "t.csv").exists()
    mine.unlink()
    assert call(*words)[0] == call(*words)[0] == 0


def test_a_datasets_folder_is_read_by_its_reader_and_each_split_has_its_figures(run: Path, tmp_path: Path) -> None:
    right, data = said_by(run), tmp_path / "data"
    for n, label in enumerate(right):
        content = (run / "images" / "a" / f"{n}.png").read_bytes()
        put(data / ("test" if n < 5 else "train") / label / ("x" if n % 2 else "y") / f"{n}.png", content)
    out, _ = predicted_of(data, run, tmp_path / "t.parquet")
    assert f"labels are in {data}, too; for the accuracy of each group: --truth {data}" in out
    out, figures = predicted_of(data, run, tmp_path / "t.parquet", "--truth", data)
    assert [(part["split"], part["n"], part["accuracy"]) for part in figures["parts"]] == [
        ("test", 5, 1),
        ("train", 2, 1),
    ]
    assert "accuracy by group, split test:" in out and "\ntrain: 2 images, accuracy 100.0 %" in out
    # Only a part of the dataset's images.
    _, figures = predicted_of(data / "test", run, tmp_path / "t.parquet", "--truth", data)
    assert (figures["images"], figures["used"], figures["rows_without_image"]) == (5, 5, 2)
    assert pq.read_table(tmp_path / "t.parquet")["true_label"].to_pylist() == sorted(right[:5])


def predicted_of(images: Path, run: Path, to: Path, *more: str | Path) -> tuple[str, dict[str, Any]]:
    code, out, err = call("predict", images, "--run", run, "--to", to, *more)
    assert code == 0 and not err, err
    file = to.with_suffix(".groups.json")
    return out, json.loads(file.read_text("utf-8")) if file.exists() else {}


def test_images_in_a_parquet_dataset_are_classified(run: Path, tmp_path: Path) -> None:
    right = said_by(run)
    images = [{"bytes": (run / "images" / "a" / f"{n}.png").read_bytes(), "path": None} for n in range(7)]
    (tmp_path / "data").mkdir()
    content = {"image": images, "label": right, "attribute": ["x"] * 7, "split": ["test"] * 7}
    pq.write_table(pa.table(content), tmp_path / "data" / "test.parquet")
    code, _, err = call("predict", tmp_path / "data", "--run", run, "--to", tmp_path / "t.csv")
    assert code == 3 and f"for images in shards or in Parquet: --truth {tmp_path / 'data'}" in err
    out, figures = predicted_of(tmp_path / "data", run, tmp_path / "t.csv", "--truth", tmp_path / "data")
    assert figures["used"] == 7 and figures["parts"][0]["accuracy"] == 1 and "7 images in" in out


def test_attributes_alone_give_shares_and_labels_alone_accuracies(run: Path, tmp_path: Path) -> None:
    right = said_by(run)
    rows = [f"a/{n}.png,{'x' if n < 4 else 'y'}" for n in range(7)]
    out, figures = predicted(
        run, tmp_path / "t.csv", "--truth", table(tmp_path / "a.csv", "file_name,attribute", *rows)
    )
    (part,) = figures["parts"]
    shares = [sum(label == "1" for label in its) / len(its) for its in (right[:4], right[4:])]
    assert [one["shares"]["1"] for one in part["predicted"]] == pytest.approx(shares)
    assert part["demographic_parity_difference"] == pytest.approx(abs(shares[0] - shares[1]))
    assert "accuracy" not in part and "predicted labels by attribute:" in out and "taken as 1" in out
    rows = [f"a/{n}.png\t{label}" for n, label in enumerate(right)]
    out, figures = predicted(run, tmp_path / "t.csv", "--truth", table(tmp_path / "l.tsv", "path\tlabel", *rows))
    (part,) = figures["parts"]
    assert part["accuracy"] == 1 and {g["attribute"] for g in part["groups"]} == {""} and "predicted" not in part


def test_columns_are_those_that_were_asked_for_else_the_runs_else_the_usual(tmp_path: Path) -> None:
    put(tmp_path / "a.png", b"x")
    file = table(tmp_path / "t.csv", "path,label,y,attribute,place,split", "a.png,0,1,a,b,validation")

    def read(data: DataConfig, **of_run: Any) -> Known:
        return read_truth(str(file), data, of_run).known["a.png"]

    assert read(DataConfig()) == Known("0", "a", "val")
    assert read(DataConfig(), label_column="y", attribute_column=["place"]) == Known("1", "b", "val")
    assert read(DataConfig(), label_column="other") == Known("0", "a", "val")
    data = DataConfig(label_column="y", attribute_column=("place", "attribute"))
    assert read(data, label_column="label") == Known("1", "place=b, attribute=a", "val")


def test_rows_that_contradict_each_other_are_not_believed(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", "path,label", "a.png,0", "a.png,1", "b.png,1", "b.png,1", "c.png,1", "./c.png,0")
    known, reasons, without = matched(
        read_truth(str(file), DataConfig(), {}), Storage(str(tmp_path)), ["a.png", "b.png", "c.png", "d.png"]
    )
    assert known == {"b.png": Known("1", "", "")} and without == 0
    assert reasons == {"a.png": "different_rows", "c.png": "different_rows", "d.png": "no_row"}


def test_paths_count_from_the_tables_folder_or_from_that_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    images = Storage(str(tmp_path / "data" / "images"))
    for place, path in (("data", "images/a.png"), (".", "data/images/a.png"), (".", "a.png"), ("data/images", "a.png")):
        file = table(tmp_path / place / "t.csv", "path,label", f"{path},0")
        assert matched(read_truth(str(file), DataConfig(), {}), images, ["a.png"])[0] == {"a.png": Known("0", "", "")}
        file.unlink()


def test_a_wrong_truth_is_told_before_any_image_is_read(run: Path, tmp_path: Path) -> None:
    def told(truth: Path | str, *more: str) -> str:
        to = tmp_path / "t.csv"
        code, out, err = call("predict", run / "images", "--run", run, "--to", to, "--truth", truth, *more)
        assert code == 3 and not out and not to.exists()
        return err

    assert "does not exist" in told(tmp_path / "none.csv")
    assert "has no column of file names; it has: label" in told(table(tmp_path / "a.csv", "label", "0"))
    assert "has neither a column label nor attribute; it has: path, y" in told(
        table(tmp_path / "b.csv", "path,y", "a/0.png,0")
    )
    assert "names none of the 7 images: its first is 'b.png', the first image 'a/0.png'" in told(
        table(tmp_path / "c.csv", "path,label", "b.png,0")
    )
    words = table(tmp_path / "d.csv", "path,label,y", "a/0.png,cat,0")
    assert "(cat) are not those of the classifier (0, 1); choose their column with --data.label_column" in told(words)
    assert "has no column 'z'" in told(words, "--data.label_column", "z")
    assert predicted(run, tmp_path / "t.csv", "--truth", words, "--data.label_column", "y")[1]["used"] == 1
    before = words.read_bytes()
    same = call("predict", run / "images", "--run", run, "--to", words, "--truth", words)
    assert "is there and not written by predict; give a new name with --to" in refused(same)
    assert words.read_bytes() == before
    assert "did you mean --truth?" in refused(call("predict", run / "images", "--run", run, "--thruth", words))
    assert "unknown key 'data.lable_column'" in refused(
        call("predict", run / "images", "--run", run, "--data.lable_column", "y")
    )
