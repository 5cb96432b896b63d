"""The stage embed as a job: ``ray job submit --working-dir . -- python -m jobs.embed CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["embed", *sys.argv[1:]]))
