"""What a failure in a worker looks like to the caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.session import Session, session_of
from fairsynth.engine.units import run_units, stream
from fairsynth.errors import ConfigError, DataError, InfrastructureError

TEXT = "input_changed: 'a\nb.png' is not \ud83d what it was"


@pytest.mark.parametrize("kind", [DataError, ConfigError, InfrastructureError])
def test_an_error_raised_on_purpose_arrives_as_it_left(kind: type[Exception]) -> None:
    error = unpacked("embed", json.loads(json.dumps(packed(kind(TEXT)))))
    assert type(error) is kind and str(error) == TEXT


@pytest.mark.parametrize(
    "error", [ValueError("odd  \n shape"), MemoryError(), type("DataError2", (Exception,), {})("x")]
)
def test_any_other_error_is_infrastructure_with_its_kind_and_trace(error: Exception) -> None:
    try:
        raise error
    except Exception as caught:
        told = unpacked("embed", packed(caught))
    assert type(told) is InfrastructureError
    assert f"stage embed failed: {type(error).__name__}: {' '.join(str(error).split())}; finished units" in str(told)
    assert "test_failures.py" in str(told.__cause__)


def test_the_innermost_error_of_a_chain_counts() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = RuntimeError("again")
    outer.__cause__.__cause__ = DataError("this one")
    assert str(translated("embed", outer)) == "this one"
    assert "RuntimeError: alone" in str(translated("embed", RuntimeError("alone")))


class Failing:
    """Work, or its preparation, that refuses one name or one batch."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, task: Any) -> Mapping[str, Any]:
        if self.error is not None and "bad" in str(task):
            raise self.error
        return {"rows": pa.table({"n": [1]})}


def prepare(name: str) -> Mapping[str, Any]:
    if name == "bad":
        raise DataError("input_changed: now")
    return {"n": 1}


def no_model() -> Failing:
    raise ConfigError("no such model")


@pytest.fixture(scope="module")
def session() -> Any:
    with session_of(ResourcesConfig()) as session:
        yield session


def test_on_ray_too_whoever_raised_it(session: Session, tmp_path: Path) -> None:
    units = Units(tmp_path / "units")
    with pytest.raises(DataError, match=r"^input_changed: now$"):
        run_units(session, "embed", units, ["good", "bad"], Failing, prepare, models=False)
    with pytest.raises(ConfigError, match=r"^no such model$"):
        run_units(session, "embed", units, ["bad"], no_model, models=False)
    with pytest.raises(InfrastructureError, match="stage embed failed: KeyError: 'bad'"):
        run_units(session, "embed", units, ["bad"], make_failing, models=False)
    with pytest.raises(DataError, match=r"^no$"):
        list(stream(session, "ingest", [[{"a": "good"}], [{"a": "bad"}]], Failing(DataError("no"))))
    assert units.done() <= {"good"}


def make_failing() -> Failing:
    return Failing(KeyError("bad"))
