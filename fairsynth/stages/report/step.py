"""Stage report: all results, as a page for people and JSON for scripts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fairsynth.artifacts import Artifact, Counts, fingerprint, write_json
from fairsynth.run_folder.records import read_json
from fairsynth.stages.context import Context
from fairsynth.stages.evaluate.output import classifier_folder, predictions_file
from fairsynth.stages.stage import Made
from fairsynth.stages.tune.output import PICTURE, TRIALS
from fairsynth.stages.views import place, same, write_text
from fairsynth.store.mirror import newest, place_of
from fairsynth.work import Ran

VERSION = 6
# Where a bench leaves its table, if one was made in this output folder.
BENCH = Path("bench", "bench.json")


def artifact(context: Context) -> Artifact:
    """Named by all earlier results, by what was set aside, because ingest's digest covers the used images alone, by how
    pictures are shown, and by the bench that lies beside.
    """
    from fairsynth.stages.report.content import data_facts

    extra = {"data": fingerprint(data_facts(context.artifacts, ""))}
    if (bench := newest(context.root / BENCH)).is_file():
        extra["bench"] = hashlib.sha256(bench.read_bytes()).hexdigest()
    faces = {"faces": context.config.report.faces}
    return context.artifact("report", VERSION, tuple(context.artifacts), faces, **extra)


def make(context: Context, artifact: Artifact) -> Made:
    """Write report.json and report.html."""
    from fairsynth.stages.report.content import content
    from fairsynth.stages.report.inputs import Inputs
    from fairsynth.stages.report.lines import verdict_line
    from fairsynth.stages.report.page import page
    from fairsynth.stages.report.pictures.shown import shown

    inputs = Inputs(
        context.config,
        dict(context.artifacts),
        context.ingested,
        context.manifest,
        context.group_names,
        _images(context),
        context.model_identity,
    )
    report, folder, bench = content(inputs), artifact.path, context.root / BENCH
    table = bench.read_text("utf-8", "replace") if bench.is_file() else ""
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", page(report, shown(inputs, context.dataset.images, table)))
    n = len(context.manifest)
    return Made(Counts(n, n, 0, 0), verdict_line(report), Ran(1))


def _images(context: Context) -> str:
    """Where the real images lie, for people; the built-in ones of an output in a bucket are written by each machine anew."""
    local = context.dataset.storage.local
    if local is not None and place_of(context.root) and context.config.data.format == "demo":
        return f"dataset/{local.name}"
    return str(context.dataset.storage)


def show(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Lay out report, predictions, trials and classifier where people look, unless they are there already.

    report.json comes last: it says that the rest is complete.
    """
    folder = artifact.path
    if not fresh and all(same(folder / name, context.root / name) for name in ("report.json", "report.html")):
        return
    evaluated, tuned = context.artifacts["evaluate"], context.artifacts["tune"]
    from fairsynth.exports.classifier import publish

    report = read_json(folder / "report.json")
    ours = classifier_folder(evaluated, "fairsynth", 0)
    publish(ours, context.root / "classifier", context.group_names[0], context.config.classify.image_size, report)
    trials = (tuned.path / name for name in (TRIALS, PICTURE))
    for source in (*trials, predictions_file(evaluated), folder / "report.html", folder / "report.json"):
        place(source, context.root / source.name)


def summary_lines(root: Path) -> list[str]:
    """The table and the path of the report, for the end of a run."""
    from fairsynth.stages.report.lines import table_lines, use_lines, verdict_line

    content = read_json(newest(root / "report.json"))
    lines = [*table_lines(content), *use_lines(content)]
    return [*lines, verdict_line(content), f"report: {root / 'report.html'}"]
