"""What a family of base models is: the few things in which models differ, so that nothing else needs to know them.

Families are told apart by the class of their diffusers pipeline (``families.table``). A family is one object without a state;
its file imports torch's companions only when a model is loaded, so that plans and refusals cost nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.data.shapes import Shape, shape_of
from fairsynth.errors import ConfigError
from fairsynth.models.schedule import SCHEDULERS

if TYPE_CHECKING:
    import torch

    from fairsynth.config import Scheduler
    from fairsynth.models.families.conditions import Conditions
    from fairsynth.models.families.noise import Noise
    from fairsynth.models.schedule import Sampling

# More halvings than any image has; what says more is left to its loader, which refuses it.
_MOST_BLOCKS = 17
CLIP_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")


class Part(NamedTuple):
    """A part of a pipeline: the library and the classes that it may be of; without ``needed`` it may be missing."""

    library: str
    classes: tuple[str, ...]
    needed: bool = True


def has_part(index: Mapping[str, Any], part: str) -> bool:
    """Whether a pipeline has a part, by its ``model_index.json``, which may say anything."""
    named = index.get(part)
    return isinstance(named, list) and len(named) == 2 and all(named)


class Tokenizer(NamedTuple):
    """A tokenizer of a pipeline: its folder, its class in transformers, and the most tokens that are read.

    ``limit`` None: as many as the tokenizer says.
    """

    folder: str
    class_name: str = "CLIPTokenizer"
    limit: int | None = None


class Family(ABC):
    """A family of base models."""

    name: ClassVar[str]
    title: ClassVar[str]
    """For people: "Stable Diffusion 1.x or 2.x"."""
    pipeline_class: ClassVar[str]
    """Its pipeline in diffusers, as ``model_index.json`` names it."""
    parts: ClassVar[Mapping[str, Part]]
    """The pipeline's parts that are loaded, by folder."""
    left_out: ClassVar[Mapping[str, Any]] = {}
    """Options that keep the pipeline from loading what is not needed."""
    network: ClassVar[str] = "transformer"
    """The part that is trained; names of adapters' layers begin with it in files."""
    tokenizers: ClassVar[tuple[Tokenizer, ...]] = (Tokenizer("tokenizer"),)
    image_size: ClassVar[int]
    """Side in pixels of the images that the model was made for."""
    targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    """Name endings of the layers that get an adapter unless the settings say otherwise."""
    shared_targets: ClassVar[tuple[str, ...]]
    """The same of the adapter that all groups share, which must move more."""
    uneven: ClassVar[tuple[str, ...]] = ()
    """Name endings of layers to which texts of several lengths come as one row of tokens: no adapter can be trained there."""
    schedulers: ClassVar[tuple[Scheduler, ...]]
    """Ways to denoise that suit the model's noise, the usual one first."""
    tag: ClassVar[str]
    """What model hubs call models of the kind."""
    guidance_option: ClassVar[str] = "guidance_scale={}"
    """How the pipeline's own call is given guidance, as Python with a place for its expression."""
    negative_option: ClassVar[str] = "negative_prompt={}"
    """The same of the negative prompt."""
    weighs_by_snr: ClassVar[bool] = False
    """Whether ``finetune.snr_ceiling`` means something for its noise."""
    loss_weights: ClassVar[str] = "uniform loss weights"
    """What levels of noise weigh in training otherwise, for people."""
    wide_latents: ClassVar[bool] = False
    """Whether latents are float32 at least between steps, as in the model's own pipeline; ``predict`` takes and gives them so."""
    folded: ClassVar[int] = 1
    """Side in the autoencoder's latents of one of the network's, which has the others as channels."""
    channels_last: ClassVar[bool] = False
    """Whether a GPU is faster with that memory format: where convolutions do the work."""

    def load(self, source: str, revision: str | None, dtype: torch.dtype, **without: None) -> Any:
        """The pipeline (safetensors only), ``without`` some of its parts."""
        import diffusers

        formats = self.formats(source, revision, dtype)
        pipeline = getattr(diffusers, self.pipeline_class).from_pretrained(
            source, revision=revision, dtype=formats, use_safetensors=True, **self.left_out, **without
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def formats(self, source: str, revision: str | None, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
        """The number format of all parts; or by part, that of the others under ``default``."""
        return dtype

    def load_network(self, source: str, revision: str | None, dtype: torch.dtype) -> Any:
        """The network alone."""
        import diffusers

        (network_class,) = self.parts[self.network].classes
        return getattr(diffusers, network_class).from_pretrained(
            source, subfolder=self.network, revision=revision, dtype=dtype, use_safetensors=True
        )

    def call_options(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """What the pipeline's own call must be told besides, to make the same images, as Python; ``pipeline`` is its name."""
        return ()

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The parts that read prompts: often the largest, and of no more use once the prompts are read."""
        return tuple(part for part in self.parts if part.startswith(("text_encoder", "tokenizer")))

    def missing(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """The parts that a model lacks by its ``model_index.json``, and may lack."""
        return tuple(part for part, asked in self.parts.items() if not asked.needed and not has_part(index, part))

    def network_of(self, pipeline: Any) -> Any:
        """The network of a pipeline."""
        return getattr(pipeline, self.network)

    def unusable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Why a model of the family can be neither trained nor sampled here, for people; empty: it can be.

        ``network_config``: the network's ``config.json``; ``index``: the content of ``model_index.json``.
        """
        return ""

    def untrainable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Why a model of the family makes images here but is not trained further, for people; empty: it is."""
        return ""

    def takes_guidance(self, pipeline: Any) -> bool:
        """Whether a model is made to be guided by a negative prompt; one that was distilled may have guidance in itself."""
        return True

    @abstractmethod
    def check_schedule(self, scheduler: Mapping[str, Any], name: str) -> None:
        """Raise ConfigError for a model whose noise is not the family's.

        ``scheduler``: its scheduler's configuration as saved; ``name``: the model's, for people.
        """

    @abstractmethod
    def noise(self, source: str, revision: str | None) -> Noise:
        """How training images are noised, by the model's own schedule."""

    @abstractmethod
    def encode(self, pipeline: Any, prompts: Sequence[str]) -> Conditions:
        """What the network is told of the prompts: batch-first tensors on the pipeline's device, ``text`` among them.

        Raises DataError for a prompt whose end would be cut off.
        """

    def image_facts(self, sizes_N2: NDArray[np.int64], size: int | Shape) -> dict[str, NDArray[np.float32]]:
        """What the network is told of images besides their texts: float32 (N, …) each.

        ``sizes_N2``: height and width that images had before they were scaled to cover ``size``, and cut at the middle.
        """
        return {}

    def posterior(self, pipeline: Any, images_N3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the autoencoder's posterior, (N, C, h, w) each, in the network's scale.

        ``images_N3HW``: -1 to 1, in the autoencoder's number format.
        """
        found, config = pipeline.vae.encode(images_N3HW).latent_dist, pipeline.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return (found.mean - shift) * config.scaling_factor, found.std * config.scaling_factor

    def decode(self, pipeline: Any, latents_NCHW: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W), -1 to 1, of latents in the network's scale."""
        config = pipeline.vae.config
        latents_NCHW = latents_NCHW.to(pipeline.vae.dtype) / config.scaling_factor
        shift = getattr(config, "shift_factor", None) or 0.0
        return pipeline.vae.decode(latents_NCHW + shift, return_dict=False)[0]  # type: ignore[no-any-return]

    def latent_shape(self, pipeline: Any, size: int | Shape) -> tuple[int, int, int]:
        """Shape (C, h, w) of the latents of an image, whose sides ``pixels_per_latent`` divides."""
        each, (height, width) = self.pixels_per_latent(pipeline), shape_of(size)
        return int(self.network_of(pipeline).config.in_channels), height // each, width // each

    def pixels_per_latent(self, pipeline: Any) -> int:
        """Side in pixels of what one latent stands for."""
        return int(pipeline.vae_scale_factor) * self.folded

    def token_side(self, network_config: Mapping[str, Any]) -> int:
        """Side in latents of what is one token to the network; 1 where it takes latents one by one."""
        return 1

    def sides_multiple_of(self, pipeline: Any) -> int:
        """What the sides of images are multiples of, in pixels."""
        return self.pixels_per_latent(pipeline) * self.token_side(self.network_of(pipeline).config)

    def size_factor(self, vae: Mapping[str, Any], network: Mapping[str, Any]) -> int | None:
        """What the sides of the model's images are multiples of, by the configurations of its parts; None if they do not say."""
        blocks = vae.get("block_out_channels")
        if not isinstance(blocks, list) or not 0 < len(blocks) <= _MOST_BLOCKS:
            return None
        return 2 ** (len(blocks) - 1) * self.folded * self.token_side(network)  # type: ignore[no-any-return]

    def most_side(self, vae: Mapping[str, Any], network: Mapping[str, Any]) -> int | None:
        """The longest side in pixels that the network has positions for, by the same; None if none is too long, as far as they say."""
        return None

    def require_scheduler(self, name: str) -> None:
        """Raise ConfigError for a way to denoise that does not suit the model's noise."""
        if name not in self.schedulers:
            raise ConfigError(
                f"synthesize.scheduler: {name} is not for {self.title}; choose one of {', '.join(self.schedulers)}: "
                f"--synthesize.scheduler {self.schedulers[0]}"
            )

    @abstractmethod
    def scheduler(self, pipeline: Any, sampling: Sampling, size: int | Shape) -> Any:
        """A fresh scheduler with its timesteps set, with the model's own noise schedule, for images of a size.

        Raises ConfigError for a way to denoise that does not suit the model.
        """

    def scheduler_words(self, name: Scheduler) -> str:
        """The same for people who make images again, and how it is made if not by the model's own configuration."""
        return self.scheduler_class(name)

    def scheduler_class(self, name: Scheduler) -> str:
        """The class in diffusers of a way to denoise the family's models."""
        return SCHEDULERS[name]

    @abstractmethod
    def predict(
        self, network: Any, sample_NCHW: torch.Tensor, times: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """The network's prediction, (N, C, h, w). ``times``: the scheduler's timesteps, one or (N,)."""

    def to_kohya(self, layer: str) -> str | None:
        """The name that kohya's file format has for an adapted layer; None if it has none for the family."""
        return None
