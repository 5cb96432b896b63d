"""What a failure in a worker looks like to the caller."""

from __future__ import annotations

import json

import pytest

from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.errors import ConfigError, DataError, InfrastructureError

TEXT = "input_changed: 'a\nb.png' is not \ud83d what it was"


@pytest.mark.parametrize("error_type", [DataError, ConfigError, InfrastructureError])
def test_an_error_raised_on_purpose_arrives_as_it_left(error_type: type[Exception]) -> None:
    error = unpacked("embed", json.loads(json.dumps(packed(error_type(TEXT)))))
    assert type(error) is error_type and str(error) == TEXT


@pytest.mark.parametrize(
    "error", [ValueError("odd  \n shape"), MemoryError(), type("DataError2", (Exception,), {})("x")]
)
def test_any_other_error_is_infrastructure_with_its_type_and_trace(error: Exception) -> None:
    try:
        raise error
    except Exception as caught:
        arrived = unpacked("embed", packed(caught))
    assert type(arrived) is InfrastructureError
    assert f"stage embed failed: {type(error).__name__}: {' '.join(str(error).split())}; finished units" in str(arrived)
    assert "test_failures.py" in str(arrived.__cause__)


def test_the_innermost_error_of_a_chain_counts() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = RuntimeError("again")
    outer.__cause__.__cause__ = DataError("this one")
    assert str(translated("embed", outer)) == "this one"
    assert "RuntimeError: alone" in str(translated("embed", RuntimeError("alone")))
    empty = RuntimeError("the actor died")
    empty.__cause__ = ValueError()
    assert "ValueError: the actor died" in str(translated("embed", empty))
