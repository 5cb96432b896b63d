"""The whole pipeline as a job: ``ray job submit --working-dir . -- python -m jobs.pipeline --preset demo``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["run", *sys.argv[1:]])
