"""The plan as data: keys that keep their names."""

from __future__ import annotations

from typing import Any

from fairsynth.commands.plan.images import GroupPlan
from fairsynth.commands.plan.plan import Plan
from fairsynth.commands.plan.span import Span
from fairsynth.exports.terms import dataset_terms, model_terms, privacy

SCHEMA = 1


def as_data(plan: Plan, layout: str, price: float | None) -> dict[str, Any]:
    """Everything that the command shows, as JSON. ``layout``: the dataset's; ``price``: of an hour of one worker."""
    seconds = _times(plan.seconds())
    hours = {key: round(value * plan.workers.count / 3600, 4) for key, value in seconds.items()}
    return {
        "schema": SCHEMA,
        "out": f"{plan.root}",
        "nothing_to_do": plan.done,
        "dataset": {
            "root": plan.config.data.root or plan.config.data.format,
            "format": layout,
            "images": plan.counted.used,
            "exact": plan.counted.exact,
            "splits": {
                split: [{"label": g.label, "attribute": g.attribute, "n": n} for g, n in sorted(groups.items())]
                for split, groups in plan.counted.splits.items()
            },
        },
        "stages": [_stage(plan, name) for name in plan.rows],
        "seconds": seconds,
        "workers": {"n": plan.workers.count, "why": plan.workers.why},
        "worker_hours": hours,
        "cost": {key: round(value * price, 2) for key, value in hours.items()} if price is not None else None,
        "price_per_hour": price,
        "disk_bytes": round(plan.size),
        "groups": [_group(group) for group in plan.synthesis.groups],
        "terms": {"model": model_terms(plan.config), "dataset": dataset_terms(plan.config, layout)},
        "privacy": privacy(layout),
        "notes": list(plan.notes),
    }


def _stage(plan: Plan, name: str) -> dict[str, Any]:
    row, time = plan.rows[name], plan.times[name]
    finished = name in plan.finished.records
    return {
        "name": name,
        "finished": finished,
        "units": _span(row.units),
        "units_cached": plan.cached[name],
        "units_to_do": 0 if finished else max(0, row.units.likely - plan.cached[name]),
        "images": _span(row.images),
        "steps": _span(row.steps),
        "disk_bytes": 0 if finished else round(row.size),
        "seconds": _times((time.least, time.likely, time.most)),
        "rate": {
            "per_second": time.rate.per_second,
            "start_seconds": time.rate.start,
            "spread": time.rate.spread,
            "source": time.rate.source,
            "measured": time.rate.measured,
        },
    }


def _span(span: Span | None) -> dict[str, int] | None:
    return None if span is None else span._asdict()


def _times(three: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("least", "likely", "most"), (round(value, 1) for value in three), strict=True))


def _group(group: GroupPlan) -> dict[str, Any]:
    return {
        "label": group.group.label,
        "attribute": group.group.attribute,
        "real": group.real,
        "wanted": group.quota,
        "first_round": group.first_round,
        "route": group.route or None,
        "decided_among": list(group.tried) if not group.route else [],
        "how": in_words(group),
        "finished": bool(group.outcome),
    }


def in_words(group: GroupPlan) -> str:
    """How a group will be made, or was made."""
    if group.outcome.startswith("not"):
        return group.outcome
    if group.outcome:
        return f"{group.outcome}: {_named(group.route, group)}"
    if group.left_out:
        return "not made: the filter's probe cannot tell its images, or those of another group with its attribute"
    if not group.quota:
        return "nothing to make"
    if not group.route:
        return f"trial batches decide: {', '.join(_named(route, group) for route in group.tried)}"
    return _named(group.route, group)


def _named(route: str, group: GroupPlan) -> str:
    if route in ("own", "shared", "prompt"):
        return {"own": "own adapters", "shared": "the shared adapter", "prompt": "the prompt alone"}[route]
    lender = group.lender if route == "same-attribute" else ""
    return f"borrowed adapters ({route}{f' of {lender}' if lender else ''})"
