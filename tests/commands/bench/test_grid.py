"""The grid: which cells there are, and a small one that runs, resumes and says what a run says."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fairsynth.classify.methods import TITLES
from fairsynth.classify.policies import POLICIES, Policy
from fairsynth.commands.bench.grid import ABLATION, Cell, cells
from fairsynth.commands.bench.published import published_for
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.pipeline import needed
from tests.conftest import small_arguments
from tests.support.calling import call, called
from tests.support.datasets import encoded, picture


def images_of_groups(folder: Path, sizes: dict[tuple[str, str], int]) -> None:
    """An image folder with so many images of each group in every split."""
    lines = ["file_name,label,attribute,split"]
    for split in ("train", "val", "test"):
        for (label, attribute), n in sizes.items():
            for i in range(n):
                name = f"{split}-{label}-{attribute}-{i}.png"
                folder.mkdir(exist_ok=True)
                (folder / name).write_bytes(encoded(picture(0, 0, len(lines)), "PNG"))
                lines.append(f"{name},{label},{attribute},{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))


def grid(**bench: object) -> list[Cell]:
    return cells(load_config(None, "demo", {f"bench.{name}": value for name, value in bench.items()}))


def test_every_method_is_trained_once_on_its_images() -> None:
    found = grid(severities=["original", "99%"], generators=["vanilla", "lora"], seeds=2)
    assert [(c.level, c.repetition, c.variant) for c in found] == [
        (level, repetition, variant)
        for level in ("original", "99 %")
        for repetition in (0, 1)
        for variant in ("", "vanilla", "lora")
    ]
    assert found[0].methods == (
        "erm",
        "resample",
        "reweight",
        "group-dro",
        "jtt",
        "lff",
        "lisa",
        "dfr",
        "dfr-train",
        "afr",
    )
    assert {*found[0].methods, "ffr", "fairsynth"} == set(TITLES)
    # FFR learns from the unchanged base model's images alone.
    assert [c.methods for c in found[1:3]] == [("ffr", "fairsynth"), ("fairsynth",)]


def test_a_cells_config_differs_in_its_own_settings_alone() -> None:
    base = load_config(None, "demo", {"seed": 7})
    config = Cell(0.99, 2, ("erm",), "k 2", {"cluster.k": 2}).config(base)
    assert (config.data.severity, config.tune.methods, config.cluster.k) == (0.99, ("erm",), 2)
    assert config.seed not in (7, 9)
    same = config.model_copy(update={"data": base.data, "seed": base.seed, "tune": base.tune, "cluster": base.cluster})
    assert same == base


def test_cells_of_real_images_need_no_generation() -> None:
    real, vanilla = (c.config(load_config(None, "demo")) for c in grid(generators=["vanilla"]))
    assert needed(real, "evaluate") == ["ingest", "tune", "evaluate"]
    assert needed(vanilla, "evaluate") == [
        "ingest",
        "embed",
        "cluster",
        "finetune",
        "synthesize",
        "audit",
        "tune",
        "evaluate",
    ]
    assert len(needed(real, "report")) == 9  # a run makes the synthetic set, whatever is compared


POLICY_ROWS = {", ".join(policy) for policy in POLICIES}


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    found = grid(ablation=True, generators=[], methods=["fairsynth"], variants={"mine": {"filter.keep": 1.0}})
    assert [c.variant for c in found] == [*ABLATION, "mine"]
    base = load_config(None, "demo")
    for cell in found:
        policy = {name for name in cell.settings if name.removeprefix("classify.") in Policy._fields}
        # k counts for nothing beside an adapter for all groups.
        others = 0 if cell.variant in POLICY_ROWS else 2 if cell.variant.startswith("k ") else 1
        assert len(policy) == (0 if cell.variant == "mine" else 4) and len(cell.settings) - len(policy) == others
        assert (cell.config(base).classify != base.classify) == bool(policy)
    assert len(ABLATION) == 16 + len(POLICIES)
    assert next(c for c in found if c.variant == "k 1").config(base).cluster.k == 1
    assert found[-1].config(base).filter.keep == 1.0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--bench.severities", "[150%]"], "bench.severities"),
        (["--bench.methods", "[erm, erm]"], "bench.methods names something twice: erm, erm"),
        (["--bench.severities", "[99%, 0.99]"], "bench.severities names something twice"),
        (["--bench.methods", "[ffr]", "--bench.generators", "[lora]"], "nothing to compare"),
        (["--bench.variants", "{mine: {cluster.kk: 3}}"], "unknown key 'cluster.kk' (did you mean 'cluster.k'?)"),
        (["--bench.variants", "{mine: {cluster.k: 0}}"], "cluster.k"),
        (["--bench.methods", "[ermm]"], "bench.methods"),
        (["--bench.variants", "{vanilla: {synthesize.guidance: 2}}"], "'vanilla' is no name for a variant"),
        (["--bench.variants", "{'': {cluster.k: 2}}"], "is no name for a variant"),
        (["--classify.batch_size", "1"], "classify.batch_size"),
        (["--seed", "-1"], "seed"),
        ([], "compare what?"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything_runs(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    words = ["--preset", "demo", "--out", str(tmp_path / "out")] if arguments else []
    code, _, errors = call("bench", *words, *arguments)
    assert code == 2 and expected in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_settings_that_there_are_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key 'nothing'"):
        Cell(None, 0, ("fairsynth",), "v", {"nothing": 1}).config(load_config(None, "demo"))


def test_a_severity_that_the_dataset_cannot_have_is_refused_at_once(tmp_path: Path) -> None:
    images_of_groups(tmp_path / "data", {("cat", "in"): 30, ("cat", "out"): 2, ("dog", "in"): 2, ("dog", "out"): 30})
    options = [
        "--data.format",
        "folder",
        "--data.root",
        str(tmp_path / "data"),
        "--bench.severities",
        "[original, 80%]",
    ]
    code, _, errors = call("bench", "--preset", "demo", "--out", str(tmp_path / "out"), *options)
    assert code == 3 and "choose a higher severity, or original" in errors
    assert not (tmp_path / "out" / "stages").exists()


def test_published_figures_stand_beside_the_same_question_alone() -> None:
    def count(preset: str, **changed: object) -> int:
        return len(published_for(load_config(None, preset, {f"data.{k}": v for k, v in changed.items()})))

    assert count("waterbirds", root="x") == count("celeba", root="x") == 16 and count("demo") == 0
    assert count("celeba", root="x", label_column="Smiling") == 0


def test_discovered_attributes_need_clusters_but_no_images() -> None:
    config = load_config(None, "demo", {"data.attribute": "discover", "tune.methods": ["erm"]})
    assert needed(config, "evaluate") == ["ingest", "embed", "cluster", "tune", "evaluate"]


def test_a_small_grid_runs_resumes_and_agrees_with_the_run(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    options = ["--bench.methods", "[erm, dfr, fairsynth]", "--bench.generators", "[clustered-dreambooth]"]
    first = called("bench", *small_arguments(out), *options)
    assert first.returncode == 0, first.stderr
    assert "[1/2] original, real images: erm, dfr" in first.stdout
    assert "[2/2] original, clustered-dreambooth: fairsynth" in first.stdout
    # What the run had made is not made again.
    assert "synthesize nothing to do" in first.stdout
    table = (out / "bench" / "table.md").read_text()
    assert table in first.stdout and "| DFR |" in table and "| fairsynth, clustered-dreambooth |" in table
    assert {p.name for p in (out / "bench").iterdir()} == {"table.md", "table.csv", "bench.json", "curve.png"}
    # ERM's figures are those of the run, for it saw the same images with the same seeds.
    facts = json.loads((out / "bench" / "bench.json").read_text())
    report = json.loads((finished_run / "report.json").read_text())
    known = {method["name"]: method for method in report["methods"]}
    for row in facts["rows"]:
        if row["method"] in known:
            figures = known[row["method"]]
            for name in (
                "worst_group_accuracy",
                "accuracy",
                "accuracy_train_prior",
                "ece",
                "equalized_odds_difference",
            ):
                assert row["figures"][name]["values"][0] == pytest.approx(figures[name]["per_seed"])
    ours = next(row for row in facts["rows"] if row["method"] == "fairsynth")
    assert ours["images"] == sum(group["made"] for group in report["groups"])
    assert ours["worker_seconds"] > next(row for row in facts["rows"] if row["method"] == "erm")["worker_seconds"] > 0
    lines = list(csv.DictReader((out / "bench" / "table.csv").open()))
    assert [line["method"] for line in lines] == ["erm", "dfr", "fairsynth"]
    before = {p.name: p.read_bytes() for p in (out / "bench").iterdir() if p.suffix != ".png"}
    again = called("bench", *small_arguments(out), *options)
    assert again.returncode == 0 and "tune       nothing to do" in again.stdout
    assert {p.name: p.read_bytes() for p in (out / "bench").iterdir() if p.suffix != ".png"} == before


def test_test_images_reach_nothing_but_the_evaluation(finished_run: Path) -> None:
    """The marker of a test image is its id, its path and its pixels; of a training image they are found."""
    import numpy as np

    (ingest,) = (finished_run / "stages").glob("ingest-*")
    rows = pq.read_table(ingest / "manifest.parquet").to_pylist()
    marks = {split: {r["image_id"] for r in rows if r["split"] == split} for split in ("train", "val", "test")}
    found: dict[str, set[str]] = {split: set() for split in marks}
    pixels: dict[str, set[bytes]] = {}
    for path in sorted((finished_run / "stages").rglob("*")):
        stage = path.relative_to(finished_run / "stages").parts[0].rsplit("-", 1)[0]
        if stage in ("ingest", "evaluate", "report") or not path.is_file():
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                values = (
                    table[name].to_pylist()
                    if str(table.schema.field(name).type) in ("string", "list<item: string>")
                    else []
                )
                texts = {t for value in values for t in (value if isinstance(value, list) else [value]) if t}
                for split, known in marks.items():
                    found[split] |= texts & known
        elif path.name == "pixels.npy":
            pixels[path.parent.name] = {image.tobytes() for image in np.load(path)}
        elif path.suffix in (".json", ".txt", ".md"):
            text = path.read_text("utf-8")
            for split, known in marks.items():
                found[split] |= {mark for mark in known if mark in text}
    assert found["test"] == set() and len(found["train"]) == len(marks["train"]) and found["val"] == marks["val"]
    (evaluate,) = (finished_run / "stages").glob("evaluate-*")
    tests = {image.tobytes() for image in np.load(evaluate / "units" / "pack-test" / "pixels.npy")}
    assert set(pixels) == {"pack-train", "pack-val", "pack-synthetic-fairsynth"} and len(tests) > 1000
    assert not tests & set.union(*pixels.values())
    predicted = pq.read_table(evaluate / "predictions.parquet")["image_id"].to_pylist()
    assert set(predicted) == marks["test"]
