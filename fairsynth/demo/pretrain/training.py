"""What the recipe's training loops share: schedule, averaged weights, resumable progress."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


class Average:
    """Exponential moving average of a model's weights, with a short memory at the start."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """Move the average towards the model's weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


class MuonAndAdamW:
    """Muon for the weight matrices ``hidden``, AdamW for all other weights of a model, as one optimizer.

    Muon makes a matrix's steps equally long in all directions; it wants a rate of its own (kellerjordan.github.io/posts/muon).
    """

    def __init__(
        self, model: torch.nn.Module, hidden: list[torch.nn.Parameter], muon_peak: float, adamw_peak: float
    ) -> None:
        chosen = {id(weight) for weight in hidden}
        others = [weight for weight in model.parameters() if id(weight) not in chosen]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(hidden, lr=muon_peak, weight_decay=0),
            torch.optim.AdamW(others, lr=adamw_peak, betas=(0.9, 0.99), weight_decay=1e-3),
        )
        self.peaks = (muon_peak, adamw_peak)
        self.counts = (len(hidden), len(others))

    def set_rate(self, share: float) -> None:
        """Set each rate to a share of its peak."""
        for part, peak in zip(self.parts, self.peaks, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * share

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, dict[int, dict[str, torch.Tensor]]]:
        """The moments by number of the weight: Muon's first, then AdamW's."""
        muon, adamw = (part.state_dict()["state"] for part in self.parts)
        return {"state": muon | {index + self.counts[0]: moments for index, moments in adamw.items()}}

    def load_state_dict(self, state: dict[str, dict[int, dict[str, torch.Tensor]]]) -> None:
        """Take the moments up again."""
        for part, first, count in zip(self.parts, (0, self.counts[0]), self.counts, strict=True):
            own = {i - first: moments for i, moments in state["state"].items() if first <= i < first + count}
            part.load_state_dict(part.state_dict() | {"state": own})


Optimizer = torch.optim.Optimizer | MuonAndAdamW


class Progress:
    """Prints a line now and then and keeps the state of a training loop so that it can go on."""

    def __init__(self, path: Path, name: str, steps: int, every: float = 60.0) -> None:
        self.path, self.name, self.steps, self.every = path, name, steps, every
        self.started = self.last = time.monotonic()
        self.losses: list[float] = []

    def due(self, step: int, loss: float) -> bool:
        """Note the loss; True about once per ``every`` seconds and at the end, when state should be kept."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.last < self.every and step + 1 < self.steps:
            return False
        mean = sum(self.losses) / len(self.losses)
        print(f"{self.name} step {step + 1}/{self.steps} loss {mean:.5f} elapsed {now - self.started:.0f}s", flush=True)
        self.last, self.losses = now, []
        return True

    def save(self, step: int, model: torch.nn.Module, average: Average, optimizer: Optimizer) -> None:
        """Write weights, averaged weights and optimizer moments (safetensors), replacing the last state."""
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in average.weights.items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        partial = self.path.with_suffix(".partial")
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial, {"step": str(step + 1)})
        partial.replace(self.path)

    def resume(self, model: torch.nn.Module, average: Average, optimizer: Optimizer) -> int:
        """Load the kept state, if any; return the step to go on from."""
        if not self.path.exists():
            return 0
        from safetensors import safe_open

        with safe_open(self.path, "pt") as handle:
            step = int(handle.metadata()["step"])
        tensors = load_file(self.path)
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        average.weights = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
        state = optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(state)
        return step
