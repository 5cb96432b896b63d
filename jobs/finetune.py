"""The stage finetune as a job: ``ray job submit --working-dir . -- python -m jobs.finetune CONFIG.yaml``."""

import sys

from fairsynth.cli import script

if __name__ == "__main__":
    script(["finetune", *sys.argv[1:]])
