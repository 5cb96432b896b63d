"""A local Ray without the processes that a run has no use for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def few_processes(setup: str | None) -> Iterator[None]:
    """A Ray that starts meanwhile has what a run needs; its workers are set up by the script ``setup``, None is Ray's own.

    It does without the monitor of an autoscaler, the one of workers' logs (the run shows none), and the dashboard's
    head, which sends usage statistics if it may and shows nothing where the dashboard is off: ``ray.init`` waits for it.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    absent, head = RayParams.update_if_absent, Node.start_api_server

    def ours(self: Any, **values: Any) -> None:
        self.no_monitor, self.include_log_monitor = True, False
        self.setup_worker_path = setup or self.setup_worker_path
        absent(self, **values)

    def none(self: Any, **_: Any) -> None:
        self._webui_url = ""

    RayParams.update_if_absent, Node.start_api_server = ours, none
    try:
        yield
    finally:
        RayParams.update_if_absent, Node.start_api_server = absent, head
