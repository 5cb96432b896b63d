"""Stable Diffusion 1.x and 2.x (arXiv 2112.10752): a UNet, one CLIP text encoder, noise of diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fairsynth.data.shapes import Shape
from fairsynth.models.families.family import CLIP_TOKENIZERS, Family, Part
from fairsynth.models.schedule import SCHEDULERS, check_prediction

if TYPE_CHECKING:
    import torch

    from fairsynth.models.families.conditions import Conditions
    from fairsynth.models.families.noise import Noise
    from fairsynth.models.schedule import Sampling


class UNetFamily(Family):
    """What Stable Diffusion 1.x, 2.x and XL have in common."""

    network = "unet"
    # A word that the base model does not know changes an image only if more than attention moves.
    shared_targets = (
        *Family.targets, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut",
        "time_emb_proj",
    )  # fmt: skip
    schedulers = ("dpm++", "ddim", "euler", "unipc", "lcm")
    tag = "stable-diffusion"
    weighs_by_snr, channels_last = True, True

    def unusable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Guidance as an input of the network is not supported."""
        if network_config.get("time_cond_proj_dim") is None:
            return ""
        return "takes guidance as an input of its UNet (guidance distillation), which is not supported"

    def check_schedule(self, scheduler: Mapping[str, Any], name: str) -> None:
        """Raise ConfigError for a network that predicts what is not known here."""
        check_prediction(scheduler, name)

    def load(self, source: str, revision: str | None, dtype: torch.dtype, **without: None) -> Any:
        """The pipeline with DPM-Solver++."""
        from diffusers import DPMSolverMultistepScheduler

        pipeline = super().load(source, revision, dtype, **without)
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        return pipeline

    def noise(self, source: str, revision: str | None) -> Noise:
        """The schedule of the model's own configuration."""
        from diffusers import DDPMScheduler

        from fairsynth.models.families.noise import Diffusion

        return Diffusion(DDPMScheduler.from_pretrained(source, subfolder="scheduler", revision=revision))

    def scheduler(self, pipeline: Any, sampling: Sampling, size: int | Shape) -> Any:
        """With the model's own noise schedule."""
        import diffusers

        self.require_scheduler(sampling.scheduler)
        scheduler = getattr(diffusers, SCHEDULERS[sampling.scheduler]).from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(sampling.steps, device=pipeline.device)
        return scheduler

    def to_kohya(self, layer: str) -> str | None:
        """``lora_unet_`` and diffusers' own name, which diffusers, WebUI and ComfyUI read."""
        return f"lora_unet_{layer.replace('.', '_')}"


class StableDiffusion(UNetFamily):
    """Stable Diffusion 1.x and 2.x."""

    name, title, pipeline_class = "sd", "Stable Diffusion 1.x or 2.x", "StableDiffusionPipeline"
    parts: ClassVar[Mapping[str, Part]] = {
        "unet": Part("diffusers", ("UNet2DConditionModel",)),
        "vae": Part("diffusers", ("AutoencoderKL",)),
        "text_encoder": Part("transformers", ("CLIPTextModel",)),
        "tokenizer": Part("transformers", CLIP_TOKENIZERS),
    }
    # The safety checker replaces images by black ones without an error, which would poison a training set.
    left_out: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None,
        "requires_safety_checker": False,
        "feature_extractor": None,
        "image_encoder": None,
    }
    image_size = 512

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, tokens, width)."""
        from fairsynth.models.families.lengths import require_whole

        limit = min(pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.max_position_embeddings)
        require_whole(pipeline.tokenizer, prompts, limit, "models.diffusion")
        return {"text": pipeline.encode_prompt(list(prompts), pipeline.device, 1, False)[0]}

    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """By the UNet."""
        return network(sample_NCHW, times, encoder_hidden_states=conditions["text"], return_dict=False)[0]  # type: ignore[no-any-return]
