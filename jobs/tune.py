"""The stage tune as a job: ``ray job submit --working-dir . -- python -m jobs.tune CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["tune", *sys.argv[1:]]))
