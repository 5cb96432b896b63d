"""The card beside the adapters: what hubs read of it, what it says, and that labels are shown and never obeyed."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.exports.model_card import model_card
from fairsynth.models.diffusion import load_denoiser
from fairsynth.stages.finetune.adapter_files import save_trained
from fairsynth.stages.finetune.lot_state import Progress, Trained
from fairsynth.stages.finetune.output import read_adapter
from tests.support.lots import jobs, same_bits, stack_of

HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"
HEAD = ["label", "attribute", "cluster", "images", "prompt", "steps", "kept", "loss on held-out images"]
HOSTILE = [
    "a|b", "a\\|b", "\\", "`x`", "``", "a\nb", "a\r\n\r\n| 1 | 2 |", "\n```\nfence", "<script>alert(1)</script>",
    "<!-- ", "&lt;b&gt; &#60;", "[x](http://x.example)", "![x](y)", "<http://x.example>", "*a* **b** _c_ __d__",
    "~~a~~", "# a", "- a", "1. a", "---", ":---:", "$x$ {y}", "\u202eevil\x1b[31m", "grün 日本語 🙂",
]  # fmt: skip


def config_of(**changed: Any) -> RunConfig:
    """The demo's but for some values; two underscores stand for the dot."""
    return load_config(None, "demo", {key.replace("__", "."): value for key, value in changed.items()})


def facts(**changed: Any) -> dict[str, Any]:
    """An adapter's, as ``read_adapter`` gives them, with the best state at step 8."""
    expected = {
        "name": "low--flower--0",
        "label": "low",
        "attribute": "flower",
        "cluster": 0,
        "images": 31,
        "failed": "",
    }
    expected |= {"prompt": "a sks low", "steps": 12, "best_step": 8, "validation": [[4, 0.5], [8, 0.12345], [12, 0.3]]}
    return expected | changed


LAST = {"best_step": 12, "validation": []}


def read(card: str) -> tuple[dict[str, Any], list[Token]]:
    """The front matter, and the rest as CommonMark with tables has it."""
    before, front, body = card.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(front), MarkdownIt("commonmark").enable("table").parse(body)


def shown(token: Token) -> str:
    """The text of a token, which holds nothing but text and code."""
    assert {child.type for child in token.children or ()} <= {"text", "code_inline"}, token.content
    return "".join(child.content for child in token.children or ())


def table(card: str) -> list[list[str]]:
    """What is shown in the cells, row by row, the head's first."""
    rows: list[list[str]] = []
    tokens = read(card)[1]
    for opened, token in pairwise(tokens):
        if opened.type == "tr_open":
            rows.append([])
        if opened.type in ("td_open", "th_open"):
            rows[-1].append(shown(token))
    return rows


def flat(text: str) -> str:
    """On one line, without what does not show."""
    return re.sub(r"[\s\u202e\x1b]+", " ", text).strip()


def test_the_front_matter_is_what_hubs_read() -> None:
    plain = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    tags = ["stable-diffusion", "lora", "dreambooth", "fairsynth"]
    assert read(model_card(config_of(), [facts()]))[0] == plain | {"tags": tags}
    full = read(model_card(config_of(finetune__parameters="full", models__diffusion=HUB), [facts()]))[0]
    assert full == plain | {"base_model": HUB, "tags": [tags[0], "full-finetune", *tags[2:]]}


@pytest.mark.parametrize("name", [HUB, "/srv/grün/🙂", "a: b # c", '"a" {b} [c]', "- a", "/srv" + " ab" * 50])
def test_any_base_model_is_named_but_the_demo_s(name: str) -> None:
    front, tokens = read(card := model_card(config_of(models__diffusion=name), [facts(), facts()]))
    # Of a folder its name alone is told: where it lies is nobody's business, and no hub knows it.
    assert front.get("base_model") == (None if name[0] == "/" else name) and "/srv" not in card
    title = tokens[[token.type for token in tokens].index("heading_open") + 1]
    assert shown(title) == f"2 adapters for {flat(Path(name).name if name[0] == '/' else name)}"


def test_there_is_a_row_of_each_adapter_in_their_order() -> None:
    failed = facts(cluster=2, images=9, failed="loss nan at step 5", steps=5, best_step=5, validation=[])
    card = model_card(config_of(), [facts(), facts(label="high", cluster=1, **LAST), failed])
    assert table(card) == [
        HEAD,
        ["low", "flower", "0", "31", "a sks low", "12", "8", "0.1235"],
        ["high", "flower", "1", "31", "a sks low", "12", "12", "not measured"],
        ["low", "flower", "2", "9", "a sks low", "5", "none", "failed: loss nan at step 5"],
    ]
    assert "# 2 adapters for demo" in card


def test_hostile_text_is_shown_as_it_is_and_does_nothing() -> None:
    rows = [facts(label=text, attribute=text, prompt=f"a {text} b", failed=text) for text in HOSTILE]
    card = model_card(config_of(), [*rows, facts()])
    body = table(card)[1:-1]
    for row, text in zip(body, HOSTILE, strict=True):
        prompt = flat(f"a {text} b").replace("`", "'").replace("|", "/")
        assert row == [flat(text), flat(text), "0", "31", prompt, "12", "none", flat(f"failed: {text}")]
    # Besides the cells there is what there is without them.
    tokens = [[t.type for t in read(c)[1] if t.level < 2] for c in (card, model_card(config_of(), [facts()]))]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(("best", "last", "failed"), [(3, 2, 1), (0, 1, 0), (1, 0, 2)])
def test_the_kept_states_are_counted_without_the_failed(best: int, last: int, failed: int) -> None:
    rows = [facts()] * best + [facts(**LAST)] * last + [facts(failed="nan"), facts(failed="nan", **LAST)][:failed]
    expected = f"kept state: the best on held-out images for {best}, the last for {last},"
    assert expected in model_card(config_of(), rows)


def test_a_rounded_base_is_told() -> None:
    told = "rank 8, alpha 8, on a base whose linear layers were rounded to 8 bits a weight (int8); 32 px"
    given = {"finetune__rank": 8, "finetune__alpha": 8}
    assert told in model_card(config_of(**given, finetune__frozen_weights="int8"), [facts()])
    assert "int8" not in model_card(config_of(**given), [facts()])


@pytest.mark.parametrize("parameters", ["adapter", "full"])
def test_the_code_that_is_shown_loads_what_lies_beside_it(
    parameters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, denoiser, (job,) = config_of(finetune__parameters=parameters), load_denoiser(config_of().models), jobs([1])
    unet = denoiser.network
    stack = stack_of(unet, config.finetune)
    full = {name: value + 1 for name, value in unet.state_dict().items()}
    state = full if parameters == "full" else stack.state(torch.ones(stack.size))
    # The code's own words for a place.
    folder = tmp_path / "<group>" / "<cluster>"
    folder.mkdir(parents=True)
    save_trained(Trained(job, Progress(job.name, 1), state), config.finetune, config.models, denoiser, folder)
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    (block,) = (t for t in read(model_card(config, [read_adapter(folder)]))[1] if t.type == "fence")
    exec(block.content, names)
    loaded = names["pipeline"].unet.state_dict()
    if parameters == "full":
        assert same_bits(loaded, full)
    else:
        found = [value for name, value in loaded.items() if ".lora_" in name]
        assert len(found) == len(state) and all(bool((value == 1).all()) for value in found)
