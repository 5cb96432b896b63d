"""The text that ``fairsynth inspect`` prints: file names and labels are hostile text and shown as such."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairsynth.escaping import SHOWN, enumerated, printable, shortened
from fairsynth.manifest import SPLITS

_ROWS, _LONGEST_VALUE = 50, 60


def lines(findings: Mapping[str, Any]) -> Iterator[str]:
    """The findings (``commands.inspect.findings``) as lines for a terminal; ``--json`` has what is cut here."""
    images = findings["images"]
    yield f"{printable(findings['root'])} ({findings['format']})"
    yield (
        f"images: {images['input']} = {images['used']} usable + {images['quarantined']} quarantined "
        f"+ {images['excluded']} left out" + (f"; {n} not named" if (n := images["not_named"]) else "")
    )
    yield from _groups(findings["groups"])
    yield from _association(findings["association"])
    for group, prompt in list(findings["prompts"].items())[:1]:
        yield shortened(f"prompt of {printable(group)}: {printable(prompt)}")
    yield from _appearance(findings)
    for title, part in (("quarantined", findings["quarantine"]), ("left out", findings["excluded"])):
        yield from _set_aside(title, part)
    pairs = (("same content, different group", "conflicts"), ("same content in a later split (left out here)", "leaks"))
    for title, name in pairs:
        yield from _listed(title, [f"{entry['path']}: {entry['detail']}" for entry in findings[name]])
    yield from _listed("exact copies inside a split", [enumerated(paths, " = ") for paths in findings["copies"]])
    yield from _listed("images that look alike", [_alike(entry) for entry in findings["near_copies"]])
    yield from _listed("files read by their content, not their extension", findings["wrong_extensions"])
    yield from _listed("image files that the metadata does not name", findings["orphans"])
    for remark in findings["remarks"]:
        yield shortened(f"note: {printable(remark)}")
    for problem in findings["problems"]:
        yield shortened(f"problem: {printable(problem)}")
    yield "a run would refuse this dataset" if findings["problems"] else "a run would accept this dataset"


def _groups(groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = [f"{_value(g['label'])}, {_value(g['attribute']) or '?'}" for g in groups[:_ROWS]]
    width = max([len("group (label, attribute)"), *map(len, names)])
    yield ""
    yield f"{'group (label, attribute)':<{width}} {''.join(f'{split:>9}' for split in SPLITS)}  in a run"
    for name, group in zip(names, groups[:_ROWS], strict=True):
        yield f"{name:<{width}} {''.join(f'{group[split]:>9}' for split in SPLITS)}  {group['fate']}"
    if len(groups) > _ROWS:
        yield f"and {len(groups) - _ROWS} more (--json lists all)"
    yield ""


def _value(text: str) -> str:
    """A value as it is, cut if it is long, and in quotes where blanks at its ends would not be seen."""
    shown = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
    return printable(shown) if text == text.strip() else repr(shown)


def _association(tied: Mapping[str, Any]) -> Iterator[str]:
    if not tied["n"] or tied["normalised"] is None:
        return
    yield (
        f"label and attribute (train): mutual information {tied['mutual_information_bits']:.3f} bits, "
        f"{tied['normalised']:.0%} of the most possible; Cramér's V {tied['cramers_v']:.2f}"
    )
    for entry in tied["per_label"][:_ROWS]:
        yield f"  {entry['share']:.1%} of {_value(entry['label'])} are {_value(entry['attribute'])}"
    if len(tied["per_label"]) > _ROWS:
        yield f"  and {len(tied['per_label']) - _ROWS} more (--json lists all)"


def _appearance(findings: Mapping[str, Any]) -> Iterator[str]:
    if findings["formats"]:
        yield "formats: " + ", ".join(f"{format} {n}" for format, n in findings["formats"].items())
    if findings["sizes"]:
        yield "sizes: " + ", ".join(f"{name} {w} x {h}" for name, (w, h) in findings["sizes"].items())


def _set_aside(title: str, part: Mapping[str, Any]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for image in part["files"]:
        by_reason[image["reason"]].append(image["path"] + (f" ({image['detail']})" if image["detail"] else ""))
    for reason, paths in by_reason.items():
        yield from _listed(f"{title}, {reason}", paths)


def _alike(entry: Mapping[str, Any]) -> str:
    where = [word for word in ("splits", "groups") if entry[f"across_{word}"]]
    return enumerated(entry["paths"], " ~ ") + (f" (in different {' and '.join(where)})" if where else "")


def _listed(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"{title}: {len(items)}"
        yield from (shortened(f"  {printable(item)}") for item in items[:SHOWN])
        if len(items) > SHOWN:
            yield f"  and {len(items) - SHOWN} more (--json lists all)"
