"""Portraits and landscapes through the pipeline, whole: by the demo's models, with ``models.shapes`` buckets."""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from fairsynth.groups import Group
from fairsynth.models.adapters import FILE_NAME, FULL_FILE_NAME
from fairsynth.stages.synthesize.image_plan import shares
from tests.conftest import SMALL
from tests.support.comparing import sha, stage_folder
from tests.support.datasets import crops, encoded, write_rows
from tests.support.shared.in_process import one_ray, through

TALL, WIDE, SQUARE = (40, 24), (24, 40), (32, 32)
LABELS, ATTRIBUTES = ("low", "high"), ("building", "flower")
# Upright, lying and square images of each group, in the order (label, attribute); validation and test have squares.
COUNTS = ((10, 2, 2), (2, 9, 1), (6, 6, 0), (0, 3, 9))
SETTINGS = SMALL | {
    "cluster.k": 1,
    "cluster.min_group": 10,
    "cluster.min_size": 10,
    "synthesize.routing": "own",
    "shared.use": False,
    "filter.min_probability": 0,
    "filter.near_duplicates": False,
    "filter.near_copies": False,
}


def dataset(root: Path, counts: Sequence[Sequence[int]]) -> Path:
    """Crops of photographs, each of another place; of all shapes as many pixels as the demo's models see."""
    rows, members = list[tuple[object, ...]](), list[tuple[str, Group, tuple[int, int]]]()
    groups = [Group(label, attribute) for label in LABELS for attribute in ATTRIBUTES]
    for group, its in zip(groups, counts, strict=True):
        members += [
            ("train", group, shape) for shape, n in zip((TALL, WIDE, SQUARE), its, strict=True) for _ in range(n)
        ]
        members += [(split, group, SQUARE) for split in ("val", "test") for _ in range(4)]
    for number, (split, group, (height, width)) in enumerate(members):
        name = f"{split}/{number:03d}.png"
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(crops()[number].crop((10, 10, 10 + width, 10 + height))))
        rows.append((name, split, *group))
    write_rows(root / "metadata.csv", ("file_name", "split", "label", "attribute"), rows)
    return root


def run(last: str, root: Path, out: Path, shapes: str, **changed: object) -> None:
    """The pipeline up to a stage; keys of ``changed`` use ``__`` for the dot."""
    settings = SETTINGS | {"out": str(out), "data.format": "auto", "data.root": str(root), "models.shapes": shapes}
    through(last, settings | {key.replace("__", "."): value for key, value in changed.items()})


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with one_ray():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("data") / "shapes", COUNTS)


@pytest.fixture(scope="module")
def out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of a run up to the audit."""
    folder = tmp_path_factory.mktemp("runs") / "out"
    run("audit", root, folder, "buckets")
    return folder


def learnt() -> dict[Group, Counter[tuple[int, int]]]:
    """Training images of each group by shape."""
    groups = [Group(label, attribute) for label in LABELS for attribute in ATTRIBUTES]
    return {
        group: Counter({shape: n for shape, n in zip((TALL, WIDE, SQUARE), its, strict=True) if n})
        for group, its in zip(groups, COUNTS, strict=True)
    }


def test_images_are_learnt_in_their_own_shapes(out: Path) -> None:
    adapters = {path.parent.name for path in stage_folder(out, "finetune").glob(f"units/*/{FILE_NAME}")}
    assert adapters == {f"{group.slug}--0" for group in learnt()}
    found = Counter[tuple[int, int]]()
    for file in sorted(stage_folder(out, "embed").glob("units/images*/embeddings.parquet")):
        table = pq.read_table(file)
        found.update(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
        for mean, shape in zip(table["mean"].to_pylist(), table["latent_shape"].to_pylist(), strict=True):
            assert len(mean) == shape[0] * shape[1] * shape[2]
    expected = sum(learnt().values(), Counter())
    assert found == expected and len(expected) == 3


def test_synthetic_images_have_the_shapes_of_real_ones_in_their_proportion(out: Path) -> None:
    folder = stage_folder(out, "synthesize")
    plan = pq.read_table(folder / "plan-0.parquet").to_pylist()
    for group, shapes in learnt().items():
        made = Counter((row["height"], row["width"]) for row in plan if Group(row["label"], row["attribute"]) == group)
        exact = sorted(shares(sum(made.values()), [shapes[shape] for shape in sorted(shapes)]))
        assert sorted(made.values()) == [n for n in exact if n] and {*made} <= {*shapes}
        assert all(abs(made[shape] - sum(made.values()) * n / shapes.total()) < 1 for shape, n in shapes.items())
    sizes = Counter[tuple[int, int]]()
    with open(out / "synthetic" / "metadata.csv", encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            with Image.open(out / "synthetic" / row["file_name"]) as image:
                # The shorter side of most images of the dataset is 24 pixels, as of the shapes that are no squares.
                expected = (24, 24) if row["height"] == row["width"] else (int(row["height"]), int(row["width"]))
                assert (image.height, image.width) == expected
            sizes[expected] += 1
    assert {*sizes} == {(24, 24), TALL, WIDE} and sizes.total() == 4 * SMALL["synthesize.per_group"]
    card = (out / "synthetic" / "README.md").read_text("utf-8")
    assert 'height=row["height"],' in card


def content(folder: Path) -> Mapping[str, str]:
    """What a stage made, file by file."""
    return {path.relative_to(folder).as_posix(): sha(path) for path in folder.rglob("images.parquet")}


def test_what_was_lost_midway_is_made_again_the_same(root: Path, out: Path, tmp_path: Path) -> None:
    whole, again = stage_folder(out, "synthesize"), tmp_path / "again"
    shutil.copytree(out, again)
    broken = again / "stages" / whole.name
    (broken / "artifact.json").unlink()
    for unit in sorted((broken / "units").iterdir())[::2]:
        shutil.rmtree(unit)
    assert 0 < len(content(broken)) < len(content(whole))
    run("synthesize", root, again, "buckets")
    assert content(broken) == content(whole)
    first, second = (pq.read_table(folder / "synthetic.parquet") for folder in (whole, broken))
    assert first == second


def test_images_that_are_all_squares_give_the_same_adapters_either_way(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data", [(0, 0, 11)] * 4)
    weights = []
    for shapes in ("square", "buckets"):
        run("finetune", root, tmp_path / shapes, shapes)
        files = stage_folder(tmp_path / shapes, "finetune").glob(f"units/*/{FILE_NAME}")
        weights.append({path.parent.name: sha(path) for path in files})
    assert weights[0] == weights[1] and len(weights[0]) == 4
    assert stage_folder(tmp_path / "square", "embed").name != stage_folder(tmp_path / "buckets", "embed").name


def test_the_whole_network_is_trained_on_several_shapes_too(root: Path, out: Path, tmp_path: Path) -> None:
    # What it is trained on is there.
    for folder in (stage_folder(out, stage) for stage in ("ingest", "embed")):
        shutil.copytree(folder, tmp_path / "out" / "stages" / folder.name)
    # One group is large enough for a network of its own.
    changed = {
        "finetune__parameters": "full",
        "finetune__steps": 4,
        "synthesize__per_group": 8,
        "cluster__min_group": 13,
    }
    run("synthesize", root, tmp_path / "out", "buckets", **changed)
    (network,) = stage_folder(tmp_path / "out", "finetune").glob(f"units/*/{FULL_FILE_NAME}")
    sizes, folder = set[tuple[int, int]](), stage_folder(tmp_path / "out", "synthesize")
    plan = pq.read_table(folder / "plan-0.parquet").to_pylist()
    made = {row["image_id"] for row in plan if row["adapter"] == network.parent.name}
    for unit in folder.glob("units/*/images.parquet"):
        rows = [row for row in pq.read_table(unit).to_pylist() if row["image_id"] in made]
        sizes |= {Image.open(io.BytesIO(row["file"])).size for row in rows}
    assert {TALL[::-1], WIDE[::-1]} <= sizes
