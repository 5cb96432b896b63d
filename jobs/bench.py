"""The grid of methods and severities as a job: ``ray job submit --working-dir . -- python -m jobs.bench CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["bench", *sys.argv[1:]])
