"""The pipeline as a Ray job: local head with dashboard and token authentication."""

from __future__ import annotations

from tests.support.shared.folder_run import Submitted


def test_a_submitted_pipeline_succeeds(submitted: Submitted) -> None:
    told = submitted.told
    assert told["without a token"] == 401
    assert told["code"] == 0, told["printed"][-3000:] + told["complained"][-3000:]
    assert "succeeded" in told["printed"] and "verdict:" in told["printed"]
    assert (submitted.out / "report.json").exists()
