"""The stage synthesize as a job: ``ray job submit --working-dir . -- python -m jobs.synthesize CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["synthesize", *sys.argv[1:]])
