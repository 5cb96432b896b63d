"""Z-Image (arXiv 2511.22699): a flow, one stream of the image's and the text's tokens, Qwen3 as text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from fairsynth.models.families.family import Part, Tokenizer
from fairsynth.models.families.flow import FlowFamily

if TYPE_CHECKING:
    import torch

    from fairsynth.models.families.conditions import Conditions

# Side in latents of what is one token to the network.
_PATCH = 2
# Tokens that the pipeline reads unless it is told otherwise, and how many of them are Qwen3's chat template.
_TOKENS, _TEMPLATE = 512, 8


class ZImage(FlowFamily):
    """Z-Image. For adapters take the model itself, and not Turbo, which was distilled from it to need few steps, unguided.

    No file says that a model is Turbo, so the family cannot refuse to train it: classes and shapes are the same. As published,
    the shift of its scheduler is 3 and that of Z-Image 6, but anybody may set another. Trained further, it needs its steps again.

    Guidance is the pipeline's ``guidance_scale`` plus 1: the pipeline adds the difference that a text makes to the prediction
    for the prompt, and fairsynth to the one against it, so none is 0 there and 1 here. What the pipeline can do to guidance
    besides, ``cfg_normalization`` and ``cfg_truncation``, is off there by default and is not done here.
    """

    name, title, pipeline_class, tag = "zimage", "Z-Image", "ZImagePipeline", "z-image"
    parts: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("diffusers", ("ZImageTransformer2DModel",)),
        "vae": Part("diffusers", ("AutoencoderKL",)),
        "text_encoder": Part("transformers", ("Qwen3Model", "Qwen3ForCausalLM")),
        "tokenizer": Part("transformers", ("Qwen2Tokenizer", "Qwen2TokenizerFast")),
    }
    tokenizers = (Tokenizer("tokenizer", "Qwen2Tokenizer", _TOKENS - _TEMPLATE),)
    image_size = 1024
    # Attention and feed-forward of all blocks. Of the modulations only a block's own is a layer, the last one's begins with SiLU.
    shared_targets = (*FlowFamily.targets, "w1", "w2", "w3")
    uneven = ("cap_embedder.1",)
    wide_latents = True
    guidance_option = "guidance_scale={} - 1"

    def unusable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """The pipeline asks for patches of one size."""
        patches = network_config.get("all_patch_size", [_PATCH]), network_config.get("all_f_patch_size", [1])
        return "" if patches == ([_PATCH], [1]) else f"does not take patches of {_PATCH} x {_PATCH} latents alone"

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, tokens, width), with zeros behind each text's end, and ``mask`` (N, tokens)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from fairsynth.models.families.conditions import MASK
        from fairsynth.models.families.lengths import require_whole

        require_whole(partial(_asked, pipeline.tokenizer), prompts, _TOKENS, "models.diffusion")
        # One at a time: Qwen3's hidden layers, of which one is used, are a hundred MB for each prompt.
        texts = [
            pipeline.encode_prompt([prompt], pipeline.device, False, max_sequence_length=_TOKENS)[0][0]
            for prompt in prompts
        ]
        there = [torch.ones(len(text), dtype=torch.bool, device=text.device) for text in texts]
        return {"text": pad_sequence(texts, batch_first=True), MASK: pad_sequence(there, batch_first=True)}

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """Down to one step's share of the way, as in the pipeline."""
        import torch

        return torch.linspace(1.0, 1 / steps, steps).tolist()

    def token_side(self, network_config: Mapping[str, Any]) -> int:
        """Of the smallest patches that the network knows, which the pipeline takes."""
        return _PATCH

    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """By the transformer: it takes lists, counts time from noise to image, and predicts the way in that direction.

        What comes and goes is float32 at least, whatever the network's number format.
        """
        import torch

        from fairsynth.models.families.conditions import MASK

        text, counts = conditions["text"], conditions[MASK].sum(1).tolist()
        texts = [tokens[:count] for tokens, count in zip(text, counts, strict=True)]
        images = list(sample_NCHW.to(text.dtype).unsqueeze(2))
        way = network(images, ((1000 - times) / 1000).expand(len(images)), texts, return_dict=False)[0]
        way_NCHW = torch.stack(way).squeeze(2)
        return -way_NCHW.to(torch.promote_types(way_NCHW.dtype, torch.float32))


def _asked(tokenizer: Any, prompt: str, **options: Any) -> Any:
    """The tokens of a prompt within the chat template, as the pipeline puts it to the text encoder."""
    message = {"role": "user", "content": prompt}
    whole = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    return tokenizer(whole, **options)
