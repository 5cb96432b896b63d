"""A run's report, typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from fairsynth.api.page import report_html
from fairsynth.classify.methods import TITLES
from fairsynth.errors import ConfigError, DataError
from fairsynth.groups import Group

Verdict = Literal["improved", "not improved", "inconclusive"]
TABLES = ("methods", "accuracies", "groups", "stages", "policies")


@dataclass(frozen=True)
class Figure:
    """A figure over training seeds.

    Examples
    --------
    >>> from fairsynth import Figure
    >>> print(Figure(0.977, (0.965, 0.988), (0.975, 0.977, 0.979)))
    97.7% (96.5% to 98.8%)
    """

    mean: float | None
    """None where it is not defined."""
    interval: tuple[float, float] | None
    """95 %, Student-t; None for one seed."""
    per_seed: tuple[float, ...]

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Figure:
        interval = content["ci95"]
        return cls(content["mean"], (interval[0], interval[1]) if interval else None, tuple(content["per_seed"] or ()))

    def __str__(self) -> str:
        if self.mean is None:
            return "not defined"
        return f"{self.mean:.1%}" + (f" ({self.interval[0]:.1%} to {self.interval[1]:.1%})" if self.interval else "")


@dataclass(frozen=True)
class GroupAccuracy:
    """A method's accuracy in a group of test images, over all its seeds.

    Examples
    --------
    >>> worst = min(run.report.methods["erm"].groups, key=lambda g: g.accuracy or 1)  # doctest: +SKIP
    """

    group: Group
    n: int
    """Test images."""
    accuracy: float | None
    """None if there are none."""
    interval: tuple[float, float] | None
    """95 %, Wilson, by the number of images."""


@dataclass(frozen=True)
class MethodResult:
    """A method's result on the test split.

    Examples
    --------
    >>> print(run.report.methods["fairsynth"].worst_group_accuracy)  # doctest: +SKIP
    97.7% (96.5% to 98.8%)
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    worst_group_accuracy: Figure
    accuracy: Figure
    worst_group: Group
    groups: tuple[GroupAccuracy, ...]

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> MethodResult:
        return cls(
            name=content["name"],
            title=TITLES.get(content["name"], content["name"]),
            seeds=tuple(content["seeds"]),
            worst_group_accuracy=Figure._of(content["worst_group_accuracy"]),
            accuracy=Figure._of(content["accuracy"]),
            worst_group=_group(content["worst_group"]),
            groups=tuple(
                GroupAccuracy(_group(g), g["n"], g["accuracy"], tuple(g["ci95"]) if g["ci95"] else None)
                for g in content["groups"]
            ),
        )


@dataclass(frozen=True)
class MadeGroup:
    """What became of a group.

    Examples
    --------
    >>> [made.group for made in run.report.groups if not made.synthetic]  # doctest: +SKIP
    []
    """

    group: Group
    real: int
    """Real training images."""
    synthetic: int
    """Synthetic images that were accepted."""
    made_by: str
    """own, borrowed, shared, prompt, or none for a group that was not made."""
    why: str


class Report:
    """The report of a finished run, from its ``report.json``; a notebook shows it as tables.

    ``content`` is all that ``report.json`` holds.

    Examples
    --------
    >>> report = fs.open_run("runs/demo").report  # doctest: +SKIP
    >>> report.verdict  # doctest: +SKIP
    'improved'
    >>> report.table("methods").to_pandas()  # doctest: +SKIP
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read ``report.json``. Raises DataError for a file that is none, or of a later version."""
        try:
            content = json.loads(path.read_text("utf-8"))
            schema = content["schema"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                f"{path} is no report of fairsynth; run 'fairsynth report' with the run's options"
            ) from None
        if schema != 1:
            raise DataError(
                f"{path} has schema {schema}, and this fairsynth reads schema 1; install the one that wrote it"
            )
        return cls(content)

    @property
    def verdict(self) -> Verdict:
        """Whether fairsynth's worst-group accuracy is above ERM's, beyond chance."""
        return self.content["verdict"]  # type: ignore[no-any-return]

    @property
    def verdict_why(self) -> str:
        """What stands in the verdict's way; empty if nothing does."""
        return str(self.content["verdict_why"])

    @property
    def synthetic_images(self) -> str:
        """Whether synthetic images were made and used, in a sentence or two."""
        return str(self.content["synthetic_images"]["line"])

    @cached_property
    def methods(self) -> dict[str, MethodResult]:
        """The methods that were compared, by name: ``erm``, ``fairsynth`` and so on."""
        return {entry["name"]: MethodResult._of(entry) for entry in self.content["methods"]}

    @cached_property
    def groups(self) -> list[MadeGroup]:
        """What became of every group."""
        return [
            MadeGroup(_group(g), g["real"], g["synthetic"], g["generator"], g["why"]) for g in self.content["groups"]
        ]

    def table(self, name: str) -> pa.Table:
        """A table of the report: methods, accuracies (of each method and group), groups, stages or policies.

        Raises ConfigError for another name. ``.to_pandas()`` makes a DataFrame of it.
        """
        if name not in TABLES:
            raise ConfigError(f"the report has no table {name!r}; there are: {', '.join(TABLES)}")
        if name == "methods":
            return pa.Table.from_pylist([_flat(method) for method in self.methods.values()])
        if name == "accuracies":
            rows = [(method.name, g) for method in self.methods.values() for g in method.groups]
            return pa.Table.from_pylist([{"method": method, **_accuracy(g)} for method, g in rows])
        if name == "groups":
            return pa.Table.from_pylist(
                [
                    {**g.group._asdict(), "real": g.real, "synthetic": g.synthetic, "made_by": g.made_by, "why": g.why}
                    for g in self.groups
                ]
            )
        return pa.Table.from_pylist(list(self.content[name]))

    def __str__(self) -> str:
        """The lines that ``fairsynth run`` ends with."""
        from fairsynth.stages.report.lines import table_lines, use_lines, verdict_line

        return "\n".join([*table_lines(self.content), *use_lines(self.content), verdict_line(self.content)])

    def __repr__(self) -> str:
        methods = ", ".join(f"{name} {method.worst_group_accuracy}" for name, method in self.methods.items())
        return f"<Report: {self.verdict}; worst-group accuracy: {methods}>"

    def _repr_html_(self) -> str:
        return report_html(self)


def _group(content: Mapping[str, Any]) -> Group:
    return Group(content["label"], content["attribute"])


def _flat(method: MethodResult) -> dict[str, Any]:
    low, high = method.worst_group_accuracy.interval or (None, None)
    return {
        "method": method.name,
        "worst_group_accuracy": method.worst_group_accuracy.mean,
        "low": low,
        "high": high,
        "accuracy": method.accuracy.mean,
        "worst_label": method.worst_group.label,
        "worst_attribute": method.worst_group.attribute,
    }


def _accuracy(one: GroupAccuracy) -> dict[str, Any]:
    low, high = one.interval or (None, None)
    return {**one.group._asdict(), "n": one.n, "accuracy": one.accuracy, "low": low, "high": high}
