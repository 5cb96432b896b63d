"""Where models run."""

from __future__ import annotations

import torch


def has_half_precision(device: torch.device) -> bool:
    """Whether bfloat16 pays: only on a GPU with circuits for it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def pick_device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"
