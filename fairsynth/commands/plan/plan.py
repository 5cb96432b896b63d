"""The plan of a run: what is there, what is to be made, how, how long it takes, and what to know before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fairsynth.commands.plan.adapters import AdapterPlan, compile_notes, left_out_notes, plan_adapters
from fairsynth.commands.plan.counts import Counted
from fairsynth.commands.plan.estimate import Time, Workers, times, workers_of
from fairsynth.commands.plan.finished import Finished, finished_stages
from fairsynth.commands.plan.images import ImagesPlan, plan_synthesis, with_outcomes
from fairsynth.commands.plan.measured import measured_rates
from fairsynth.commands.plan.rates import Rate, stated
from fairsynth.commands.plan.rows import Row, stage_rows
from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.models.sources import backbone_revision
from fairsynth.stages.cluster.output import pseudo_attribute
from fairsynth.stages.context import opened

_UNKNOWN_GROUPS = "attributes are discovered by the run: groups and their sizes are not known yet; all of a label are taken as equally large"


@dataclass(frozen=True)
class Plan:
    """All that the command shows. ``rows``, ``times`` and ``cached`` (units that are there) by stage, in order."""

    root: Path
    config: RunConfig
    counted: Counted
    adapters: AdapterPlan
    synthesis: ImagesPlan
    rows: Mapping[str, Row]
    cached: Mapping[str, int]
    finished: Finished
    times: Mapping[str, Time]
    workers: Workers
    machine: str
    notes: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether every stage is finished."""
        return len(self.finished.records) == len(self.rows)

    def seconds(self) -> tuple[float, float, float]:
        """On the clock: at least, likely, at most."""
        each = self.times.values()
        return sum(t.least for t in each), sum(t.likely for t in each), sum(t.most for t in each)

    @property
    def size(self) -> float:
        """Bytes that are still to be written."""
        return sum(row.size for name, row in self.rows.items() if name not in self.finished.records)


def make_plan(
    config: RunConfig, root: Path, counted: Counted, metadata: Metadata | None, rates_from: Path | None
) -> Plan:
    """The plan of a config whose metadata was looked at (``look.look_at``).

    Raises ConfigError: a route that is impossible, ``rates_from`` without finished stages.
    """
    finished, figures = finished_stages(config, root, None if counted.by_columns else metadata), stated(config)
    counted = finished.counted or counted
    known, notes = _with_kinds(config, counted, finished)
    adapters = plan_adapters(config, known.splits[TRAIN], finished.clusters, finished.left_out)
    synthesis = plan_synthesis(config, known.splits[TRAIN], _every(known), adapters)
    if "synthesize" in finished.records:
        groups = with_outcomes(synthesis.groups, finished.records["synthesize"]["groups"])
        synthesis = replace(synthesis, groups=groups)
    rows = stage_rows(config, known, adapters, synthesis, figures)
    cached = {name: _cached(name, row, finished) for name, row in rows.items()}
    left = {
        name: 0.0 if name in finished.records else 1 - min(1.0, cached[name] / max(1, row.units.likely))
        for name, row in rows.items()
    }
    workers = workers_of(config)
    found = times(config, rows, left, _measured(config, root, rates_from, finished), figures, workers.count)
    compiled = () if "finetune" in finished.records else compile_notes(config, adapters, workers.count)
    left_out = () if "finetune" in finished.records else left_out_notes(config, adapters)
    told = (*counted.notes, *notes, *left_out, *compiled)
    return Plan(
        root, config, counted, adapters, synthesis, rows, cached, finished, found, workers, figures.machine, told
    )


def _cached(name: str, row: Row, finished: Finished) -> int:
    if name not in finished.records:
        return min(finished.units.get(name, 0), row.units.most)
    # Of tune's record also the packs of images are units.
    return row.units.likely if name == "tune" else int(finished.records[name]["units"])


def _with_kinds(config: RunConfig, counted: Counted, finished: Finished) -> tuple[Counted, tuple[str, ...]]:
    """The counts, with groups of equal size where attributes are still to be discovered."""
    if config.data.attribute != "discover" or "cluster" in finished.records:
        return counted, ()
    splits, kinds = dict(counted.splits), config.data.discovered
    for split in (TRAIN, VALIDATION):
        labels = Counter[str]()
        for group, n in splits[split].items():
            labels[group.label] += n
        splits[split] = Counter(
            {
                Group(label, pseudo_attribute(i)): n // kinds + (i < n % kinds)
                for label, n in labels.items()
                for i in range(kinds)
            }
        )
    return Counted(splits, counted.named, counted.notes, exact=False), (_UNKNOWN_GROUPS,)


def _every(counted: Counted) -> list[Group]:
    found = {group for groups in counted.splits.values() for group in groups}
    labels, attributes = ({group[part] for group in found if group[part]} for part in (0, 1))
    return [Group(label, attribute) for label in sorted(labels) for attribute in sorted(attributes)]


def _measured(config: RunConfig, root: Path, rates_from: Path | None, finished: Finished) -> dict[str, Rate]:
    if rates_from is None and not finished.records:
        return {}
    with opened(config) as context:
        identity = context.model_identity
    backbone = backbone_revision(config.classify)
    own = measured_rates(root, identity, backbone, config) if finished.records else {}
    return own | (measured_rates(rates_from, identity, backbone, config) if rates_from else {})
