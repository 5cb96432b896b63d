"""Puts the plan of a command line together."""

from __future__ import annotations

import json
from pathlib import Path

from fairsynth.artifacts import finished_records
from fairsynth.commands.plan.data import as_data
from fairsynth.commands.plan.look import look_at
from fairsynth.commands.plan.plan import Plan, make_plan
from fairsynth.commands.plan.text import lines
from fairsynth.commands.settled import settled
from fairsynth.config import RunConfig
from fairsynth.data.recognise import recognise
from fairsynth.data.storage import Storage
from fairsynth.lock import check_writable
from fairsynth.models.hub.pinning import pinned
from fairsynth.preflight import worded
from fairsynth.run_folder.mark import check_folder
from fairsynth.store.place import output_root


def planned(config: RunConfig, root: Path, rates_from: str | None, price: float | None, as_json: bool) -> str:
    """The plan as text or JSON. Raises what a run raises before its work."""
    check_writable(root)
    check_folder(root)
    plan = plan_of(config, root, rates_from)
    layout = layout_of(config)
    if as_json:
        return json.dumps(as_data(plan, layout, price), indent=1, allow_nan=False)
    return "\n".join(lines(plan, layout, price))


def plan_of(config: RunConfig, root: Path, rates_from: str | None = None) -> Plan:
    """The plan of a config. Raises what a run raises before its work."""
    config = settled(config)
    counted, metadata = look_at(config, root)
    config = worded(config, metadata)
    if rates_from or finished_records(root, "ingest"):  # results, that say which commits made them
        config = pinned(config)
    return make_plan(config, root, counted, metadata, output_root(rates_from) if rates_from else None)


def layout_of(config: RunConfig) -> str:
    """The dataset's layout, recognised if the config does not say it."""
    data = config.data
    return recognise(Storage(data.root, data.follow_links)) if data.format == "auto" else data.format
