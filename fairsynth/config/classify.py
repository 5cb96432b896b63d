"""The configuration's sections of classifiers: how they are trained, searched and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from fairsynth.config.types import Few, Fraction, Generator, Positive, Section, Severity

Synthetic = Literal["none", "pretrain", "mix", "fill"]
Stage2 = Literal["last-layer", "full", "group-dro", "dfr", "none"]
ValidationUse = Literal["choose", "learn"]
Augmentation = Literal["light", "strong", "styles"]
Method = Literal[
    "erm", "resample", "reweight", "group-dro", "jtt", "lff", "lisa", "dfr", "dfr-train", "afr", "ffr", "fairsynth"
]
Validation = Literal["given", "biased"]


class ClassifyConfig(Section):
    """The classifier and the fixed part of its training."""

    backbone: str = "microsoft/resnet-50"
    """A transformers ResNet (hub id or folder), or ``small``: a little ResNet with random weights."""
    backbone_revision: str | None = None
    """Commit of the hub model; null: the newest when a run begins. Pin it."""
    image_size: Positive = 224
    """Side in pixels at which the classifier sees images."""
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 128
    """Images of a step; batch normalisation cannot learn from one."""
    pretrain_epochs: Positive = 50
    """Maximum of epochs of stage 1 (fairsynth) and of the single stage of the baselines."""
    finetune_epochs: Positive = 50
    """Maximum of epochs of stage 2: the linear layer on real images."""
    augment: bool = True
    """Random shifts, and flips where flip is on."""
    flip: bool = True
    """Mirror training images at random; off where mirrored images change their label."""
    beta: Fraction | None = None
    """Share of cross-entropy beside the contrastive loss on synthetic images; null: searched, at first 0.5, or 1 where real images are learnt from, too."""
    synthetic: Synthetic | None = None
    """How fairsynth learns from synthetic images. none: not at all; pretrain: from them alone, at first; mix: from them and the real ones at once; fill: from the real ones and, of each group, as many synthetic ones as it lacks to be as large as the largest; null: searched. Of named parts that no policy of the search has, one policy is trained."""
    stage_2: Stage2 | None = None
    """What fairsynth then trains: the linear layer, on real images (last-layer; group-dro: by Group-DRO's loss, and everything where synthetic is none; dfr: refitted on balanced validation images), everything on real images (full), or nothing (none); null: searched. The paper's are pretrain and last-layer."""
    validation: ValidationUse | None = None
    """What fairsynth's validation images are for. choose: epochs and settings (and dfr's layer); learn: the whole network learns from them as from training images, every group alike, and no epoch is chosen; null: searched. Policies are compared by cross-fitting: each learns from one half and is judged by the other."""
    augmentation: Augmentation | None = None
    """How images change while a classifier learns. light: as augment and flip say; strong: by four random changes more of six (place, colour, light, sharpness, a covered part, noise), and with several passes over few images in each epoch, about 2,500 images; styles: as strong, with about 10,000, and in half of the batches images exchange mean and deviation of the network's first maps, so that tint, light or texture tell less; null: searched, light and strong for every method, styles for fairsynth alone."""


class TuneConfig(Section):
    """The search: the same number of trials for every method, compared on validation images."""

    trials: Few = 16
    """Trials of every method."""
    search: Literal["random", "optuna"] = "random"
    """optuna: after the first wave by Optuna's tree-structured Parzen estimator (pip install 'fairsynth[optuna]')."""
    wave: Positive = 8
    """Trials of a method that run side by side before the next ones are chosen, with optuna or worker_minutes."""
    worker_minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes, summed over all workers, after which no further wave begins, for no method; null: only trials count."""
    grace_epochs: Positive = 5
    """Epochs after which only the best third of a method's trials goes on; again after three times as many, and so on."""
    select: Literal["worst-group", "worst-class", "accuracy"] = "worst-group"
    """The validation figure by which epochs and trials are chosen. worst-class looks at labels alone."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("erm", "group-dro", "fairsynth")
    """What is trained and compared; each at most once."""


class EvaluateConfig(Section):
    """The final training runs with the best setting of each method."""

    seeds: Few = 3
    """Trainings of every method with its best setting; figures and intervals are over them."""


class BenchConfig(Section):
    """The grid of ``fairsynth bench``: datasets x severities x validation x methods x generators x seeds."""

    datasets: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Several datasets: {name: {section.key: value}}, such as data.root, prompts and names of values; what is not set is as in the config. A dataset that sets data.root and no data.format is recognised (auto), if the config's is demo. Empty: the config's own dataset alone."""
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (None,)
    """Levels of data.severity; original: as the dataset is."""
    validation: Annotated[tuple[Validation, ...], Field(min_length=1)] = ("given",)
    """The validation images at each severity. given: as the dataset and data.severity_validation say; biased: with data.severity_validation. At original there is nothing to bias; it runs as given."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = get_args(Method)
    """What is compared; ffr takes part where vanilla is among the generators."""
    generators: tuple[Generator, ...] = ("vanilla", "lora", "dreambooth", "clustered-dreambooth")
    """What makes the images that fairsynth learns from: a row of the table each."""
    seeds: Few = 1
    """Repetitions of everything; evaluate.seeds trainings each. The first has the config's own data.severity_seed (which images of rare groups stay), data.split_seed (the split, where the dataset has none) and seed (all the rest), each further one a hash of them and its number in place of three. Pretrained models stay, and so do a dataset's own split and, at original, its images."""
    ablation: bool = False
    """Also run fairsynth with other k, text_weight, beta and per_group, one at a time, by the paper's policy; and by each policy alone."""
    variants: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Further rows: {name: {section.key: value}}, fairsynth with these settings."""
