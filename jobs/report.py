"""The stage report as a job: ``ray job submit --working-dir . -- python -m jobs.report CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["report", *sys.argv[1:]])
