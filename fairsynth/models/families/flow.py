"""What base models of rectified flow have in common (arXiv 2209.03003): Stable Diffusion 3, FLUX.2 and their kin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fairsynth.data.shapes import Shape
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.families.family import Family
from fairsynth.models.schedule import SCHEDULERS

if TYPE_CHECKING:
    from fairsynth.config import Scheduler
    from fairsynth.models.families.noise import Noise
    from fairsynth.models.schedule import Sampling

# The only scheduler that such models come with.
EULER = "FlowMatchEulerDiscreteScheduler"


class FlowFamily(Family):
    """A family whose noise is a straight way from the image to the noise, at levels that the model's own scheduler has."""

    density: ClassVar[str] = "none"
    """How likely levels of noise are in training (``noise.Flow``)."""
    weighs_clean: ClassVar[bool] = False
    """Whether training weighs the error of the clean latents alike at all levels, and not that of the velocity."""
    schedulers = ("euler", "dpm++", "unipc")

    def check_schedule(self, scheduler: Mapping[str, Any], name: str) -> None:
        """Raise ConfigError for a scheduler of another kind of noise."""
        made_for = str(scheduler.get("_class_name", EULER))
        if made_for == EULER and not scheduler.get("invert_sigmas"):
            return
        kind = made_for if made_for != EULER else f"{EULER} with invert_sigmas"
        raise ConfigError(
            f"models.diffusion: the scheduler of {printable(name)!r} is {printable(kind[:80])!r}, which is not supported for "
            f"{self.title}; give the model {EULER} of the same shift in its folder scheduler, or choose another base model"
        )

    def scheduler_class(self, name: Scheduler) -> str:
        """Euler's is that of flows."""
        return EULER if name == "euler" else super().scheduler_class(name)

    def scheduler_words(self, name: Scheduler) -> str:
        """Others than Euler's must be told of the flow."""
        words = "with use_flow_sigmas=True, prediction_type='flow_prediction' and the shift of the model's own as flow_shift"
        return self.scheduler_class(name) if name == "euler" else f"{self.scheduler_class(name)} ({words})"

    def noise(self, source: str, revision: str | None) -> Noise:
        """The levels of the model's own scheduler, shifted as there."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        from fairsynth.models.families.noise import Flow

        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(source, subfolder="scheduler", revision=revision)
        return Flow(scheduler, self.density, self.weighs_clean)

    def scheduler(self, pipeline: Any, sampling: Sampling, size: int | Shape) -> Any:
        """Euler's as in the model's own pipeline, or a solver of higher order on the same shifted way.

        Raises ConfigError for one that is for noise of diffusion alone.
        """
        import diffusers

        self.require_scheduler(sampling.scheduler)
        own, steps, device = self.euler(pipeline), sampling.steps, pipeline.device
        mu = self.mu(pipeline, size, steps) if own.config.use_dynamic_shifting else None
        if sampling.scheduler == "euler":
            own.set_timesteps(steps, device=device, sigmas=self.sigmas(steps), mu=mu)
            return own
        other = getattr(diffusers, SCHEDULERS[sampling.scheduler])(
            num_train_timesteps=own.config.num_train_timesteps,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=_shift(own, mu),
        )
        other.set_timesteps(steps, device=device)
        return other

    def euler(self, pipeline: Any) -> Any:
        """A fresh scheduler of the model's own configuration."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """Shares of noise that Euler's steps begin at, before they are shifted; None: as the scheduler has them."""
        return None

    def mu(self, pipeline: Any, size: int | Shape, steps: int) -> float:
        """How far levels are shifted for images of a size, where the scheduler leaves that open (arXiv 2403.03206, 5.3.2).

        A straight line in the number of the image's tokens, by the scheduler's configuration.
        """
        config = pipeline.scheduler.config
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        # In the order of diffusers' own pipelines, so that levels are the same to the bit.
        return float(self.tokens(pipeline, size) * slope + (config.base_shift - slope * config.base_image_seq_len))

    def tokens(self, pipeline: Any, size: int | Shape) -> int:
        """Tokens of an image of a size."""
        _, height, width = self.latent_shape(pipeline, size)
        side = self.token_side(self.network_of(pipeline).config)
        return (height // side) * (width // side)


def _shift(own: Any, mu: float | None) -> float:
    """The factor that a solver of diffusers calls ``flow_shift``."""
    if mu is None:
        return float(own.config.shift)
    return math.exp(mu) if own.config.time_shift_type == "exponential" else mu
