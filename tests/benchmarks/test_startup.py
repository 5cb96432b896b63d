"""What starting takes is measured both ways, by the same names."""

from __future__ import annotations

import pytest

from benchmarks.startup.__main__ import _JOBS, _WORKERS, measure
from tests.support.docs.measured.startup import _TITLES


@pytest.mark.slow
def test_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = measure(_WORKERS, "ours") | measure(_JOBS, "ours")
    assert _TITLES.keys() <= found.keys() and all(value > 0 for value in found.values())
