"""Run folders that somebody else filled: each attack plants something that leads out of the folder, or that nobody made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

FINGERPRINT = "0123456789abcdef"
CANARY = "the canary of a private key"
Attack = Callable[[Path, Path], None]


def put_home(home: Path) -> Path:
    """Somebody's home folder, with what attacks on it were after."""
    for name in (".ssh/id_rsa", ".bashrc", "checkpoints/a.safetensors", "ray/state.json", ".fingerprint", "notes.txt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(CANARY)
    return home


def put_run(root: Path) -> Path:
    """An output folder as a run of an earlier version leaves it, as far as one has to look to take it for one."""
    for stage in ("finetune", "evaluate", "report"):
        folder = root / "stages" / f"{stage}-{FINGERPRINT}"
        (folder / "units" / "low--flower--0").mkdir(parents=True)
    (root / ".lock").write_text("")
    (root / "logs").mkdir()
    for name in ("adapters", "synthetic"):
        (root / name).mkdir()
        (root / name / ".fingerprint").write_text(FINGERPRINT)
    return root


def _stage(root: Path, stage: str) -> Path:
    return root / "stages" / f"{stage}-{FINGERPRINT}"


def _linked(place: str, target: str = "") -> Attack:
    """A link to the home folder, or to a file there, in a place of the run folder; ``STAGE`` stands for a stage's folder."""

    def plant(root: Path, home: Path) -> None:
        stage, _, rest = place.partition(":")
        path = (_stage(root, stage) / rest) if rest or place.endswith(":") else root / place
        _clear(path)
        path.symlink_to(home / target if target else home)

    return plant


def _clear(path: Path) -> None:
    """Make room for a link: the planted folders hold folders alone, and files without content."""
    if path.is_dir() and not path.is_symlink():
        for below in sorted(path.rglob("*"), reverse=True):
            below.rmdir() if below.is_dir() else below.unlink()
        path.rmdir()
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)


def _second_name(root: Path, home: Path) -> None:
    (root / ".lock").unlink()
    os.link(home / ".bashrc", root / ".lock")


def _pipe(place: str) -> Attack:
    def plant(root: Path, home: Path) -> None:
        path = root / place.replace("STAGE", f"stages/evaluate-{FINGERPRINT}")
        _clear(path)
        os.mkfifo(path)

    return plant


# Each is refused before anything is written: A3, A5, A6 and A7, and the like in all places where runs write.
LINKS: dict[str, Attack] = {
    "units to the home folder": _linked("evaluate:units"),
    "a stage to the home folder": _linked("evaluate:"),
    "all stages to the home folder": _linked("stages"),
    "checkpoints to the home folder": _linked("finetune:checkpoints", "checkpoints"),
    "the lock to a file": _linked(".lock", ".bashrc"),
    "the lock to a new file": _linked(".lock", "new"),
    "the lock a second name of a file": _second_name,
    "a report to a file": _linked("report:report.html", ".bashrc"),
    "a record to a file": _linked("report:artifact.json", ".bashrc"),
    "the page to a file": _linked("report.html", ".bashrc"),
    "predictions to nothing": _linked("predictions.parquet", "new"),
    "the classifier to the home folder": _linked("classifier"),
    "adapters to the home folder": _linked("adapters"),
    "synthetic to the home folder": _linked("synthetic"),
    "a private key in a unit": _linked("finetune:units/low--flower--0/notes.txt", ".ssh/id_rsa"),
    "weights that are a private key": _linked("finetune:units/low--flower--0/adapter.json", ".ssh/id_rsa"),
    "progress to a file": _linked("progress.json", ".bashrc"),
    "new progress to a file": _linked(".progress.json.new", ".bashrc"),
    "logs to the home folder": _linked("logs"),
    "the log to a file": _linked("logs/run.jsonl", ".bashrc"),
    "failures to a file": _linked("logs/failures.jsonl", "new"),
    "the dataset to the home folder": _linked("dataset"),
    "a demo dataset to the home folder": _linked("dataset/demo-0"),
    "tensorboard to the home folder": _linked("tensorboard"),
    "trackers' marks to the home folder": _linked(".tracked"),
    "a bench to the home folder": _linked("bench"),
    "a table of a bench to a file": _linked("bench/table.md", ".bashrc"),
    "the mark to a file": _linked(".fairsynth", ".bashrc"),
    "a lock that is a pipe": _pipe(".lock"),
    "a record that is a pipe": _pipe("STAGE/artifact.json"),
    "a table that is a pipe": _pipe("STAGE/predictions.parquet"),
    "a log that is a pipe": _pipe("logs/run.jsonl"),
}
# What people have of the names that runs use: A2.
THEIRS = (
    "classifier/model.txt", "adapters/thesis.txt", "synthetic/images.txt", ".adapters.bak/old.txt", ".synthetic.old/a.txt",
    "report.html", "report.json", "predictions.parquet", "trials.csv", "search.png", "stages/mine.txt", "progress.json",
    "logs/run.jsonl", "dataset/images.txt", "bench/table.md", ".fairsynth",
)  # fmt: skip
DEEP = "[" * 100_000
# Records of a stage that are damaged, or another program's: A15.
RECORDS = {
    "no JSON": "{",
    "empty": "",
    "a list": "[1, 2]",
    "null": "null",
    "nested deep": DEEP,
    "a number of many digits": '{"seconds": ' + "9" * 10_000 + "}",
    "no object's keys": "{}",
    "of another stage": json.dumps({"stage": "\x1b[2Jevil", "fingerprint": FINGERPRINT}),
    "counts that are none": json.dumps(
        {"stage": "evaluate", "fingerprint": FINGERPRINT, "counts": 3, "seconds": 1, "finished_at": 1, "inputs": {}}
    ),
    "seconds that are no number": json.dumps(
        {"stage": "evaluate", "fingerprint": FINGERPRINT, "counts": dict.fromkeys(("input", "used", "quarantined", "excluded"), 1),
         "seconds": "1", "finished_at": 1, "inputs": {}}
    ),
    "not UTF-8": "\udcff",
}  # fmt: skip
FACTS = {
    "name": "low--flower--0", "label": "low", "attribute": "flower", "cluster": 0, "images": 3, "prompt": "a photo", "steps": 4,
    "best_step": 4, "validation": [], "failed": "",
}  # fmt: skip
# Changes of an adapter's record: A4, and what would otherwise end as a mistake of fairsynth.
ADAPTERS: dict[str, dict[str, object]] = {
    "a cluster that is an absolute path": {"cluster": "/tmp/autostart"},
    "a cluster that leads out": {"cluster": "../../../autostart"},
    "a cluster below zero": {"cluster": -1},
    "a cluster that is true": {"cluster": True},
    "a cluster that is null": {"cluster": None},
    "another adapter's name": {"name": "../../x"},
    "a label that is a list": {"label": ["low"]},
    "validation that is text": {"validation": "x"},
    "failed that is a number": {"failed": 0},
}
UNITS = ("/etc", "../up", "..", ".", "", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "x" * 300)
