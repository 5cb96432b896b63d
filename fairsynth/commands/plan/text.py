"""The plan for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from fairsynth.commands.plan.data import in_words
from fairsynth.commands.plan.plan import Plan
from fairsynth.commands.plan.span import Span
from fairsynth.escaping import printable
from fairsynth.exhausted import amount
from fairsynth.exports.terms import dataset_terms, model_terms, privacy
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.models.hub.sizes import network_bytes
from fairsynth.models.sources import is_demo

WIDTH, _MOST_GROUPS = 80, 20
_SIGNS = "<= at most; ~ about, more or less is possible; a number alone is exact{}"
# Nobody has opened the images yet.
_IF_GOOD = ", unless images cannot be read or are there twice"


def lines(plan: Plan, layout: str, price: float | None) -> list[str]:
    """The whole plan. ``layout``: the dataset's; ``price``: of an hour of one worker."""
    return [
        *_head(plan),
        "",
        *_table(plan),
        "",
        *_estimate(plan, price),
        *_rates(plan),
        "",
        *_groups(plan),
        "",
        *_terms(plan, layout),
    ]


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.95 * size or (unit != "d" and seconds >= size):
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 0.5 else "0 s"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="", subsequent_indent=indent, break_long_words=False)


def _head(plan: Plan) -> Iterator[str]:
    counts = [f"{plan.counted.total(split):,} {split}" for split in (TRAIN, VALIDATION, TEST)]
    yield f"output   {printable(f'{plan.root}')}"
    source = plan.config.data.root or "the built-in dataset"
    yield from _wrapped(f"dataset  {printable(source)}: {plan.counted.used:,} images ({', '.join(counts)})", " " * 9)
    if plan.done:
        yield "nothing to do: every stage is finished for this config"


def _table(plan: Plan) -> Iterator[str]:
    yield f"{'stage':<10} {'units to do':>11} {'cached':>7} {'images':>13} {'steps':>12} {'disk':>8} {'time':>9}"
    for name, row in plan.rows.items():
        finished, cached = name in plan.finished.records, plan.cached[name]
        to_do = "0" if finished else f"{row.units.sign}{max(0, row.units.likely - cached):,}"
        cells = (_shown(row.images), _shown(row.steps)) if not finished else ("-", "-")
        size = "-" if finished else amount(row.size)
        took = "-" if finished else duration(plan.times[name].likely)
        yield f"{name:<10} {to_do:>11} {cached:>7,} {cells[0]:>13} {cells[1]:>12} {size:>8} {took:>9}"
    total = duration(plan.seconds()[1]) if not plan.done else "-"
    yield f"{'all':<10} {'':>11} {'':>7} {'':>13} {'':>12} {amount(plan.size):>8} {total:>9}"
    if not plan.done:
        checked = "ingest" in plan.finished.records or plan.config.data.format == "demo"
        yield from _wrapped(_SIGNS.format("" if checked else _IF_GOOD))


def _shown(span: Span | None) -> str:
    return "-" if span is None else f"{span.sign}{span.likely:,}"


def _estimate(plan: Plan, price: float | None) -> Iterator[str]:
    least, likely, most = plan.seconds()
    if plan.done:
        yield "time     none, cost none"
        return
    n = plan.workers.count
    yield from _wrapped(
        f"time     {duration(likely)} ({duration(least)} to {duration(most)}) on {n} worker{'s' if n > 1 else ''} "
        f"({plan.workers.why})",
        " " * 9,
    )
    hours = [seconds * n / 3600 for seconds in (least, likely, most)]
    shown = [f"{hour:,.0f}" if hour >= 100 else f"{hour:.3g}" for hour in hours]
    yield from _wrapped(
        f"work     {shown[1]} worker-hours ({shown[0]} to {shown[2]}): all workers, all of that time", " " * 9
    )
    if price is None:
        yield from _wrapped("cost     say what an hour of one worker costs: --price-per-hour 2.5", " " * 9)
    else:
        cost = [hour * price for hour in hours]
        yield f"cost     {cost[1]:,.2f} ({cost[0]:,.2f} to {cost[2]:,.2f}) at {price:g} per worker-hour"
    yield f"disk     {amount(plan.size)} below the output folder"
    yield from _memory(plan)
    if plan.synthesis.images.most > plan.synthesis.images.likely and "synthesize" not in plan.finished.records:
        yield from _wrapped(
            f"         Where images fail the filter more are made, in up to {plan.config.filter.max_rounds} rounds: "
            f"{plan.synthesis.images.most:,} images at most.",
            " " * 9,
        )


def _memory(plan: Plan) -> Iterator[str]:
    """What the network of a base model on this machine takes of a GPU, before any image or adapter."""
    models, tuned = plan.config.models, plan.config.finetune
    if is_demo(models.diffusion) or (whole := network_bytes(models)) is None:
        return
    rounded = network_bytes(models, tuned.frozen_weights) if tuned.generator != "vanilla" else None
    training = f", {amount(rounded)} while adapters train" if rounded and rounded != whole else ""
    yield from _wrapped(
        f"memory   {amount(whole)} for the network's weights{training}; adapters and images come on top", " " * 9
    )


def _rates(plan: Plan) -> Iterator[str]:
    used = {name: time.rate for name, time in plan.times.items() if name not in plan.finished.records}
    measured = [name for name, rate in used.items() if rate.measured]
    stated = [name for name in used if name not in measured]
    if measured:
        source = used[measured[0]].source
        yield from _wrapped(f"rates    {source}: {', '.join(measured)}", " " * 9)
    if stated:
        worst = max(used[name].spread for name in stated)
        text = f"stated for {plan.machine}: {', '.join(stated) if measured else 'all stages'}"
        yield from _wrapped(
            f"rates    {text}; elsewhere a stage may take up to {worst:g} times as long or as short (--json says more; "
            "--rates-from RUN takes those of an earlier run)",
            " " * 9,
        )
    for note in () if plan.done else plan.notes:
        yield from _wrapped(f"note     {note}", " " * 9)


def _groups(plan: Plan) -> Iterator[str]:
    yield f"groups   {'real':>9} {'wanted':>9}  how they are made"
    for group in plan.synthesis.groups[:_MOST_GROUPS]:
        yield f"  {group.group}{_words(plan, group.group)}"
        rows = textwrap.wrap(printable(in_words(group)), WIDTH - 30)
        yield f"         {group.real:>9,} {group.quota:>9,}  {rows[0]}"
        yield from (" " * 30 + row for row in rows[1:])
    if len(plan.synthesis.groups) > _MOST_GROUPS:
        yield f"  and {len(plan.synthesis.groups) - _MOST_GROUPS} more (--json)"
    left_out = _left_out(plan)
    if left_out:
        yield from _wrapped(
            f"  not made, no training images: {', '.join(map(str, left_out[:_MOST_GROUPS]))} "
            "(synthesize.absent_groups)",
            "  ",
        )


def _words(plan: Plan, group: Group) -> str:
    """The words of a group, where its values are codes."""
    names = plan.config.data.label_names, plan.config.data.attribute_names
    words = [of.get(value, value) for of, value in zip(names, group, strict=True)]
    return f": {printable(', '.join(words))}" if words != list(group) else ""


def _left_out(plan: Plan) -> list[Group]:
    made = {group.group for group in plan.synthesis.groups}
    named = {group for groups in plan.counted.splits.values() for group in groups if group.attribute}
    return sorted(named - made) if plan.config.data.attribute == "column" else []


def _terms(plan: Plan, layout: str) -> Iterator[str]:
    terms = model_terms(plan.config)
    yield from _wrapped(f"licence  base model {printable(terms['model'])}: {terms['licence']}", " " * 9)
    if terms["recognised"]:
        yield from _wrapped(f"         Its images: {terms['generated']}.", " " * 9)
        yield from _wrapped(f"         Models trained on them: {terms['trained']}.", " " * 9)
    yield from _wrapped(f"         Dataset: {dataset_terms(plan.config, layout)}.", " " * 9)
    yield "         This is what the texts say, as far as known: no legal advice."
    for text in privacy(layout):
        yield from _wrapped(f"privacy  {text}", " " * 9)
