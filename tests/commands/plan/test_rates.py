"""The shipped figures are those that were measured; rates of another run are read from its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairsynth.commands.plan.measured import measured_rates
from fairsynth.commands.plan.rates import stated
from fairsynth.commands.plan.rows import AUDITED
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.stages.audit.output import PER_GROUP
from tests.support.data.planning import ROOT, planned

DEMO, SD = stated(load_config(None, "demo", {})), stated(load_config(None, "waterbirds", {}))


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))  # type: ignore[no-any-return]


def test_every_stage_has_a_rate_with_its_source() -> None:
    for known in (DEMO, SD):
        assert len(known.rates) == 9
        for rate in known.rates.values():
            assert rate.per_second > 0 and rate.start >= 0 and rate.spread >= 2 and not rate.measured
            file = rate.source.split(" ")[0]
            assert (ROOT / file).is_file() if file.startswith("benchmarks") else rate.source.startswith("assumed: ")


def test_the_demos_rates_are_those_of_the_recorded_run() -> None:
    facts = result("demo_rates")
    for stage, known in facts["stages"].items():
        workers = known["workers"] if stage not in ("cluster", "audit", "report") else 1
        spent = sum(known.get("worker_seconds", {}).values()) or (known["seconds"] - known["startup_seconds"]) * workers
        assert DEMO.rates[stage].per_second == pytest.approx(facts["pieces"][stage] / spent, rel=1e-3), stage
        assert DEMO.rates[stage].start == pytest.approx(max(0, known["seconds"] - spent / workers), abs=0.06), stage
    assert str(facts["date"]) in DEMO.machine and facts["cpu"] in DEMO.machine


def test_the_cards_rates_are_those_of_the_benchmarks() -> None:
    stacked = [
        row
        for row in result("stacked_sd15_h100")["rows"]
        if (row["trainer"], row["adapters"], row["each"]) == ("stacked", 16, 1)
    ]
    assert SD.rates["finetune"].per_second == pytest.approx(stacked[0]["samples_per_s"], rel=1e-3)
    generated = result("generate_sd15_h100")
    rows = {row["how"]: row.get("images/s") for row in generated["rows"]}
    assert SD.rates["synthesize"].per_second == rows["4 stacked adapters, eager"] * generated["settings"]["steps"]
    erm = result("classify_gpu_h100")["rows"][0]
    for stage in ("tune", "evaluate"):
        assert SD.rates[stage].per_second == pytest.approx(erm["images_per_s"], rel=1e-3)
    known = result("demo_rates")["faiss"]
    work = known["vectors"] * known["centres"] * known["restarts"] / known["cpu seconds"]
    assert SD.rates["cluster"].per_second == pytest.approx(work, rel=1e-2)


def test_the_audit_looks_at_as_many_as_it_says() -> None:
    assert AUDITED == PER_GROUP


def test_records_of_another_version_say_nothing(tmp_path: Path) -> None:
    for stage in ("tune", "synthesize", "embed"):
        folder = tmp_path / "stages" / f"{stage}-1"
        folder.mkdir(parents=True)
        record = {"stage": stage, "finished_at": 1.0, "extra": {}, "config": {}, "counts": {}}
        (folder / "artifact.json").write_text(json.dumps(record), "utf-8")
    (tmp_path / "stages" / "embed-1" / "artifact.json").write_text("no JSON", "utf-8")
    assert measured_rates(tmp_path, {}, "small@main", RunConfig()) == {}


def test_the_page_has_the_figures_that_were_measured(tmp_path: Path) -> None:
    page, facts = " ".join((ROOT / "docs" / "plan.md").read_text("utf-8").split()), result("demo_rates")
    cost = facts["plan of 10 million rows"]
    for kind, name in (("csv", "CSV"), ("parquet", "Parquet")):
        seconds, peak = cost[kind]["processor seconds"], cost[kind]["peak MB"]
        assert any(f"{seconds} s {how} {peak} MB as {name}" in page for how in ("of processor time and", "and"))
    minutes, took = facts["plan of the demo, min"], facts["whole run, s"]
    assert f"plan says {minutes} minutes on two workers" in page and f"took {took} seconds" in page
    assert round(planned(tmp_path / "out", "demo")["seconds"]["likely"] / 60, 1) == minutes
