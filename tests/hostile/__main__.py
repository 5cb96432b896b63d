"""``python -m tests.hostile [WORD...]`` tries all hostile inputs, or those that a word names, and prints the results by kind."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hostile.corpus import all_cases
from tests.hostile.running import runner, table

_CLASSIFIER = "import pathlib, sys; from tests.support.models.classifiers import put_run; put_run(pathlib.Path(sys.argv[1]), ['cat', 'dog'])"


def main() -> int:
    """Exit code 1 if one of them is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of kinds or names; none: all inputs")
    words = [word.lower() for word in parser.parse_args().words]
    chosen = [case for case in all_cases() if not words or any(word in case.id.lower() for word in words)]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        if any(case.torch for case in chosen):
            subprocess.run([sys.executable, "-c", _CLASSIFIER, str(run)], check=True)
        with runner(Path(folder), run) as attempt:
            for case in chosen:
                outcome = attempt(case)
                outcomes.append(outcome)
                if outcome.wrong or words:
                    print(f"{'ok ' if not outcome.wrong else 'BAD'} {case.id}: {outcome.told()}", flush=True)
    print(table(outcomes))
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
