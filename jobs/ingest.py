"""The stage ingest as a job: ``ray job submit --working-dir . -- python -m jobs.ingest CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["ingest", *sys.argv[1:]])
