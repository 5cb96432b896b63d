"""The stage report as a job: ``ray job submit --working-dir . -- python -m jobs.report CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["report", *sys.argv[1:]]))
