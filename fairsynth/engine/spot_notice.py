"""Tells Ray when AWS is about to take this spot machine back, so that training saves its checkpoints in time.

Runs on every worker node, beside Ray (cluster.yaml starts it), with nothing but the standard library; it is one file, so
that it can be copied there. AWS gives notice two minutes ahead, by the instance metadata service, version 2:
``/latest/meta-data/spot/instance-action`` is not found until then, and says when after.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

METADATA = "http://169.254.169.254"
EVERY = 5.0  # seconds, as AWS recommends
_VALID_SECONDS = "21600"
_MARGIN = 5  # seconds by which Ray is to be done before AWS begins


def notice(metadata: str) -> datetime | None:
    """When the machine will be taken away; None without a notice. Raises OSError if the service does not answer."""
    ask = urllib.request.Request(  # noqa: S310
        f"{metadata}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": _VALID_SECONDS}
    )
    with urllib.request.urlopen(ask, timeout=5) as answer:  # noqa: S310
        token = answer.read().decode()
    look = urllib.request.Request(  # noqa: S310
        f"{metadata}/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
    )
    try:
        with urllib.request.urlopen(look, timeout=5) as answer:  # noqa: S310
            return datetime.fromisoformat(json.loads(answer.read())["time"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def drain(end: datetime, more: list[str]) -> int:
    """Have Ray drain this node, with ``more`` arguments to its command; returns the command's exit code."""
    left = max(1, int((end - datetime.now(UTC)).total_seconds()) - _MARGIN)
    command = [
        "ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
        "--deadline-remaining-seconds", str(left), *more,
    ]  # fmt: skip
    print(" ".join(command), flush=True)
    return subprocess.run(command, check=False).returncode  # noqa: S603


def main() -> None:
    """Look for a notice until there is one, and pass it on until Ray has taken it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata", default=METADATA)
    parser.add_argument("--every", type=float, default=EVERY)
    chosen, more = parser.parse_known_args()
    while True:
        try:
            end = notice(chosen.metadata)
        except (OSError, ValueError, KeyError) as error:
            print(f"no answer from {chosen.metadata}: {error}", flush=True)
            end = None
        if end is not None and drain(end, more) == 0:
            return
        time.sleep(chosen.every)


if __name__ == "__main__":
    main()
