"""The command predict: a table of what a run's classifier sees in every image of a folder, and figures per group."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsynth.artifacts import write_json
from fairsynth.commands.predict.batches import Row, classified, parts_of
from fairsynth.commands.predict.group_figures import group_figures, lines
from fairsynth.commands.predict.table import KINDS, groups_file, is_ours, write_table
from fairsynth.commands.predict.truth import Known, Truth, looks_labelled, matched, read_truth
from fairsynth.config import DataConfig, ResourcesConfig
from fairsynth.config.addresses import check_address
from fairsynth.data.image_names import is_image_file
from fairsynth.data.location import container
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import enumerated, printable
from fairsynth.exports.classifier_folder import check_weights, image_size, labels_of
from fairsynth.exports.published import published_classifier
from fairsynth.lock import reading


def predict_images(
    images: str,
    run: Path,
    to: Path,
    truth: str | None = None,
    data: DataConfig | None = None,
    resources: ResourcesConfig | None = None,
) -> str:
    """Classify every image below ``images`` (or the one that it names) and write the table; returns lines for people.

    ``truth``: a table or a dataset's folder with labels and attributes; then figures per group are written beside the
    table, as ``NAME.groups.json``. ``data``: how it is read.
    Raises ConfigError for a run without a classifier and for a table of another kind, OutputLockedError while a run writes
    or another predict writes the table, DataError for a folder without images, if none can be read, and for a truth that
    cannot be read or says nothing of these images.
    """
    if to.suffix.lower() not in KINDS:
        raise ConfigError(f"--to {to} must end in {' or '.join(KINDS)}")
    for file in (to, groups_file(to)) if truth else (to,):
        if file.exists() and not is_ours(file):
            raise ConfigError(f"{file} is there and not written by predict; give a new name with --to")
    with reading(run):
        classifier = published_classifier(run)
        check_weights(classifier)
        image_size(classifier)  # raises, too, before any image is looked at
        labels, data = labels_of(classifier), data or DataConfig()
        storage, only = _place(images, data)
        said = read_truth(truth, data, _of_run(run)) if truth else None
        rows = _rows(storage, only, said)
        if not rows:
            raise DataError(f"{images} holds no image files; for images in shards or in Parquet: --truth {images}")
        pairing = _matched(said, storage, rows, labels) if said else None
        with parts_of(to) as parts:
            table, ran = classified(storage, rows, classifier, parts, resources or ResourcesConfig())
            write_table(table, labels, to, pairing[0] if pairing else None)
    told = [_told(table, labels, to) + (f"; {ran.cached} batches were there before" if ran.cached else "")]
    if said and pairing:
        told += _figures(table, labels, said, pairing, to)
    elif looks_labelled(images, labels, [row.path for row in rows[:1000]]):
        shown = printable(images)
        told.append(f"labels are in {shown}, too; for the accuracy of each group: --truth {shown}")
    return "\n".join(told)


def _place(images: str, data: DataConfig) -> tuple[Storage, str]:
    """The folder of the images; for a single file, its name in the folder."""
    check_address(images)
    if "://" in images:
        return Storage(images, data.follow_links), ""
    if os.path.isfile(images):
        folder, name = os.path.split(images)
        return Storage(folder or ".", data.follow_links), name
    if not os.path.isdir(images):
        raise DataError(f"{images} does not exist; give a folder of images, one image, s3://... or gs://...")
    return Storage(images, data.follow_links), ""


def _rows(storage: Storage, only: str, said: Truth | None) -> list[Row]:
    """The images, sorted by path: files, and those inside shards and tables if these are what the truth was read from."""
    files = storage.files() if not only else [file for file in storage.files() if file.path == only]
    rows = [Row(file.path, file.location, (file.size, file.time)) for file in files if only or is_image_file(file)]
    if said and said.entries and said.root.full("") == storage.full("") and not only:
        stamps = {file.path: (file.size, file.time) for file in files}
        rows += [Row(path, place, stamps.get(container(path, place), (0, 0))) for path, place in said.entries]
    return sorted(rows)


def _of_run(run: Path) -> dict[str, Any]:
    """The section data of the run's config, if it is there."""
    try:
        return dict(json.loads((run / "report.json").read_text("utf-8"))["config"]["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


Pairing = tuple[dict[str, Known], dict[str, str], int]


def _matched(said: Truth, storage: Storage, rows: Sequence[Row], labels: Sequence[str]) -> Pairing:
    """``truth.matched``; raises DataError where no image could be used, before any is classified."""
    paths = [row.path for row in rows]
    pairing = matched(said, storage, paths)
    known = pairing[0]
    if not known:
        theirs = next(iter((*said.known, *said.set_aside)), "")
        raise DataError(
            f"{said.source} names none of the {len(rows)} images: its first is {theirs!r}, the first image {paths[0]!r}; its "
            "paths are to count from its own folder or from that of the images"
        )
    found = {facts.label for facts in known.values()} - {""}
    if "label" in said.has and not found & {*labels}:
        raise DataError(
            f"the labels of {said.source} ({enumerated(sorted(found)) or 'none'}) are not those of the classifier "
            f"({enumerated(labels)}); choose their column with --data.label_column"
        )
    return pairing


def _told(table: pa.Table, labels: Sequence[str], to: Path) -> str:
    bad = table.filter(pc.not_equal(table["reason"], ""))
    if len(bad) == len(table):
        raise DataError(
            f"none of {len(table)} images can be read, first: {printable(str(bad['path'][0]))} ({bad['reason'][0]}); see {to}"
        )
    counts = {c["values"]: c["counts"] for c in pc.value_counts(table["label"]).to_pylist() if c["values"]}
    seen = ", ".join(f"{printable(label)} {counts.get(label, 0)}" for label in labels)
    return f"{len(table)} images in {printable(str(to))}: {seen}" + (
        f"; {len(bad)} cannot be read (column reason)" if len(bad) else ""
    )


def _figures(table: pa.Table, labels: Sequence[str], said: Truth, pairing: Pairing, to: Path) -> list[str]:
    known, reasons, without = pairing
    predicted = dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
    figures = group_figures(predicted, known, reasons, labels, said.has)
    target = groups_file(to)
    write_json(target, {**figures, "truth": said.source, "rows_without_image": without})
    more = [f"{printable(str(said.source))} names {without} images that are not among these"] if without else []
    return [*lines(figures, labels), *more, f"all figures: {printable(str(target))}"]
