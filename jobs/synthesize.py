"""The stage synthesize as a job: ``ray job submit --working-dir . -- python -m jobs.synthesize CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["synthesize", *sys.argv[1:]]))
