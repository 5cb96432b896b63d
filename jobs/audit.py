"""The stage audit as a job: ``ray job submit --working-dir . -- python -m jobs.audit CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["audit", *sys.argv[1:]])
