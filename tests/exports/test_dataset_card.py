"""The set's card: what the hub reads of it, that it states what is known and nothing else, and that its code runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of
from fairsynth.exports.dataset_card import Layout, dataset_card
from fairsynth.exports.formats import write_folder, write_parquet, write_webdataset
from fairsynth.exports.set_facts import GroupFacts
from tests.support.cards import HOSTILE, facts
from tests.support.datasets import encoded, picture

LAYOUTS: tuple[Layout, ...] = ("folder", "parquet", "webdataset")
HEAD = ["label", "attribute", "real, training", "synthetic", "wanted", "made by", "rejected", "remark"]


def read(card: str) -> tuple[dict[str, Any], list[Token]]:
    """The front matter, and the rest as CommonMark with tables has it."""
    before, front, body = card.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(front), MarkdownIt("commonmark").enable("table").parse(body)


def shown(token: Token) -> str:
    """The text of a token, which holds nothing but text and code."""
    assert {child.type for child in token.children or ()} <= {"text", "code_inline"}, token.content
    return "".join(child.content for child in token.children or ())


def text(card: str) -> str:
    """All that is read, without marks."""
    return "\n".join(shown(token) for token in read(card)[1] if token.type == "inline")


def table(card: str) -> list[list[str]]:
    """What is shown in the cells of all tables, row by row."""
    rows: list[list[str]] = []
    for opened, token in pairwise(read(card)[1]):
        if opened.type == "tr_open":
            rows.append([])
        if opened.type in ("td_open", "th_open"):
            rows[-1].append(shown(token))
    return rows


def flat(text: str) -> str:
    return re.sub(r"[\s\u202e\x1b]+", " ", text).strip()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_front_matter_is_what_the_hub_reads(layout: Layout) -> None:
    card = dataset_card(facts(), layout)
    front = DatasetCard(card).data.to_dict()
    assert front == read(card)[0]
    assert (front["license"], front["task_categories"]) == ("other", ["image-classification"])
    assert front["size_categories"] == ["n<1K"] and {"synthetic", "fairness"} <= set(front["tags"])


@pytest.mark.parametrize(
    ("accepted", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (2 * 10**6, "1M<n<10M")]
)
def test_the_size_is_one_of_the_hub_s(accepted: int, size: str) -> None:
    group = facts().groups[0]._replace(accepted=accepted)
    assert read(dataset_card(facts(groups=(group,)), "folder"))[0]["size_categories"] == [size]


def test_the_numbers_are_those_of_the_groups() -> None:
    card = dataset_card(facts(), "folder")
    own, prompt = "adapters trained on the group's own images", "the base model by the prompt alone"
    assert table(card) == [
        HEAD,
        ["low", "flower", "15", "300", "300", own, "copy 10, low_score 90", ""],
        ["high", "sea", "0", "120", "300", prompt, "0", "no training images"],
        ["label", "attribute", "prompt"],
        ["low", "flower", "a sks low"],
        ["low", "flower", "a sks flower"],
        ["high", "sea", "a high"],
    ]
    shown = text(card)
    assert "420 synthetic images in 2 (label, attribute) groups" in shown
    assert "In all 420 of 520 generated images are in the set." in shown
    assert "Groups that are smaller than was wanted: (high, sea) has 120 of 300." in shown
    for known in (
        "base model: org/diffusion, version abc123, float32", "adapters: LoRA of rank 8", "the best 75 % by score",
        "DDIMScheduler, 12 steps, guidance 2.5; 32 px; the run's seed is 7", "CLIP: org/clip, version def456",
        "files: JPEG, 48 x 48 px",
    ):  # fmt: skip
        assert known in shown, known


def test_guidance_that_ends_before_the_last_step_is_told() -> None:
    half = text(dataset_card(facts(guidance_until=0.5), "folder"))
    assert "12 steps, guidance 2.5 in the first 50% of the steps; 32 px" in half


def test_a_way_with_two_guidances_has_both() -> None:
    one, other = (group._replace(generator="own") for group in facts().groups)
    shown = text(dataset_card(facts(groups=(one, other._replace(guidance=(4.0, 2.5)))), "folder"))
    assert "guidance 2.5 and 4; 32 px" in shown


def test_groups_that_were_not_made_are_told_and_not_called_small() -> None:
    left = GroupFacts("high", "sea", 15, 0, 300, "none", {}, (), "no route shows it")
    shown = text(dataset_card(facts(groups=(facts().groups[0], left)), "folder"))
    assert "300 synthetic images in 1 of 2 (label, attribute) groups" in shown
    assert "Groups that were not made, because they could not be shown: (high, sea)." in shown
    assert "no route shows it" in shown and "smaller than was wanted" not in shown and "In this folder" in shown
    # A group that was not wanted does not lack.
    absent = left._replace(quota=0, real=0)
    assert "were not made" not in text(dataset_card(facts(groups=(facts().groups[0], absent)), "folder"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_an_empty_set_there_is_nothing_to_load(layout: Layout) -> None:
    shown = text(dataset_card(facts(groups=(GroupFacts("high", "sea", 15, 0, 300, "none", {}),)), layout))
    assert "0 synthetic images in 0 of 1 (label, attribute) groups" in shown
    assert "There is nothing to load: the set is empty." in shown and "In this folder" not in shown


def test_what_is_not_known_is_not_there() -> None:
    group = GroupFacts("a", "b", 1, 2, 2, "own", {})
    card = dataset_card(facts(groups=(group,), finetune=""), "parquet")
    assert "adapters:" not in card and "smaller than was wanted" not in card and "prompt |" not in card
    assert not re.search(r"more information needed|todo|tbd|none\b|\[\]|\{\}|<[a-z_]+>|nan\b", card, re.I)


def test_no_licence_is_invented() -> None:
    card = dataset_card(facts(), "folder")
    assert "no licence was stated to fairsynth" in card and "must confirm" in text(card)
    known = text(
        dataset_card(facts(inherits=("org/diffusion: CreativeML OpenRAIL-M", "faces: research only")), "folder")
    )
    assert "(org/diffusion: CreativeML OpenRAIL-M; faces: research only)" in known and "must confirm" in known
    for content in (card, known):
        assert not re.search(r"\b(mit|apache|cc0|cc-by|public domain)\b", content, re.I)


def test_privacy_is_measured_or_said_not_to_be() -> None:
    assert "Privacy not measured" in text(dataset_card(facts(), "folder"))
    measured = text(dataset_card(facts(audit={"copies": 3, "nearest": 0.123456}), "folder"))
    assert "copies: 3, nearest: 0.1235" in measured and "not measured" not in measured
    assert "no guarantee" not in measured and "nothing here is a guarantee of anonymity" in measured


def test_hostile_text_is_shown_as_it_is_and_does_nothing() -> None:
    groups = tuple(GroupFacts(t, t, 1, 2, 3, t, {t: 4}, (t,), t) for t in HOSTILE)
    card = dataset_card(facts(groups=groups), "folder")
    cells = table(card)
    for hostile, row, prompt in zip(HOSTILE, cells[1:], cells[len(HOSTILE) + 2 :], strict=False):
        assert row == [flat(hostile), flat(hostile), "1", "2", "3", flat(hostile), flat(f"{hostile} 4"), flat(hostile)]
        assert prompt == [flat(hostile), flat(hostile), flat(hostile).replace("`", "'").replace("|", "/")]
    tame = dataset_card(
        facts(groups=tuple(GroupFacts("a", "b", 1, 2, 3, "own", {"c": 4}, ("d",)) for _ in HOSTILE)), "folder"
    )
    tokens = [[t.type for t in read(c)[1] if t.level < 3] for c in (card, tame)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_name_stays_in_its_place(hostile: str) -> None:
    changed = {
        "name": hostile,
        "source_dataset": hostile,
        "diffusion": hostile,
        "filter": hostile,
        "scheduler": hostile,
    }
    changed |= {"inherits": (hostile,), "audit": {hostile: hostile}, "finetune": hostile}
    card = dataset_card(facts(**changed), "folder")
    assert read(card)[0]["pretty_name"] == hostile
    plain = dataset_card(facts(audit={"a": 1}), "folder")
    # A title's text may be empty; the blocks are the same.
    assert [t.type for t in read(card)[1]] == [t.type for t in read(plain)[1]]
    assert text(card)
    (code,) = [t.content for t in read(card)[1] if t.type == "fence" and "base =" in t.content]
    names: dict[str, Any] = {}
    exec(next(line for line in code.splitlines() if line.startswith("base =")), names)
    assert names["base"] == hostile


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    with session_of(ResourcesConfig()) as session:
        session.connect()
        yield


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_code_that_is_shown_reads_what_lies_beside_the_card(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_ray: None
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"image_id": f"i{i}", "label": "NA" if i % 2 else "b", "attribute": "c"} for i in range(9)]
    images = ((row, encoded(picture(0, 0, i))) for i, row in enumerate(rows))
    if layout == "folder":
        write_folder(folder, images, ".png")
    else:
        (write_parquet if layout == "parquet" else write_webdataset)(folder, images, 4)
    card, names = dataset_card(facts(), layout), dict[str, Any]()
    (folder / "README.md").write_text(card)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    exec(next(t.content for t in read(card)[1] if t.type == "fence"), names)
    assert (len(names["images"]), len(names["rows"]), names["table"].count()) == (9, 9, 9)
    if layout == "folder":
        assert names["pixels"].count() == 9 and names["rows"]["label"].tolist() == [row["label"] for row in rows]
    if layout == "webdataset":
        assert [sample["json"]["label"] for sample in names["samples"]] == [row["label"] for row in rows]
    # As the hub reads a repository: by the front matter.
    whole = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(whole) == ["train"] and whole["train"].num_rows == 9


def test_of_images_with_shapes_of_their_own_the_row_says_height_and_width() -> None:
    plain, shaped = (dataset_card(facts(shaped=shaped), "folder") for shaped in (False, True))
    assert "height=32," in plain and "32 px; " in plain and "48 x 48 px" in plain
    assert 'height=row["height"],' in shaped and 'width=row["width"],' in shaped and "height=32" not in shaped
    assert "the shorter side 48 px" in text(shaped)
