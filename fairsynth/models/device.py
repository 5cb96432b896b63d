"""Where models run."""

from __future__ import annotations

import torch


def pick_device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"
