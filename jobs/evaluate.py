"""The stage evaluate as a job: ``ray job submit --working-dir . -- python -m jobs.evaluate CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["evaluate", *sys.argv[1:]])
