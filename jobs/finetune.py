"""The stage finetune as a job: ``ray job submit --working-dir . -- python -m jobs.finetune CONFIG.yaml``."""

import sys

from fairsynth.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["finetune", *sys.argv[1:]]))
