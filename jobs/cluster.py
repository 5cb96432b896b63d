"""The stage cluster as a job: ``ray job submit --working-dir . -- python -m jobs.cluster CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["cluster", *sys.argv[1:]])
