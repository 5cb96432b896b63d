"""README and docs say what holds in this checkout: commands parse; links, paths, names, options and targets exist."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.docs.page_checks import (
    block_problems,
    command_problem,
    figures_told_twice,
    inline_problem,
    link_problems,
    name_problems,
    page_problems,
    table_problems,
)
from tests.support.docs.pages import (
    ROOT,
    Block,
    anchors,
    blocks,
    inline_codes,
    links,
    opening,
    prose,
    read_pages,
    tree_entries,
)

PAGES = read_pages()
README = PAGES["README.md"]
# SHA-256 of the licence's standard text, its appendix included.
APACHE_2 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"
MOST_LINES, MOST_BYTES, LONGEST_LINE = 150, 12 * 1024, 600


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_true(page: str) -> None:
    assert page_problems(page, PAGES[page], PAGES) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_read(page: str) -> None:
    assert max(map(len, PAGES[page].splitlines())) <= LONGEST_LINE
    assert table_problems(PAGES[page]) == []


def test_the_front_page_is_one_page_and_begins_with_two_commands() -> None:
    assert README.count("\n") <= MOST_LINES and len(README.encode()) <= MOST_BYTES
    first = blocks(README)[0]
    assert [line.split("#")[0].strip() for line in first.code.splitlines()] == ["make demo", "make test"]


def test_the_front_page_leads_to_every_page_and_each_begins_with_what_it_answers() -> None:
    assert PAGES.keys() - {"README.md"} <= set(links(README))
    assert {
        page: opening(text) for page, text in PAGES.items() if page.startswith("docs/") and not _answers(text)
    } == {}


def _answers(text: str) -> bool:
    return 1 <= len(opening(text)) <= 2 and opening(text)[0].endswith("?")


def test_the_front_page_has_every_stage_and_every_folder() -> None:
    from fairsynth.cli import STAGES

    assert re.findall(r"^\d\. `(\w+)`", README, re.MULTILINE) == list(STAGES)
    (tree,) = [block.code for block in blocks(README) if block.code.startswith("fairsynth/")]
    folders = {f"fairsynth/{path.name}/" for path in (ROOT / "fairsynth").iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(tree_entries(tree))


def test_every_figure_has_its_command_machine_and_date_and_one_place() -> None:
    assert figures_told_twice(PAGES) == []
    head, *sections = re.split(r"^## ", PAGES["docs/benchmarks.md"], flags=re.MULTILINE)
    assert len(sections) >= 13
    for section in sections:
        assert [block.language for block in blocks(section)][:1] == ["sh"], section
        assert re.search(r"Machine and date: .*?, 2\d{3}-\d\d-\d\d[.;]", section.replace("\n", " ")), section
    listed = set(re.findall(r"\]\((#.+?)\)", head))
    assert listed == {f"#{slug}" for slug in anchors("".join(f"## {section}" for section in sections))}


def test_the_licence_is_apache_2_whole_and_the_package_says_so() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0" and all((ROOT / name).is_file() for name in project["license-files"])


@pytest.mark.parametrize(
    "command",
    [
        "fairsynth run --preset demo --out x --cluster.k 5",
        "fairsynth run my.yaml --cluster.k 5",
        "fairsynth cluster --preset demo",
        "fairsynth inspect DIR --json",
        "fairsynth export runs/demo --format kohya",
        "fairsynth export runs/demo --format onnx --to model.onnx",
        "fairsynth predict photos --run runs/demo --to t.csv",
        "fairsynth predict photos --run runs/demo --truth t.csv --data.label_column y",
        "fairsynth bench --preset demo --bench.variants '{wide: {cluster.k: 8}}'",
        "make demo ARGS='--seed 1'",
        "python benchmarks/stacked_sd15.py --out x --compile-stacked",
        "python -m jobs.pipeline --preset demo",
        "python -m jobs.pretrain_demo --out x",
        "ray job submit --working-dir . -- python -m jobs.cluster --preset demo",
        "ray up cluster.yaml",
        "pip install 'fairsynth[optuna]'",
    ],
)
def test_a_right_command_is_not_reported(command: str) -> None:
    assert block_problems(f"```sh\n{command}\n```") == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("fairsynth run --preset demo --cluster.kk 5", "unknown key 'cluster.kk'"),
        ("fairsynth run --preset dmeo", "unknown preset"),
        ("fairsynth run --preset demo --cluster.k", "needs a value"),
        ("fairsynth run --preset demo --cluster.k five", "cluster.k"),
        ("fairsynth run", "nothing to run"),
        ("fairsynth run my.txt", "no config"),
        ("fairsynth rnu --preset demo", "Unknown command"),
        ("fairsynth inspect DIR --jsn", "needs a value"),
        ("fairsynth export runs/demo --format koyha", "koyha"),
        ("fairsynth export a b --format kohya", "folder of a run"),
        ("fairsynth predict photos", "predict takes images and a run"),
        ("fairsynth bench --preset demo --bench.variants '{wide: {cluster.kk: 8}}'", "unknown key 'cluster.kk'"),
        ("fairsynth run --preset demo \\\n  --seeed 1", "unknown key 'seeed'"),
        ("make dmeo", "no dmeo"),
        ("make demo ARG=1", "no ARG"),
        ("make demo ARGS='--seeed 1'", "unknown key 'seeed'"),
        ("python benchmarks/no_such_script.py", "not there"),
        ("python benchmarks/stacked_sd15.py --out x --compile-all", "--compile-all"),
        ("python benchmarks/stacked_sd15.py", "--out"),
        ("python -m jobs.nothing", "not there"),
        ("python -m jobs.pipeline --preset dmeo", "unknown preset"),
        ("python -m fairsynth.groups", "does nothing"),
        ("ray job submit -- python -m jobs.cluster --preset dmeo", "unknown preset"),
        ("ray up clusters.yaml", "clusters.yaml"),
        ("pip install 'fairsynth[optna]'", "optna"),
        ("fairsnyth run --preset demo", "nobody knows"),
    ],
)
def test_a_wrong_command_is_found(command: str, problem: str) -> None:
    (found,) = block_problems(f"1. So:\n\n   ```sh\n   {command}\n   ```\n")
    assert problem in found


@pytest.mark.parametrize(
    "block",
    [
        "```\nmake demo\n```",
        "```python\nif:\n```",
        "```yaml\nclustr: {k: 5}\n```",
        "```text\nfairsynth/\n  nothing.py  x\n```",
        "```diff\n--- a/README.md\n+++ b/README.md\n@@ -1,1 +1,1 @@\n-# fairsnyth\n+# x\n```",
    ],
)
def test_a_wrong_block_is_found(block: str) -> None:
    assert len(block_problems(block)) == 1


@pytest.mark.parametrize(
    "code",
    [
        *("fairsynth finetnue", "make tset", "python benchmarks/no.py", "fairsynth run --preset dmeo"),
        *(
            "--cluster.kk 5",
            "--cluster.k five",
            "--compile-all",
            "--data.optoins.label x",
            "cluster.kk",
            "filter.keeep",
        ),
        *("fairsynth/classify/losess.py", "tests/nothing/", "benchmarks/*.txt", "no_such_module.py", "jobs.nothing"),
    ],
)
def test_wrong_inline_code_is_found(code: str) -> None:
    assert inline_problem(code)


@pytest.mark.parametrize(
    "code",
    [
        *("fairsynth finetune", "make demo", "fairsynth cluster --preset demo", "--section.key VALUE", "--json"),
        *("--data.options.age_bins '{young: [0, 5]}'", "--repeats 2 --at-once 1", "--filter.keep 0.5", "cluster.k"),
        *("fairsynth/classify/losses.py", "tests/end_to_end/", "benchmarks/results/*.json", "losses.py", "jobs.bench"),
        *("bench.json", "synthetic/", "report.json", "{label}", "isn't shell", "stages/synthesize-*/synthetic.parquet"),
    ],
)
def test_right_inline_code_is_not_reported(code: str) -> None:
    assert inline_problem(code) == ""


def test_a_name_that_is_not_in_its_file_is_found() -> None:
    file = "`fairsynth/classify/losses.py`"
    assert name_problems(f"{file}, `GroupDRO`, and {file},\n`GroupDRO.__call__`, {file}, `supcon`") == []
    assert name_problems(f"{file}, `GroupDOR`") == ["losses.py has no GroupDOR"]
    assert name_problems(f"{file}, `GroupDRO.forward`") == ["losses.py has no GroupDRO.forward"]


@pytest.mark.parametrize(
    "link", ["benchmark.md", "benchmarks.md#no-such-heading", "#nothing", "../../elsewhere.md", "../benchmarks/no.png"]
)
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert len(link_problems("docs/terms.md", f"[here]({link})", PAGES)) == 1
    right = "[a](benchmarks.md) [b](benchmarks.md#the-demo) ![c](../benchmarks/demo.png) [d](https://ray.io) `[e](no)`"
    assert link_problems("docs/terms.md", right, PAGES) == []


def test_anchors_are_githubs() -> None:
    text = (
        "# The `demo`'s models\n## A, b: c-d_e?\n## A, b: c-d_e?\n```sh\n# no heading\n```\n### [Link](x.md) **two**\n"
    )
    assert anchors(text) == {"the-demos-models", "a-b-c-d_e", "a-b-c-d_e-1", "link-two"}


def test_blocks_and_inline_code_are_told_apart() -> None:
    text = (
        "a `one` b\n```sh\n`two`\n```\n1. c\n\n   ```python\n   x = 1\n   if x:\n       y\n   ```\n\nd `three\nfour`\n"
    )
    assert blocks(text) == [Block("sh", "`two`\n"), Block("python", "x = 1\nif x:\n    y\n")]
    assert inline_codes(text) == ["one", "three four"] and "two" not in prose(text)


def test_rows_of_a_table_and_figures_are_checked() -> None:
    table = "| a | b | c |\n|---|---|---|\n| x | 1.5 | 2.5 % |\n"
    assert table_problems(table) == [] and table_problems(table + "| `x | y` | 1 | 2 |\n") == ["`x | y` | 1 | 2"]
    assert figures_told_twice({"one": table + "| y | 1.5 | 3.5 % |\n", "two": table.replace("1.5", "1.4")}) == []
    assert figures_told_twice({"one": table, "two": table.replace("x", "z")}) == ["1.5 | 2.5 %"]


def test_an_opening_that_answers_nothing_is_found() -> None:
    assert _answers("# A\n\nWhat is it? This.\n\nMore.") and not _answers("# A\n\nIt is this.\n\nMore.")
    assert not _answers("# A\n\n## B\n\nWhat?") and not _answers("# A\n\nWhat? One. Two.\n\nMore.")


def test_every_page_is_looked_at() -> None:
    assert PAGES.keys() >= {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/terms.md"}
    assert len(PAGES) == 3 + len(list((ROOT / "docs").glob("**/*.md")))
    assert Path(ROOT / "fairsynth").is_dir() and command_problem(["make", "demo"]) == ""
