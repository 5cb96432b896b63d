"""The stage tune as a job: ``ray job submit --working-dir . -- python -m jobs.tune CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["tune", *sys.argv[1:]])
