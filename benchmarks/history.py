"""The history of the benchmarks: of each main figure a table with date, commit, machine and value.

``python benchmarks/history.py`` appends to ``results/history.jsonl`` what the result files say and is not in it yet: their
versions in git, then those of the checkout, with the commit that each came with (not committed yet: that it was measured at).
Then it writes ``docs/benchmarks-history.md``. ``--no-git`` looks at the checkout alone. Lines are never changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results")
LINES, PAGE = RESULTS / "history.jsonl", Path("docs/benchmarks-history.md")
Json = Any
Line = dict[str, Any]
_HEAD = """# History of the benchmarks

How has each benchmark's main figure changed, measured when, at which commit, on which machine?

This page is written by `benchmarks/history.py` from `benchmarks/results/history.jsonl`. What was measured and how is in
[benchmarks](benchmarks.md). A commit is the one that a result came with: the file of that name has all values as they were
then. Figures of different machines are not to be compared with each other. Ratios are of both sides in one run.
"""


class Figure(NamedTuple):
    """A figure of a result file: its title, what it is in, and how it is read out of the file."""

    title: str
    result: str
    unit: str
    digits: int
    of: Callable[[Json], float]


def _times(name: str, other: str) -> Callable[[Json], float]:
    return lambda found: median(found["seconds"][other]) / median(found["seconds"][name])


def _beside(batch: int) -> Callable[[Json], float]:
    return lambda found: median(next(r["ratios"]["peft"] for r in found["rows"] if r["batch"] == batch))


def _families(base: str) -> Callable[[Json], float]:
    return lambda found: median(next(r["ratios"]["peft"] for r in found["rows"] if r["base"] == base))


def _loop(what: str) -> Callable[[Json], float]:
    return lambda found: found[what]["fairsynth"]["images/s"] / found[what]["loop, fused"]["images/s"]


def _share(adapters: int, each: int) -> Callable[[Json], float]:
    def share(found: Json) -> float:
        (row,) = (
            r
            for r in found["rows"]
            if (r["trainer"], r["adapters"], r["each"]) == ("stacked", adapters, each) and "share" in r
        )
        return 100 * float(row["share"])

    return share


def _generating(how: str) -> Callable[[Json], float]:
    return lambda found: float(next(r["share of matrix rate"] for r in found["rows"] if r["how"] == how).rstrip("%"))


def _accuracy(method: str) -> Callable[[Json], float]:
    def worst(found: Json) -> float:
        methods = found["report"]["methods"]
        return 100 * float(next(m for m in methods if m["name"] == method)["worst_group_accuracy"]["mean"])

    return worst


_CARD = "% of the card's rate of bf16 matrix products"
FIGURES: Mapping[str, Figure] = {
    "demo": Figure("The demo, whole", "demo_rates", "s", 0, lambda found: found["whole run, s"]),
    "demo-flow": Figure(
        "The demo on its flow base, beside the other", "demo_flow", "times", 2,
        lambda found: found["demo-flow"]["seconds"] / found["demo"]["seconds"],
    ),
    "demo-worst-group": Figure("The demo's worst group, fairsynth", "demo", "%", 1, _accuracy("fairsynth")),
    "peft-1": Figure("Sixteen adapters with a sample each, beside peft", "stacked_vs_peft", "times", 2, _beside(1)),
    "peft-4": Figure("Sixteen adapters with four samples each, beside peft", "stacked_vs_peft", "times", 2, _beside(4)),
    **{
        f"peft-{base}": Figure(f"The same on a small {title}", "stacked_families_cpu", "times", 2, _families(base))
        for base, title in {"sdxl": "SDXL", "sd3": "SD3", "flux2": "FLUX.2", "zimage": "Z-Image"}.items()
    },
    "processes": Figure(
        "finetune, beside a process per cluster", "finetune_vs_processes", "times", 2,
        _times("fairsynth finetune", "a process per cluster"),
    ),
    "generate-few": Figure(
        "Four adapters with 200 images each, beside a loop of merged ones", "generate_vs_loop", "times", 2,
        _loop("4 adapters x 200 images"),
    ),
    "generate-many": Figure(
        "32 adapters with 8 images each, beside a loop of merged ones", "generate_vs_loop", "times", 2,
        _loop("32 adapters x 8 images"),
    ),
    "train-gpu-1": Figure("Training 16 adapters with a sample each", "stacked_sd15_h100", _CARD, 1, _share(16, 1)),
    "train-gpu-4": Figure("Training 16 adapters with four samples each", "stacked_sd15_h100", _CARD, 1, _share(16, 4)),
    "train-gpu-compiled": Figure(
        "Training 16 adapters with a sample each, compiled", "stacked_sd15_h100_compiled", _CARD, 1, _share(16, 1)
    ),
    "generate-gpu": Figure(
        "Generating on a GPU, compiled", "generate_sd15_h100", _CARD, 1, _generating("merged, compiled")
    ),
    "classify-gpu": Figure(
        "Training a ResNet-50 on a GPU, ERM", "classify_gpu_h100", "images/s", 0,
        lambda found: next(r["images_per_s"] for r in found["rows"] if r["how"] == "fairsynth, ERM"),
    ),
    "million-rows": Figure(
        "A million planned rows, whole run", "million_rows", "s", 0, lambda found: found["whole run"]
    ),
    "many-units": Figure(
        "Overhead of 2,000 units on eight nodes", "many_units", "%", 0, lambda found: 100 * found["overhead"]
    ),
    "bucket": Figure(
        "The demo in a bucket, beside a disk", "disk_or_bucket", "times", 2, lambda found: found["bucket / disk"]
    ),
    "search": Figure(
        "Ray Tune, beside plain loops", "search_overhead", "times", 2, lambda found: found["tune beside loops"]
    ),
}  # fmt: skip


def known_lines(path: Path) -> list[Line]:
    """The lines of the history so far."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def lines_of(name: str, content: Json, commit: str) -> Iterator[Line]:
    """A line for each figure of a result file; none for what it does not have: older files have other keys."""
    told = content.get("machine", content)
    for figure, what in FIGURES.items():
        if what.result != name:
            continue
        try:
            value = round(float(what.of(content)), 6)
            date = str(told["date"])[:10]
        except (KeyError, StopIteration, ValueError, TypeError):
            continue
        yield {
            "figure": figure,
            "value": value,
            "date": date,
            "commit": commit,
            "machine": machine_of(told),
            "result": name,
        }


def machine_of(told: Mapping[str, Any]) -> str:
    """The machine in words, without marks and clock rates."""
    if "device" in told:
        return f"one {str(told['device']).partition(' 80GB')[0]}"
    kind = "an Intel Xeon" if "Xeon" in str(told["cpu"]) else f"an {told['cpu']}"
    return f"{told['cores']} cores of {kind}"


def appended(lines: list[Line], more: Iterator[Line]) -> list[Line]:
    """Those of the further lines whose measurement is not known yet."""
    measured = ("figure", "date", "machine", "value")
    there = {tuple(line[key] for key in measured) for line in lines}
    new = list[Line]()
    for line in more:
        one = tuple(line[key] for key in measured)
        if one not in there:
            new.append(line)
            there.add(one)
    return new


def in_git() -> Iterator[Line]:
    """All versions of the result files in git, the oldest first."""
    for name in sorted({figure.result for figure in FIGURES.values()}):
        path = (RESULTS / f"{name}.json").as_posix()
        for commit in _git("log", "--reverse", "--format=%h", "--abbrev=7", "--", path).split():
            yield from lines_of(name, json.loads(_git("show", f"{commit}:{path}")), commit)


def in_checkout(commit: str) -> Iterator[Line]:
    """The result files as they lie here."""
    for name in sorted({figure.result for figure in FIGURES.values()}):
        path = REPOSITORY / RESULTS / f"{name}.json"
        if path.exists():
            yield from lines_of(name, json.loads(path.read_text("utf-8")), commit)


def _git(*words: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def page(lines: list[Line]) -> str:
    """The page, a table for each figure, the newest measurement last."""
    parts = [_HEAD]
    for name, figure in FIGURES.items():
        own = sorted((line for line in lines if line["figure"] == name), key=lambda line: str(line["date"]))
        if own:
            rows = [f"| {one['date']} | `{one['commit']}` | {one['machine']} | {shown(figure, one)} |" for one in own]
            head = f"| date | commit | machine | {figure.unit} |\n|---|---|---|---|\n"
            parts.append(
                f"## {figure.title}\n\nFrom `{RESULTS.as_posix()}/{figure.result}.json`:\n\n{head}"
                + "\n".join(rows)
                + "\n"
            )
    return "\n".join(parts)


def shown(figure: Figure, line: Line) -> str:
    """A value as the page has it."""
    return f"{line['value']:,.{figure.digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-git", action="store_true", help="look at the checkout alone, not at the versions in git")
    parser.add_argument("--commit", help="at which the checkout's results were measured, if not at git's HEAD")
    chosen = parser.parse_args()
    path = REPOSITORY / LINES
    lines = known_lines(path)
    new = [] if chosen.no_git else appended(lines, in_git())
    new += appended([*lines, *new], in_checkout(chosen.commit or _git("rev-parse", "--short=7", "HEAD").strip()))
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in new)
    (REPOSITORY / PAGE).write_text(page([*lines, *new]), "utf-8")
    print(f"{len(new)} new of {len(lines) + len(new)} lines; wrote {PAGE}")


if __name__ == "__main__":
    main()
