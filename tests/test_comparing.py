"""Two runs are compared by what they are, not by when, where and how fast they came to be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.comparing import differences, main


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """The same small run twice, in two checkouts, of which the second was slower."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, stamp, seconds, home in ((one, "1a", 1.5, "/home/a"), (other, "2b", 99.0, "/srv/b")):
        ingest, embed = folder / "stages" / f"ingest-{stamp}", folder / "stages" / "embed-77"
        files = {"trials.csv": {"sha256": stamp}}  # it has seconds in it
        record = {
            "files": files,
            "seconds": seconds,
            "digest": "d",
            "counts": {"input": 3},
            "reasons": {},
            "fingerprint": stamp,
        }
        for stage in (ingest, embed):
            (stage / "units" / "u").mkdir(parents=True)
            (stage / "artifact.json").write_text(
                json.dumps(record | {"fingerprint": "77"} if stage == embed else record)
            )
            (stage / "units" / "u" / "weights.bin").write_bytes(b"abc")
        (embed / "trials.csv").write_text(f"method,seconds,merit\nerm,{seconds},0.5\n")
        (folder / "adapters").mkdir()
        (folder / "adapters" / "README.md").write_text(f'base = "{home}/fairsynth/demo/weights/diffusion"\n')
        (folder / "report.json").write_text(json.dumps({"stages": [{"seconds": seconds}], "verdict": "improved"}))
        (folder / "predictions.parquet").write_bytes(b"p")
    return one, other


def test_times_and_places_do_not_count(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert differences(*runs) == []
    monkeypatch.setattr(sys, "argv", ["comparing", *map(str, runs)])
    assert main() == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("stages/embed-77/units/u/weights.bin", lambda text: text.replace("c", "d")),
        ("stages/ingest-2b/units/u/weights.bin", lambda text: text + "d"),
        ("stages/ingest-2b/artifact.json", lambda text: text.replace('"input": 3', '"input": 4')),
        ("stages/embed-77/artifact.json", lambda text: text.replace('"digest": "d"', '"digest": "e"')),
        ("stages/embed-77/trials.csv", lambda text: text.replace("0.5", "0.6")),
        ("adapters/README.md", lambda text: text.replace("base", "case")),
        ("report.json", lambda text: text.replace("improved", "inconclusive")),
        ("predictions.parquet", lambda text: text + "q"),
    ],
)
def test_what_differs_is_found(
    runs: tuple[Path, Path], name: str, change: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runs[1] / name
    path.write_text(change(path.read_text()))
    assert differences(*runs) == [f"differs: {name.replace('ingest-2b', 'ingest')}".replace("stages/", "")]
    monkeypatch.setattr(sys, "argv", ["comparing", *map(str, runs)])
    assert main() == 1


def test_what_only_one_run_has_is_found(runs: tuple[Path, Path]) -> None:
    one, other = runs
    shutil.rmtree(other / "stages" / "embed-77" / "units")
    assert differences(one, other) == [f"only in {one}: embed-77/units/u/weights.bin"]
    assert differences(other, one) == [f"only in {one}: embed-77/units/u/weights.bin"]
