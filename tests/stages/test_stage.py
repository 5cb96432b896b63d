"""A stage is run once, shown every time, and looked up without being run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Counts
from fairsynth.config import RunConfig
from fairsynth.engine.session import Session
from fairsynth.errors import ConfigError, DataError
from fairsynth.stages.context import Context
from fairsynth.stages.stage import Made, Stage, find_finished, run_stage
from fairsynth.work import Ran


class Recorded:
    """A stage that notes what is asked of it."""

    def __init__(self, fails: bool = False) -> None:
        self.calls, self.fails = list[str](), fails
        self.stage = Stage("embed", self.artifact, self.make, self.show, self.before)

    def before(self, context: Context) -> None:
        self.calls.append("before")

    def artifact(self, context: Context) -> Artifact:
        self.calls.append("artifact")
        return context.artifact("embed", 1, (), {"seed": context.config.seed})

    def make(self, context: Context, artifact: Artifact) -> Made:
        self.calls.append("make")
        assert artifact.path.is_dir() and "embed" not in context.artifacts
        if self.fails:
            raise DataError("no")
        (artifact.path / "result").write_text("42")
        facts = {"remarks": ["a \x1b[31mremark"], "more": 7}
        return Made(Counts(3, 2, 1, 0), "two of three", Ran(2, 1, 0.5), "abc", facts)

    def show(self, context: Context, artifact: Artifact, fresh: bool) -> None:
        self.calls.append("show anew" if fresh else "show")
        assert artifact.finished


def context_in(folder: Path, seed: int = 0) -> Context:
    config = RunConfig(out=str(folder), seed=seed)
    return Context(config, folder, Session(config.resources))


def test_a_stage_is_made_once_and_shown_every_time(tmp_path: Path) -> None:
    recorded = Recorded()
    context = context_in(tmp_path)
    done = run_stage(context, recorded.stage)
    assert recorded.calls == ["before", "artifact", "make", "show anew"]
    assert (done.cached, done.summary, done.remarks) == (False, "two of three", ("a ?[31mremark",))
    assert context.artifacts["embed"] is done.artifact
    record = done.artifact.record
    expected = {"digest": "abc", "units": 3, "cached": 1, "summary": "two of three", "more": 7, "workers": 1}
    assert expected.items() <= record.items() and record["remarks"] == ["a \x1b[31mremark"]
    assert record["startup_seconds"] == 0.5 and record["counts"] == vars(Counts(3, 2, 1, 0))
    again = run_stage(context_in(tmp_path), recorded.stage)
    assert recorded.calls[4:] == ["before", "artifact", "show"]
    assert (again.cached, again.summary, again.remarks) == (True, "nothing to do: two of three", ())
    assert again.artifact.record == record


def test_another_config_is_another_artifact(tmp_path: Path) -> None:
    recorded = Recorded()
    first, second = (run_stage(context_in(tmp_path, seed), recorded.stage).artifact for seed in (0, 1))
    assert first.path != second.path and recorded.calls.count("make") == 2


def test_a_stage_that_fails_leaves_no_record_and_is_not_in_the_context(tmp_path: Path) -> None:
    recorded, context = Recorded(fails=True), context_in(tmp_path)
    with pytest.raises(DataError, match="no"):
        run_stage(context, recorded.stage)
    assert not any("show" in call for call in recorded.calls) and context.artifacts == {}
    assert not recorded.artifact(context).finished


def test_what_is_looked_up_is_not_run(tmp_path: Path) -> None:
    recorded, context = Recorded(), context_in(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_finished(context, recorded.stage, "stage cluster needs the result of {}, which is")
    assert str(caught.value) == (
        f"stage cluster needs the result of embed, which is not in {tmp_path} for this config; "
        "run 'fairsynth embed' with the same options first (or 'fairsynth run' for everything)"
    )
    assert recorded.calls == ["artifact"] and context.artifacts == {} and not list(tmp_path.iterdir())
    made = run_stage(context_in(tmp_path), recorded.stage).artifact
    found = find_finished(context, recorded.stage, "{}")
    assert found.fingerprint == made.fingerprint and context.artifacts == {"embed": found}
    assert recorded.calls[1:] == ["before", "artifact", "make", "show anew", "artifact"]
