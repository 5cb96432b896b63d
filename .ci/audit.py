"""Looks up every pinned version of constraints.txt among the known vulnerabilities, with pip-audit: ``make audit``.

Ends with 1 for a known vulnerability, and with a warning where no service of advisories can be reached; ``--must`` makes
an error of that. Two services are tried: OSV, and that of the package index.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SERVICES = ("osv", "pypi")
_SECONDS = 600


def main(words: Sequence[str]) -> int:
    """Ask one service after the other; returns the exit code."""
    wanted = pinned((ROOT / "constraints.txt").read_text("utf-8"))
    why = []
    for service in SERVICES:
        report, problem = asked(service, wanted)
        if report is None:
            why.append(f"{service}: {problem}")
            continue
        found, unknown = vulnerable(report), skipped(report)
        if found:
            print("\n".join(f"error: {line}" for line in found), file=sys.stderr)
            return 1
        if len(unknown) == len(wanted):
            why.append(f"{service}: it knows none of the packages")
            continue
        print(
            f"ok: {len(wanted) - len(unknown)} of {len(wanted)} pinned packages looked up by {service}, none vulnerable"
        )
        if unknown:
            print(f"warning: not known to {service}: {', '.join(unknown)}")
        return 0
    print(f"warning: NOT CHECKED for known vulnerabilities: no service answers ({'; '.join(why)})", file=sys.stderr)
    return 1 if "--must" in words else 0


def pinned(constraints: str) -> list[str]:
    """The pins, each once."""
    return sorted({line.strip() for line in constraints.splitlines() if "==" in line and not line.startswith("#")})


def asked(service: str, wanted: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """What pip-audit reports; or None, and the last line of why not."""
    command = [
        sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--requirement", "/dev/stdin",
        "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off",
    ]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603
            command, input="\n".join(wanted), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        return json.loads(done.stdout), ""
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_SECONDS} s"
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return None, said.partition("(")[0][:200]


def vulnerable(report: dict[str, Any]) -> list[str]:
    """A line for each known vulnerability."""
    return [
        f"{each['name']} {each['version']}: {one['id']}; mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each in report["dependencies"]
        for one in each.get("vulns", ())
    ]


def skipped(report: dict[str, Any]) -> list[str]:
    """The packages that the service does not know."""
    return [each["name"] for each in report["dependencies"] if "skip_reason" in each]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
