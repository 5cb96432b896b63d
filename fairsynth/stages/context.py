"""What the stages share: configuration, output folder, the artifacts so far; and their one door to the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, Identity, output_root
from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.demo.place import Dataset, dataset_of, demo_root
from fairsynth.engine.session import Room as Room
from fairsynth.engine.session import Session, session_of
from fairsynth.engine.train import Job, Tally, run_jobs
from fairsynth.engine.trials import TrialWork, run_trials
from fairsynth.engine.units import run_data_parallel, run_units
from fairsynth.errors import FairsynthError
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, Manifest
from fairsynth.models.sources import clip_source, diffusion_source, revision
from fairsynth.stages.cluster.output import with_discovered
from fairsynth.work import Ran, Task, Work


@dataclass
class Context:
    """The state of one invocation. ``metadata``: if it was read already."""

    config: RunConfig
    root: Path
    session: Session
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    metadata: Metadata | None = None

    def artifact(
        self, stage: str, version: int, inputs: tuple[str, ...], config: Mapping[str, Any], **extra: str
    ) -> Artifact:
        """The stage's artifact, from what it reads: config values, earlier stages, model revisions."""
        digests = {name: self.artifacts[name].digest for name in inputs}
        return Artifact(self.root, Identity(stage, version, config, digests, extra))

    @property
    def model_identity(self) -> dict[str, str]:
        """The pretrained models and sizes that a result depends on."""
        models = self.config.models
        return {
            "diffusion": revision(diffusion_source(models), models.diffusion_revision),
            "clip": revision(clip_source(models), models.clip_revision),
            "dtype": models.dtype,
            "image_size": str(models.image_size),
            # Runs from before there were shapes keep their results.
            **({"shapes": models.shapes} if models.shapes != "square" else {}),
        }

    @cached_property
    def ingested(self) -> Manifest:
        """All usable real images, as ingest left them."""
        return Manifest.read(self.artifacts["ingest"].path / "manifest.parquet")

    @property
    def manifest(self) -> Manifest:
        """All usable real images, with discovered attributes once these exist."""
        if self.config.data.attribute == "discover" and "cluster" in self.artifacts:
            return self._discovered
        return self.ingested

    @cached_property
    def _discovered(self) -> Manifest:
        return with_discovered(self.ingested, self.artifacts["cluster"].path)

    @property
    def train_counts(self) -> Counter[Group]:
        """Training images per group."""
        return self.manifest.split(TRAIN).counts()

    @property
    def groups(self) -> list[Group]:
        """Every (label, attribute) that the dataset's values can make, in the order of ``group_names``."""
        labels, attributes = self.group_names
        return [Group(label, attribute) for label in labels for attribute in attributes]

    @property
    def group_names(self) -> tuple[list[str], list[str]]:
        """Labels and attributes of the whole dataset, sorted: their indices are the classifier's."""
        return tuple(sorted({v for v in self.manifest.column(n) if v}) for n in ("label", "attribute"))  # type: ignore[return-value]

    @property
    def demo_root(self) -> Path:
        """Where the built-in dataset is written."""
        return demo_root(self.root, self.config)

    @cached_property
    def dataset(self) -> Dataset:
        """The real images where they lie; the built-in ones, once written, are a folder of images like any other."""
        return dataset_of(self.root, self.config, self.metadata)

    def run_units(
        self,
        artifact: Artifact,
        names: Sequence[str],
        make: Callable[[], Work],
        prepare: Callable[[str], Task] | None = None,
        models: bool = True,
        per_call: int = 1,
    ) -> Ran:
        """Make an artifact's units on the cluster: see ``fairsynth.engine.units.run_units``."""
        stage = artifact.identity.stage
        return run_units(self.session, stage, artifact.units(), names, make, prepare, models, per_call)

    def run_trainings(self, artifact: Artifact, names: Sequence[str], make: Callable[[], Any]) -> Ran:
        """Make units that train a classifier each: on one worker, or on ``resources.workers_per_classifier``."""
        if self.config.resources.workers_per_classifier == 1:
            return self.run_units(artifact, names, make)
        stage = artifact.identity.stage
        return run_data_parallel(self.session, stage, artifact.units(), names, make, self._classifier_room)

    def run_trials(self, artifact: Artifact, trials: Mapping[str, TrialWork]) -> None:
        """Run trials side by side, or one after the other on ``resources.workers_per_classifier`` workers each.

        Each leaves a unit of its name. Raises what a trial raised on purpose, InfrastructureError or BudgetReached.
        """
        stage, storage, units = artifact.identity.stage, artifact.path / "ray", artifact.units()

        def done() -> int:
            return len(units.done_lately().intersection(trials))

        if self.config.resources.workers_per_classifier == 1:
            run_trials(self.session, stage, trials, storage, done)
            return
        jobs = {name: partial(_job_of_trial, trial) for name, trial in trials.items()}
        tally = Tally(len(trials), done)
        for ended in run_jobs(self.session, stage, jobs, storage, self._classifier_room(), tally):
            if isinstance(ended, FairsynthError):
                raise ended

    def _classifier_room(self) -> Room:
        workers, setting = self.config.resources.workers_per_classifier, "resources.workers_per_classifier"
        # One after another: a classifier that has several workers is to have all of them.
        return replace(self.room(workers, setting), side_by_side=1)

    def room(self, workers: int, setting: str, lanes: int = 1) -> Room:
        """Place jobs of several workers each: see ``Session.room``."""
        self.session.connect()
        return self.session.room(workers, setting, lanes)

    def run_jobs(
        self, artifact: Artifact, jobs: Mapping[str, Job], room: Room, total: int, done: Callable[[], float]
    ) -> list[float | FairsynthError]:
        """Run all jobs; returns for each when it began, or its failure. Of ``total`` pieces ``done()`` are done, parts of pieces too."""
        tally = Tally(total, done)
        return list(run_jobs(self.session, artifact.identity.stage, jobs, artifact.path / "ray", room, tally))

    def unit_failed(self, artifact: Artifact, unit: str, why: str) -> None:
        """Note in the run's log that a unit has no result, and that the stage goes on without it."""
        self.session.progress.failed(artifact.identity.stage, unit, why)

    def stage(self, name: str) -> AbstractContextManager[Callable[[str, Mapping[str, Any], bool], None]]:
        """Tell people that a stage is at work: see ``Progress.stage``."""
        return self.session.progress.stage(name)

    def found(self, artifact: Artifact) -> None:
        """Tell people that a stage was finished before, and is not looked at."""
        self.session.progress.found(artifact.identity.stage, artifact.name, artifact.record)

    def cell(self, number: int, total: int, title: str) -> None:
        """Tell people which run of a bench begins; the first is 1."""
        self.session.progress.cell(number, total, title)


def _job_of_trial(trial: TrialWork, ranks: Any, machine_goes: Callable[[], bool]) -> None:
    trial(lambda figures: None, ranks)


@contextmanager
def opened(config: RunConfig, metadata: Metadata | None = None) -> Iterator[Context]:
    """The context of a config, to look at what its output folder holds; opening it writes nothing there.

    At the end its connection to Ray is closed.
    """
    with session_of(config.resources) as session:
        yield Context(config, _root(config), session, metadata=metadata)


@contextmanager
def opened_for_work(
    config: RunConfig, metadata: Metadata | None = None, max_worker_hours: float | None = None
) -> Iterator[Context]:
    """The same for whoever holds the folder's lock and makes its stages: with the folder's log and progress.

    Work inside raises BudgetReached once it has used so many worker-hours.
    """
    root = _root(config)
    with session_of(config.resources, root, max_worker_hours) as session:
        yield Context(config, root, session, metadata=metadata)


def _root(config: RunConfig) -> Path:
    return output_root(config.out)
