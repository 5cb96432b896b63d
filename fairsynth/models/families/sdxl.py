"""Stable Diffusion XL (arXiv 2307.01952): a larger UNet, two CLIP text encoders, and the sizes of images as a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fairsynth.data.shapes import Shape, shape_of
from fairsynth.models.families.family import CLIP_TOKENIZERS, Part, Tokenizer
from fairsynth.models.families.sd import UNetFamily
from fairsynth.models.families.sgm_names import sgm_name

if TYPE_CHECKING:
    import torch

    from fairsynth.models.families.conditions import Conditions


class StableDiffusionXL(UNetFamily):
    """Stable Diffusion XL: the base model. Its refiner is a pipeline of another class, without the first text encoder."""

    name, title, pipeline_class = "sdxl", "Stable Diffusion XL", "StableDiffusionXLPipeline"
    parts: ClassVar[Mapping[str, Part]] = {
        "unet": Part("diffusers", ("UNet2DConditionModel",)),
        "vae": Part("diffusers", ("AutoencoderKL",)),
        "text_encoder": Part("transformers", ("CLIPTextModel",)),
        "text_encoder_2": Part("transformers", ("CLIPTextModelWithProjection",)),
        "tokenizer": Part("transformers", CLIP_TOKENIZERS),
        "tokenizer_2": Part("transformers", CLIP_TOKENIZERS),
    }
    left_out: ClassVar[Mapping[str, Any]] = {"image_encoder": None, "feature_extractor": None, "add_watermarker": False}
    tokenizers = (Tokenizer("tokenizer"), Tokenizer("tokenizer_2"))
    image_size = 1024
    tag = "stable-diffusion-xl"

    def formats(self, source: str, revision: str | None, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
        """The autoencoder in float32 if it cannot do with less."""
        import torch
        from diffusers import AutoencoderKL

        # Without an entry diffusers means yes, too.
        needs_more = AutoencoderKL.load_config(source, subfolder="vae", revision=revision).get("force_upcast", True)
        return {"default": dtype, "vae": torch.float32} if needs_more else dtype

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, tokens, widths of both encoders) and ``pooled`` (N, width), the second encoder's projection.

        An empty prompt is encoded like any other. The pipeline's own call takes zeros in its place where it is given no
        negative prompt at all.
        """
        from fairsynth.models.families.lengths import require_whole

        for tokenizer, encoder in (
            (pipeline.tokenizer, pipeline.text_encoder),
            (pipeline.tokenizer_2, pipeline.text_encoder_2),
        ):
            limit = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
            require_whole(tokenizer, prompts, limit, "models.diffusion")
        text, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), device=pipeline.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def image_facts(self, sizes_N2: NDArray[np.int64], size: int | Shape) -> dict[str, NDArray[np.float32]]:
        """``time_ids`` (N, 6): the size before, the corner of what was cut out, the size after (section 2.2 of the paper).

        Height comes before width. The corner is in pixels of the scaled image, as diffusers' training scripts count them.
        """
        target_2 = np.array(shape_of(size), np.int64)
        # By the side that needs the larger factor: H / h of an image against W / w.
        side_N = (target_2 * sizes_N2[:, ::-1]).argmax(1)
        scaled_N2 = target_2[side_N, None] * sizes_N2 // np.take_along_axis(sizes_N2, side_N[:, None], 1)
        corner_N2 = np.rint((scaled_N2 - target_2) / 2)
        after_N2 = np.broadcast_to(target_2, sizes_N2.shape)
        return {"time_ids": np.hstack([sizes_N2, corner_N2, after_N2]).astype(np.float32)}

    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """By the UNet."""
        added = {"text_embeds": conditions["pooled"], "time_ids": conditions["time_ids"]}
        return network(  # type: ignore[no-any-return]
            sample_NCHW, times, encoder_hidden_states=conditions["text"], added_cond_kwargs=added, return_dict=False
        )[0]

    def to_kohya(self, layer: str) -> str | None:
        """``lora_unet_`` and the original code's name: kohya's scripts know no other for this UNet, others read both."""
        name = sgm_name(layer)
        return None if name is None else f"lora_unet_{name.replace('.', '_')}"
