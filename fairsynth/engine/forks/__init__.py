"""Workers of a local Ray as forks of one process, which has imported their libraries once for all of them.

Each worker of each stage would import torch, transformers, diffusers and Ray anew: 6 to 11 seconds of a core.
"""
