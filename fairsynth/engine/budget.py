"""The worker-hours that an invocation may use."""

from __future__ import annotations

from fairsynth.errors import BudgetReached


class Budget:
    """Worker-hours used so far, and their limit; None: no limit. Work that is cut short by it is kept up to its last unit."""

    def __init__(self, hours: float | None = None) -> None:
        self.hours, self.worker_seconds = hours, 0.0

    @property
    def used(self) -> float:
        """Worker-hours so far."""
        return self.worker_seconds / 3600

    @property
    def seconds_left(self) -> float | None:
        """Worker-seconds that are left, at least 0; None without a limit."""
        return None if self.hours is None else max(0.0, self.hours * 3600 - self.worker_seconds)

    def spend(self, workers: int, seconds: float) -> None:
        """Count the seconds of so many workers."""
        self.worker_seconds += workers * max(0.0, seconds)

    def check(self, where: str, moved: bool = True) -> None:
        """Raise BudgetReached if nothing is left; ``where`` says how far the work is, ``moved`` whether it came further."""
        if self.seconds_left == 0:
            raise BudgetReached(
                f"{self.used:.3g} worker-hours are used, and --max-worker-hours allows {self.hours:g}: stopped in {where}; "
                "finished work is kept, the same command goes on with as many hours again"
                + ("" if moved else "; this time nothing came to its end there, and if that stays so, allow more")
            )
