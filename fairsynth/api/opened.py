"""A finished run, opened: ``fairsynth.open_run``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.api.adapters import Adapters
from fairsynth.api.classifier import Classifier
from fairsynth.api.finished import finished_stage
from fairsynth.api.images import ImageSet, RealImage, SyntheticImage
from fairsynth.api.report import Report
from fairsynth.api.sets import built_in_root, real_images, synthetic_images
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable
from fairsynth.manifest import Manifest
from fairsynth.run_folder.mark import check_links
from fairsynth.store.view import newest, place_of, read_root, up_to_date, view_of


class Run:
    """A finished run: what lies in its output folder, as Python values. Each is read when it is first asked for.

    Examples
    --------
    >>> import fairsynth as fs
    >>> run = fs.open_run("runs/demo")  # doctest: +SKIP
    >>> run.report.methods["fairsynth"].worst_group_accuracy.mean  # doctest: +SKIP
    0.977
    >>> run.classifier("photo.png").label  # doctest: +SKIP
    'low'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        """The output folder, absolute; of a run in a bucket, this machine's copy of it: what is asked for is fetched there."""

    @cached_property
    def report(self) -> Report:
        """The report: verdict, methods, groups, tables."""
        return Report.read(self.root / "report.json")

    @cached_property
    def config(self) -> RunConfig:
        """The settings that the run was made with; ``out``, ``resources`` and ``bench`` are at their defaults.

        Raises ConfigError if another version of fairsynth wrote them, with other settings.
        """
        return load_config(self.report.content["config"])

    @cached_property
    def predictions(self) -> pa.Table:
        """Every method's prediction of every test image, from every seed: ``predictions.parquet``.

        Columns: method, seed, split, image_id, label, attribute, true_attribute, predicted, and probabilities in the
        order of the labels, sorted. ``.to_pandas()`` makes a DataFrame of it.
        """
        return pq.read_table(self._there("predictions.parquet"))

    @cached_property
    def manifest(self) -> pa.Table:
        """The real images that were used, a row for each: image_id, sha256, path, split, label, attribute, ..."""
        ingested = Manifest.read(finished_stage(self.root, "ingest").path / "manifest.parquet")
        if self.config.data.attribute != "discover":
            return ingested.table
        from fairsynth.stages.cluster.output import with_discovered

        return with_discovered(ingested, finished_stage(self.root, "cluster").path).table

    @cached_property
    def real(self) -> ImageSet[RealImage]:
        """The real images that were used, read where the dataset lies.

        Raises DataError if the dataset is not there any more; an image that has changed since raises it when it is read.
        """
        data, root = self.config.data, self.report.content["data"]["root"]
        if data.format == "demo":
            root = built_in_root(self.root, Path(root).name, self.config)
        return real_images(self.manifest, root, data, self._names)

    @cached_property
    def synthetic(self) -> ImageSet[SyntheticImage]:
        """The accepted synthetic images, from ``synthetic/``; none where no group was made.

        Their facts: prompt, seed, route, adapter, guidance, the filter's scores, and all else that makes them again.
        """
        stage = finished_stage(self.root, "synthesize")
        return synthetic_images(stage.path, stage.record["codec"], self.root / "synthetic", self._names)

    @cached_property
    def adapters(self) -> Adapters:
        """The trained adapters: (label, attribute, cluster) to the folder of its weights, which diffusers loads."""
        from fairsynth.models.sources import diffusion_source

        return Adapters(up_to_date(self.root / "adapters"), diffusion_source(self.config.models))

    @cached_property
    def classifier(self) -> Classifier:
        """The fair classifier: call it with images. Raises ConfigError if ``fairsynth`` was not among the methods."""
        folder = up_to_date(self.root / "classifier")
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{self.root} has no classifier/: fairsynth was not among the run's methods (tune.methods)"
            )
        return Classifier(folder)

    @cached_property
    def _names(self) -> dict[str, Sequence[str]]:
        groups = [group for split in self.report.content["dataset"].values() for group in split]
        return {name: sorted({group[name] for group in groups}) for name in ("label", "attribute")}

    def _there(self, name: str) -> Path:
        path = newest(self.root / name)
        if not path.is_file():
            raise DataError(f"{self.root} lacks {name}; run 'fairsynth report' with the run's options")
        return path

    def __repr__(self) -> str:
        return f"<Run in {printable(_shown(self.root))}: {self.report.verdict}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Open a finished run.

    Parameters
    ----------
    folder
        The run's output folder, or its address in a bucket as text: ``s3://...`` or ``gs://...``.

    Raises
    ------
    ConfigError
        There is no finished run, or a link lies where runs write.
    DataError
        Its report cannot be read.
    InfrastructureError
        The bucket does not answer, or this machine's copy cannot be written.

    Examples
    --------
    >>> import fairsynth as fs
    >>> run = fs.open_run("runs/demo")  # doctest: +SKIP
    >>> len(run.synthetic)  # doctest: +SKIP
    1200
    """
    root = view_of(folder) if isinstance(folder, Path) and place_of(folder) else read_root(os.fspath(folder))
    newest(root / "report.json")
    if not root.is_dir() and not place_of(root):
        raise ConfigError(f"there is no folder {root}; give the output folder of a run (--out)")
    check_links(root)
    if not (root / "report.json").is_file():
        raise ConfigError(
            f"{root} holds no finished run; finish it first: fairsynth run ... --out {root if place_of(root) else folder}"
        )
    run = Run(root)
    _ = run.report
    return run


def _shown(root: Path) -> str:
    """The folder as people call it: from where they are, if it lies below."""
    here = Path.cwd()
    if place_of(root):
        return f"{root}"
    return str(root.relative_to(here)) if root.is_relative_to(here) else str(root)
