"""A process without a standard error, or with a closed one, is at no terminal and works all the same."""

from __future__ import annotations

import os
import sys

import pytest

from fairsynth.watching.bars import Bar, at_terminal


@pytest.mark.parametrize("closed", [True, False])
def test_without_streams_there_is_no_terminal(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w", encoding="utf-8") as stream:
        pass
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    monkeypatch.setattr(sys, "stdout", stream if closed else None)
    assert not at_terminal()
    bar = Bar()
    bar.begin("tune")
    bar.end()
