"""The stage embed as a job: ``ray job submit --working-dir . -- python -m jobs.embed CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["embed", *sys.argv[1:]])
