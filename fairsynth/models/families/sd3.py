"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a flow, two CLIP text encoders, and T5, which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from fairsynth.models.families.family import CLIP_TOKENIZERS, Part, Tokenizer, has_part
from fairsynth.models.families.flow import FlowFamily

if TYPE_CHECKING:
    import torch

    from fairsynth.models.families.conditions import Conditions

# Tokens of T5, as many as the pipeline reads unless it is told otherwise.
_T5_TOKENS = 256
# Tokens of a side in the table of positions, where the network's configuration does not say.
_POSITIONS = 96


class StableDiffusion3(FlowFamily):
    """Stable Diffusion 3 and 3.5."""

    name, title, pipeline_class = "sd3", "Stable Diffusion 3 or 3.5", "StableDiffusion3Pipeline"
    parts: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("SD3Transformer2DModel",)),
        "vae": Part("diffusers", ("AutoencoderKL",)),
        "text_encoder": Part("transformers", ("CLIPTextModelWithProjection",)),
        "text_encoder_2": Part("transformers", ("CLIPTextModelWithProjection",)),
        "text_encoder_3": Part("transformers", ("T5EncoderModel",), needed=False),
        "tokenizer": Part("transformers", CLIP_TOKENIZERS),
        "tokenizer_2": Part("transformers", CLIP_TOKENIZERS),
        "tokenizer_3": Part("transformers", ("T5TokenizerFast", "T5Tokenizer"), needed=False),
    }
    left_out: ClassVar[Mapping[str, None]] = {"image_encoder": None, "feature_extractor": None}
    tokenizers = (
        Tokenizer("tokenizer"),
        Tokenizer("tokenizer_2"),
        Tokenizer("tokenizer_3", "T5Tokenizer", _T5_TOKENS),
    )
    image_size = 1024
    tag = "sd3"
    # Those of diffusers' script for this model: attention of both streams.
    targets = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
        "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    )  # fmt: skip
    shared_targets = (
        *targets, "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0",
        "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip
    # As that script trains by default.
    density, weighs_clean = "logit_normal", True
    loss_weights = "levels of noise weighted by the error of the clean latents"

    def unusable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """T5 is there with its tokenizer, or not at all."""
        there = [part for part in ("text_encoder_3", "tokenizer_3") if has_part(index, part)]
        return f"has {there[0]}, but not its companion" if len(there) == 1 else ""

    def call_options(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """How many zeros stand for the tokens of a T5 that is missing."""
        missing = "text_encoder_3" in self.missing(index)
        return ("max_sequence_length=pipeline.tokenizer_max_length",) if missing else ()

    def load(self, source: str, revision: str | None, dtype: torch.dtype, **without: None) -> Any:
        """The pipeline; in the place of a network that is left out stands its configuration, which prompts are padded by."""
        from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

        index = StableDiffusion3Pipeline.load_config(source, revision=revision)
        # The pipeline wants to be told that they are missing.
        missing = dict.fromkeys(self.missing(index))
        pipeline = super().load(source, revision, dtype, **(missing | without))
        if pipeline.transformer is None:
            config = SD3Transformer2DModel.load_config(source, subfolder=self.network, revision=revision)
            pipeline.transformer = SimpleNamespace(config=SimpleNamespace(**config))
        return pipeline

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, tokens, width): both CLIPs' side by side, T5's behind; ``pooled`` (N, width) of both CLIPs.

        Where T5 is missing, zeros stand for its tokens, as many as CLIP reads: as in training (arXiv 2403.03206, figure 2).
        """
        from fairsynth.models.families.lengths import require_whole

        limit, t5 = pipeline.tokenizer_max_length, pipeline.tokenizer_3
        require_whole(pipeline.tokenizer, prompts, limit, "models.diffusion")
        require_whole(pipeline.tokenizer_2, prompts, limit, "models.diffusion")
        if t5 is not None:
            require_whole(t5, prompts, _T5_TOKENS, "models.diffusion")
        text, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, pipeline.device, 1, False, max_sequence_length=_T5_TOKENS if t5 else limit
        )
        return {"text": text, "pooled": pooled}

    def token_side(self, network_config: Mapping[str, Any]) -> int:
        """Of the model's own patches."""
        patch = network_config.get("patch_size", 2)
        return patch if isinstance(patch, int) and patch > 0 else 1

    def most_side(self, vae: Mapping[str, Any], network: Mapping[str, Any]) -> int | None:
        """By the table of positions, of which an image's are cut out."""
        tokens, factor = network.get("pos_embed_max_size", _POSITIONS), self.size_factor(vae, network)
        return tokens * factor if factor and isinstance(tokens, int) and tokens > 0 else None

    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """By the transformer."""
        return network(  # type: ignore[no-any-return]
            sample_NCHW,
            encoder_hidden_states=conditions["text"],
            pooled_projections=conditions["pooled"],
            timestep=times.expand(len(sample_NCHW)),
            return_dict=False,
        )[0]
