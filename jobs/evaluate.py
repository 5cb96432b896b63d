"""The stage evaluate as a job: ``ray job submit --working-dir . -- python -m jobs.evaluate CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["evaluate", *sys.argv[1:]]))
