"""The figures of a chaos run, counted from its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

# Exit codes that a strike may have as its consequence: ended by it, interrupted, infrastructure, still held by one that
# was killed.
_EXPECTED = {0, -9, 130, 5, 6}
# Strikes after which work may have to be done again: all but a pause.
_HARMLESS = {"stopped"}


def _attempts(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [attempt for run in runs for attempt in run["attempts"]]


def figures(place: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen at a place."""
    runs = place["runs"]
    strikes = [strike for run in runs for strike in run["strikes"]]
    attempts = _attempts(runs)
    kills = sum(strike["kind"] not in _HARMLESS for strike in strikes)
    repeated = sum(sum(run["repeated"].values()) for run in runs)
    return {
        "whole runs": len(runs),
        "of them finished": sum(run["finished"] for run in runs),
        "strikes": len(strikes),
        "by kind": dict(sorted(Counter(strike["kind"] for strike in strikes).items())),
        "calls of the command": len(attempts),
        "exit codes": {str(code): n for code, n in sorted(Counter(one["code"] for one in attempts).items())},
        "unexpected exit codes": sum(one["code"] not in _EXPECTED for one in attempts),
        "calls that said internal error or showed a traceback": sum(bool(one["wrong"]) for one in attempts),
        "calls that hung": sum(strike["kind"] == "hung" for strike in strikes),
        "calls that left processes": sum(bool(one["left"]) for one in attempts),
        "units lost": sum(len(run["lost"]) for run in runs),
        "units made twice": sum(len(run["double"]) for run in runs),
        "units begun again": repeated,
        "units begun again that are allowed (one per worker and kill)": kills * place["workers"],
        "files that differ from the undisturbed run": sum(len(run["differences"]) for run in runs),
        "files left under private names, which no reader looks at": sum(len(run["litter"]) for run in runs),
    }


def passed(results: Mapping[str, Any]) -> bool:
    """Whether all runs ended, equal to the undisturbed one, and nothing was lost, double or repeated too often."""
    told = [figures(place) for place in results["places"].values()]
    zero = ("calls that hung", "units lost", "units made twice", "files that differ from the undisturbed run")
    return bool(told) and all(
        found["whole runs"] == found["of them finished"]
        and not any(found[name] for name in zero)
        and found["units begun again"] <= found["units begun again that are allowed (one per worker and kill)"]
        for found in told
    )


FACTS = ("date", "command", "seed", "cpu", "cores", "python")


def digest(results: Mapping[str, Any]) -> dict[str, Any]:
    """When, where and how, and the figures of each place: what benchmarks/results/ keeps."""
    places = {name: {**figures(place), "workers": place["workers"]} for name, place in results["places"].items()}
    return {name: results[name] for name in FACTS} | {"passed": passed(results), "places": places}


def text(results: Mapping[str, Any]) -> str:
    """All figures for people, and how signals and lost parts ended the command."""
    lines = [f"{name}: {results[name]}" for name in FACTS]
    for name, place in results["places"].items():
        lines += ["", f"place {name}", *(f"  {key}: {value}" for key, value in figures(place).items())]
        lines += [f"  {line}" for line in endings(place["runs"])]
        lines += [f"  differs: {run['name']}: {one}" for run in place["runs"] for one in run["differences"][:10]]
    return "\n".join([*lines, "", "passed" if passed(results) else "FAILED"])


def endings(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """For each kind of strike that was the last before the command ended: how it ended, and after how many seconds."""
    ends: dict[str, list[tuple[int, float]]] = {}
    for run in runs:
        for number, attempt in enumerate(run["attempts"]):
            last = [strike["kind"] for strike in run["strikes"] if strike["attempt"] == number]
            if last and attempt["code"] != 0 and attempt["after_last_strike"] is not None:
                ends.setdefault(last[-1], []).append((attempt["code"], attempt["after_last_strike"]))
    found = []
    for kind, how in sorted(ends.items()):
        codes = ", ".join(f"{code} ({n} times)" for code, n in sorted(Counter(code for code, _ in how).items()))
        found.append(f"ended after {kind}: {codes}; at most {max(seconds for _, seconds in how):.0f} s later")
    return found
