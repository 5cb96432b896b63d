"""The configuration's sections of models and synthetic images: how adapters are trained, and images made and filtered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from fairsynth.config.types import Fraction, Generator, Positive, Section

RouteName = Literal[
    "own", "same-attribute", "same-label", "same-label-half", "same-label-late", "composed", "shared", "prompt"
]


ROUTES: tuple[RouteName, ...] = get_args(RouteName)


Scheduler = Literal["dpm++", "ddim", "euler", "unipc", "lcm"]


FrozenWeights = Literal["dtype", "int8"]


class ModelsConfig(Section):
    """The pretrained models: hub ids or local folders in the layout of ``save_pretrained``."""

    diffusion: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A text-to-image pipeline of diffusers, of a kind that the page on base models lists. ``demo`` stands for the model in the package."""
    diffusion_revision: str | None = None
    """Commit of the hub model; null: the newest when a run begins. Pin it."""
    clip: str = "openai/clip-vit-base-patch32"
    """The CLIP that embeds, clusters and filters. ``demo`` stands for the model in the package."""
    clip_revision: str | None = None
    """Commit of the hub model; null: the newest when a run begins. Pin it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the frozen models; adapters are always float32."""
    image_size: Positive = 512
    """Side in pixels at which images are encoded, trained on and generated; unless it is set, the base model's own."""
    shapes: Literal["square", "buckets"] = "square"
    """What the base model sees of an image, and makes. square: the middle square; buckets: the whole image but for a narrow rim, in one of seven shapes with about as many pixels, so portraits and landscapes stay what they are. CLIP and the classifier see the middle square either way."""
    accept_licence: str | None = None
    """Name of a base model's licence that forbids more than research, if what you do is allowed by it; without it such models are refused, and told by which name they are not."""

    @property
    def clip_is_tiny(self) -> bool:
        """Whether CLIP is the model in the package, of a few megabytes."""
        return self.clip == "demo"


class EmbedConfig(Section):
    """The embed stage: images become CLIP vectors, training images also latents."""

    unit_size: Positive = 128
    """Images per unit: embedded and committed at once."""


class ClusterConfig(Section):
    """The cluster stage: k-means of the CLIP vectors inside each group."""

    k: Positive | Literal["auto"] = "auto"
    """Clusters per group, or auto: the number up to max_k with the best silhouette."""
    max_k: Positive = 6
    """Upper limit for auto."""
    min_size: Positive = 10
    """Smallest cluster; k is lowered until every cluster reaches it."""
    min_group: Positive = 10
    """Groups with fewer training images get no adapter of their own: synthesize.routing says how they are made."""
    restarts: Positive = 8
    """k-means runs from different seeds, of which the best counts."""


class FinetuneConfig(Section):
    """The finetune stage: DreamBooth, with LoRA or of the whole network."""

    generator: Generator = "clustered-dreambooth"
    """vanilla: no adapters; lora: one per group, plain prompt; dreambooth: one per group with a rare token; clustered-dreambooth: one per cluster."""
    parameters: Literal["adapter", "full"] = "adapter"
    """adapter: LoRA, many at once; full: the whole network, one cluster at a time, as the paper's heavy variant."""
    prompt: str = "a photo of a {token} {label}, {attribute}"
    """What an adapter learns. {token} is left out for lora and in the class prompt."""
    rare_tokens: Annotated[tuple[str, ...], Field(min_length=1)] = ("sks", "ohwx", "zwx", "xjy", "qvb", "wzk")
    """Identifiers, given to the adapters of a group in turn."""
    rank: Positive = 16
    """Rank of the LoRA matrices: more learns more detail, and copies sooner."""
    alpha: Positive = 16
    """Strength of an adapter: its change of a layer is multiplied by alpha / rank."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("to_q", "to_k", "to_v", "to_out.0")
    """Name endings of the network's layers that get an adapter; unless they are set, those usual for the base model."""
    steps: Positive = 400
    """Optimizer steps of one adapter."""
    max_epochs: Positive | None = None
    """Upper limit of passes over a cluster's images: small clusters get fewer steps. null: no limit."""
    batch_size: Positive = 4
    """Images of one adapter in a step; those of the prior come on top."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate of adapters."""
    full_learning_rate: Annotated[float, Field(gt=0)] = 5e-6
    """Learning rate with parameters: full."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises to its value."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Longer gradients of an adapter are cut to this length."""
    snr_ceiling: Annotated[float, Field(gt=0)] | None = 5.0
    """Min-SNR loss weights (arXiv 2303.09556) with this ceiling; null: uniform weights."""
    prior: Literal["teacher", "images"] = "teacher"
    """Prior preservation. teacher: for the class prompt the frozen base's own prediction is the target; images: images of the class prompt, made by the base model before, are."""
    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of prior preservation; 0 switches it off. lora never uses it."""
    prior_batch_size: Positive | None = None
    """Samples of the prior in a step; null: batch_size."""
    prior_group: Literal["own", "same-attribute", "same-label"] = "own"
    """Whose class prompt the prior is of: the adapter's own group, or the smallest other group with the same attribute or label, which may borrow the adapter: it then keeps what the base model knows of that group."""
    class_images: Positive = 100
    """Images of each class prompt for prior: images."""
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of a cluster's images that is held out to validate its adapter on; the best state is kept. 0: none."""
    validation_min_images: Annotated[int, Field(ge=2)] = 20
    """Smaller clusters hold nothing out: their last state is kept."""
    validation_samples: Positive = 16
    """Samples of a validation: held-out images at fixed timesteps with fixed noise."""
    validate_every: Positive = 50
    """Steps of an adapter between its validations."""
    patience: Positive | None = None
    """Validations without improvement after which an adapter stops early; null: it uses up its steps."""
    max_failed_share: Fraction = 0.1
    """Share of the adapters that may fail (their loss explodes twice) before the stage counts as failed."""
    checkpoint_every: Positive = 100
    """Optimizer steps between checkpoints."""
    frozen_weights: FrozenWeights = "dtype"
    """Weights of the frozen network while adapters train. dtype: in the number format of models.dtype; int8: those of its linear layers as a byte each, for a card with less memory; steps take longer. Images are made with the whole weights either way."""

    @property
    def rate_name(self) -> str:
        """Name of the field whose learning rate counts."""
        return "learning_rate" if self.parameters == "adapter" else "full_learning_rate"

    @property
    def rate(self) -> float:
        """The learning rate that counts."""
        return float(getattr(self, self.rate_name))

    @property
    def prior_size(self) -> int:
        """Samples of the prior in a step: 0 where there is no prior preservation."""
        uses = self.generator in ("dreambooth", "clustered-dreambooth") and self.prior_weight > 0
        return (self.prior_batch_size or self.batch_size) if uses else 0


class SharedConfig(Section):
    """The shared adapter: one for the dataset. It learns all groups, each as often as the others, by their prompts, so it can put labels and attributes together whose words mean nothing to the base model. Not for generator: vanilla, nor parameters: full."""

    use: bool = True
    """Train the shared adapter; false leaves it out, and the route of its name with it."""
    rank: Positive = 16
    """As in finetune."""
    alpha: Positive = 16
    """As in finetune."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ff.net.0.proj",
        "ff.net.2",
        "proj_in",
        "proj_out",
        "conv1",
        "conv2",
        "conv_shortcut",
        "time_emb_proj",
    )
    """As in finetune; unless they are set, the base model's own. A word that it does not know changes an image only if more than attention moves."""
    steps: Positive = 2000
    """Optimizer steps."""
    batch_size: Positive = 8
    """Images in a step, groups in turn."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate at first; it falls to 0 along a cosine."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps over which the learning rate rises to its value."""
    text_dropout: Fraction = 0.1
    """Share of the samples learnt without a prompt, for guidance."""
    guidance: Annotated[float, Field(ge=1)] = 2.0
    """Guidance of its images. It has learnt without prompts, too, so it needs less than others; more shows groups more clearly, and looks less real."""


class SynthesizeConfig(Section):
    """The synthesize stage: what is generated and how."""

    per_group: Positive | Literal["largest"] = "largest"
    """Accepted images per group, or largest: as many as the largest training group has."""
    fill: bool = False
    """Count the real images too: each group gets only what it lacks. For training on real and synthetic images jointly; not with fairsynth in tune.methods."""
    cluster_shares: Literal["proportional", "uniform"] = "proportional"
    """How a group's images are shared out among its clusters: by their real images, or evenly."""
    prompt: str = "a photo of a {label}, {attribute}"
    """Prompt of the base model and of borrowed adapters, and text that CLIP compares images with."""
    negative_prompt: str = ""
    """What images should not show; with the route same-attribute the lender's label is added to it."""
    absent_groups: Literal["skip", "make"] = "skip"
    """Groups without any training image: leave them out, or make them as other groups without adapters."""
    routing: Literal["auto", "paper", "own", "same-attribute", "shared", "prompt"] = "auto"
    """How groups without enough images are made. auto: trial batches decide; paper: adapters of the largest group with the same label; own, prompt: by the prompt; same-attribute: adapters of the largest group with the same attribute. shared (the adapter that all groups share) and prompt make all groups so."""
    routes: Mapping[str, RouteName] = Field(default_factory=dict)
    """Routes of single groups, whatever routing says: {label/attribute: route}."""
    also_try: tuple[RouteName, ...] = ()
    """With auto: further routes to make trial batches by, for the report."""
    trial_images: Positive = 24
    """Images of a trial batch: one for each group and route."""
    prompt_margin: Fraction = 0.1
    """With auto: adapters of the attribute are preferred to the shared one, and prompts to both, only if the worst group is shown more often then, by this share and beyond chance (95 % intervals apart)."""
    min_shown: Fraction = 0.25
    """With auto: a group is made only if its trial batch shows it in at least this share of the images, by the lower end of the 95 % interval, and no less than by chance; if one is not, the others with its attribute are not made either. By the default an accepted image costs at most four. 0: all are made."""
    scheduler: Scheduler = "dpm++"
    """How noise is taken away; unless it is set, the way that is usual for the base model, and a way that does not suit it is refused. lcm needs a model distilled for it."""
    steps: Positive = 20
    """Denoising steps."""
    few_steps: Annotated[str, Field(min_length=1)] | None = None
    """A sampler of few steps: a LoRA that was distilled for the base model (LCM-LoRA and the like), as a .safetensors file, a folder or a hub id. It is added to the base before adapters are. What is not set is then: scheduler lcm, steps 4, guidance 1 and shared.guidance 1. null: none. For base models with a UNet; images are made in a fraction of the time, and show less variety."""
    few_steps_revision: str | None = None
    """Commit of the hub's few_steps; null: the newest when a run begins. Pin it."""
    guidance: Annotated[float, Field(ge=1)] = 7.5
    """How strongly images follow their prompt (classifier-free guidance); 1: no guidance."""
    borrow_guidance: Annotated[float, Field(ge=1)] | None = None
    """For images by borrowed adapters; null: guidance."""
    guidance_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the steps, from the first on, that guidance is for: 0.5 saves a quarter of the work."""
    unit_size: Positive = 16
    """Images per unit: generated in one batch, committed at once."""


class FilterConfig(Section):
    """The filter. CLIP score = text_weight * similarity to prompt + (1 - text_weight) * similarity to the real centroid."""

    text_weight: Fraction | Literal["random"] = 0.5
    """random: images are not scored, but drawn; for comparison."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the images of a group that is kept at most, best scores first."""
    min_probability: Fraction = 0.5
    """An image is rejected if the probe gives its label or its attribute less than this; 0: none is."""
    min_recognised: Fraction = 0.7
    """A group is made only if the probe recognises at least this share of its real images that it has not learnt from, if 10 or more are there to judge by; nor are adapters trained that could serve no other. 0, or min_probability: 0: all are made."""
    min_right: Fraction = 0.9
    """With auto: a group is made only if likely at least this share of its images that pass the probe show it, by its trial batch and by how often the probe errs in real images. 0, or min_probability: 0: all are made."""
    near_duplicates: bool = True
    """Reject images that look like another one of their group."""
    near_copies: bool = True
    """Reject images that look like a training image of their adapter."""
    max_rounds: Positive = 4
    """Times that images are made before a shortfall is reported."""

    @property
    def least_recognised(self) -> float:
        """``min_recognised``; 0 where the filter does not ask the probe, for nothing hangs on what it knows then."""
        return self.min_recognised if self.min_probability else 0.0
