"""FLUX.2 [klein] (bfl.ai/blog/flux2): a flow on patches of latents, told of prompts by hidden layers of Qwen3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fairsynth.data.shapes import Shape
from fairsynth.models.families.family import Part, Tokenizer
from fairsynth.models.families.flow import FlowFamily

if TYPE_CHECKING:
    import torch

    from fairsynth.models.families.conditions import Conditions

# Tokens that are read, and how many of them the model's chat template puts around a prompt.
_TOKENS, _TEMPLATE = 512, 12
# Side in latents of the autoencoder of what is one latent of the network.
_PATCH = 2
# The most blocks of one stream that a model of the family has.
_SINGLE_BLOCKS = 24


class Flux2Klein(FlowFamily):
    """FLUX.2 [klein] of 4 and of 9 B, base and distilled; the latter make images alone."""

    name, title, pipeline_class = "flux2", "FLUX.2 [klein]", "Flux2KleinPipeline"
    parts: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("Flux2Transformer2DModel",)),
        "vae": Part("diffusers", ("AutoencoderKLFlux2",)),
        "text_encoder": Part("transformers", ("Qwen3ForCausalLM",)),
        "tokenizer": Part("transformers", ("Qwen2TokenizerFast", "Qwen2Tokenizer")),
    }
    tokenizers = (Tokenizer("tokenizer", "Qwen2Tokenizer", _TOKENS - _TEMPLATE),)
    image_size, folded = 1024, _PATCH
    negative_option = "negative_prompt_embeds=pipeline.encode_prompt({})[0].detach()"
    tag = "flux2"
    # Of the blocks of one stream, each is named: "to_out" alone is a list of layers in the others.
    targets = (
        "to_k", "to_q", "to_v", "to_out.0", "to_qkv_mlp_proj",
        *(f"single_transformer_blocks.{block}.attn.to_out" for block in range(_SINGLE_BLOCKS)),
    )  # fmt: skip
    shared_targets = (
        *targets, "add_k_proj", "add_q_proj", "add_v_proj", "to_add_out",
        "ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out",
    )  # fmt: skip

    def unusable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Guidance as an input of the network is not supported."""
        if not network_config.get("guidance_embeds", True):
            return ""
        return "takes guidance as an input of its transformer (guidance distillation), which is not supported"

    def untrainable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Training would undo what the distillation to few steps has taught."""
        return "is distilled to few steps, so it is not for training" if index.get("is_distilled") else ""

    def takes_guidance(self, pipeline: Any) -> bool:
        """Not by a distilled model, as in its own pipeline."""
        return not pipeline.config.is_distilled

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, 512, width): layers 9, 18 and 27 side by side, the padding's among them."""
        import torch

        from fairsynth.models.families.lengths import require_whole

        around = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        limit = _TOKENS - len(pipeline.tokenizer(around).input_ids)
        require_whole(pipeline.tokenizer, prompts, limit, "models.diffusion")
        # One at a time: with its hidden layers Qwen3 returns a number per token and word, hundreds of MB for each prompt.
        alone = [
            pipeline.encode_prompt([prompt], pipeline.device, max_sequence_length=_TOKENS)[0] for prompt in prompts
        ]
        return {"text": torch.cat(alone)}

    def posterior(self, pipeline: Any, images_N3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, (N, 4 C, h / 2, w / 2) each: patches of latents, normalised channel by channel."""
        found, (centre, spread) = pipeline.vae.encode(images_N3HW).latent_dist, _normal(pipeline.vae)
        return (_patches(found.mean) - centre) / spread, _patches(found.std) / spread

    def decode(self, pipeline: Any, latents_NCHW: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W), -1 to 1, of latents in the network's scale."""
        from torch.nn.functional import pixel_shuffle

        centre, spread = _normal(pipeline.vae)
        latents_NCHW = pixel_shuffle(latents_NCHW * spread.to(latents_NCHW) + centre.to(latents_NCHW), _PATCH)
        return pipeline.vae.decode(latents_NCHW.to(pipeline.vae.dtype), return_dict=False)[0]  # type: ignore[no-any-return]

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """Evenly from nothing but noise to the last step's share."""
        return [1 - step / steps for step in range(steps)]

    def mu(self, pipeline: Any, size: int | Shape, steps: int) -> float:
        """What the makers of the model found, by the number of tokens and of steps."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return float(compute_empirical_mu(self.tokens(pipeline, size), steps))

    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """By the transformer, to which an image is a row of tokens with a place each."""
        import torch

        count, _, height, width = sample_NCHW.shape
        places = [
            torch.arange(end, device=sample_NCHW.device) for end in (1, height, width, conditions["text"].shape[1])
        ]
        first, rows, columns, words = places
        found = network(
            sample_NCHW.flatten(2).transpose(1, 2),
            encoder_hidden_states=conditions["text"],
            timestep=times.expand(count) / 1000,
            img_ids=torch.cartesian_prod(first, rows, columns, first),
            txt_ids=torch.cartesian_prod(first, first, first, words),
            return_dict=False,
        )[0]
        return found.transpose(1, 2).unflatten(2, (height, width))  # type: ignore[no-any-return]


def _patches(latents_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) to (N, 4 C, h / 2, w / 2)."""
    from torch.nn.functional import pixel_unshuffle

    return pixel_unshuffle(latents_NCHW, _PATCH)


def _normal(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of patches of latents, (1, 4 C, 1, 1) each: the autoencoder learnt them."""
    mean, variance = (value.view(1, -1, 1, 1) for value in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (variance + vae.config.batch_norm_eps).sqrt()
