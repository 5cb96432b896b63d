"""The place of an output in a bucket: an S3 service on this machine, and before it a proxy that fails as networks do."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.chaos.places import Disk

# Shares of all requests: answered by 503, cut off before, after and in the middle of their answer, two seconds late.
FAULTS = {"unavailable": 0.05, "cut_before": 0.003, "cut_after": 0.004, "cut_during": 0.003, "delayed": 0.01}


class Bucket(Disk):
    """One node, whose driver writes to ``s3://``; every second call of the command finds an empty copy of the bucket."""

    kinds: Mapping[str, int] = {**Disk.kinds, "store": 3}

    def start(self) -> None:
        """Start service and proxy, and make a bucket."""
        from tests.support.store.fault_proxy import FaultProxy
        from tests.support.store.s3_server import new_bucket, serving

        self._ends, self._calls = ExitStack(), 0
        self.bucket = new_bucket(self._ends.enter_context(serving()))
        self.proxy = self._ends.enter_context(FaultProxy(self.bucket.endpoint, **FAULTS).running())

    def environment(self) -> dict[str, str]:
        """The service's keys, and where the node keeps its copy."""
        from tests.support.store.s3_server import KEYS

        return {**KEYS, "FAIRSYNTH_CACHE": str(self.folder / f"copy-{self._calls // 2}")}

    def out(self, name: str) -> str:
        """The output's address by way of the proxy."""
        return str(self.bucket.uri(name, self.proxy.url))

    def renew(self) -> None:
        """Another call of the command; what is no longer used of the copies goes."""
        self._calls += 1
        shutil.rmtree(self.folder / f"copy-{self._calls // 2 - 1}", ignore_errors=True)

    def _objects(self, out: str) -> Any:
        """The output's objects, not by way of the proxy."""
        import os

        from fairsynth.store.objects import Objects
        from tests.support.store.s3_server import KEYS

        os.environ |= KEYS
        return Objects.at(self.bucket.uri(out.partition("?")[0].rsplit("/", 1)[1]))

    def committed(self, out: str) -> dict[str, object]:
        """The records of units and artifacts, with their sizes and times."""
        return {
            entry.key: (entry.size, entry.modified.isoformat())
            for entry in self._objects(out).walk("stages")
            if entry.key.endswith("/artifact.json") or (entry.key.endswith(".json") and entry.key.count("/") == 3)
        }

    def fail_for(self, seconds: float, how: str) -> list[str]:
        """Let the store fail with every request for so long."""
        self.proxy.all = how
        time.sleep(seconds)
        self.proxy.all = None
        return [f"store: {how} for {seconds:.0f} s"]

    def folder_of(self, out: str) -> Path:
        """The output as it would lie on a disk: of each unit the files that its record names, and all other objects."""
        objects = self._objects(out)
        target = self.folder / f"{out.partition('?')[0].rsplit('/', 1)[1]}-fetched"
        shutil.rmtree(target, ignore_errors=True)
        for key in (entry.key for entry in objects.walk("")):
            parts = key.split("/")
            if parts[0] == "stages" and len(parts) > 3 and parts[2] == "units":
                if len(parts) == 4 and key.endswith(".json"):
                    record = json.loads(objects.read(key))
                    unit = key.removesuffix(".json")
                    for file in record["files"]:
                        objects.download(f"{unit}/{record['attempt']}/{file}", target / unit / file)
                continue
            objects.download(key, target / key)
        return target

    def finish(self) -> None:
        """Stop proxy and service."""
        self._ends.close()
