"""Signs of life for job logs: from the beginning on, at an even pace, and without the workers' start-up."""

from __future__ import annotations

import pytest

from fairsynth.engine import heartbeat
from fairsynth.engine.heartbeat import Heartbeat


class Clock:
    """Seconds that go by as the test says."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_it_speaks_while_nothing_has_ended(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    beat = Heartbeat("embed", 10, 0)
    for _ in range(70):
        clock.now += 1
        beat.tell()
    assert told(capsys) == ["embed 0/10, 30 s so far", "embed 0/10, 60 s so far"]
    beat.set_done(1)
    clock.now += 20
    beat.tell()
    assert told(capsys) == ["embed 1/10 0.01/s eta 610s"]


def test_what_is_left_does_not_grow_while_a_unit_runs(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    beat, left = Heartbeat("finetune", 11, 0), list[float]()
    clock.now += 200
    beat.set_done(10)
    for _ in range(40):
        left.append(beat.pace()[1] or 0.0)
        clock.now += 1
    assert left[0] == 20 and left == sorted(left, reverse=True) and left[-1] == 0
    beat.tell()
    assert told(capsys)[-1].endswith("/s nearly done")
    beat = Heartbeat("finetune", 11, 0)
    clock.now += 10
    beat.set_done(1)
    clock.now += 500
    assert beat.pace()[1] == 90, "only the unit that runs is overdue"


def test_start_up_is_no_part_of_the_pace(clock: Clock) -> None:
    beat = Heartbeat("embed", 10, 0)
    clock.now += 70
    beat.ready(10)  # the first unit took ten seconds of them
    beat.set_done(1)
    assert beat.pace() == (0.1, 90)
    clock.now += 10
    beat.ready(5)
    beat.set_done(2)
    assert beat.pace() == (0.1, 80)
    for wrong in (-3600, 3600):  # clocks of two machines differ
        beat = Heartbeat("embed", 10, 0)
        clock.now += 60
        beat.ready(wrong)
        clock.now += 60
        beat.set_done(1)
        assert beat.pace()[0] in (1 / 60, 1 / 120)


def test_of_units_under_way_the_pace_counts_from_their_first_steps(clock: Clock) -> None:
    beat = Heartbeat("finetune", 11, 2.5)
    clock.now += 60
    beat.set_done(2.25)  # goes on from a checkpoint
    clock.now += 10
    beat.set_done(2.75)
    assert beat.pace() == (0.05, 165)
