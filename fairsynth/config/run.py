"""The configuration: one frozen model per stage, all of them in RunConfig.

A field's description is its documentation; unknown keys are refused. Which sections a stage
reads (``fairsynth.stages.<stage>.step``) decides what its fingerprint covers, so a field belongs to the
first stage that needs it, and whatever cannot change a result belongs to ``resources``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fairsynth.config.classify import BenchConfig, ClassifyConfig, EvaluateConfig, TuneConfig
from fairsynth.config.data import DataConfig
from fairsynth.config.generation import (
    ClusterConfig,
    EmbedConfig,
    FilterConfig,
    FinetuneConfig,
    ModelsConfig,
    SharedConfig,
    SynthesizeConfig,
)
from fairsynth.config.report import ReportConfig
from fairsynth.config.tracking import TrackingConfig
from fairsynth.config.types import Positive, Section


class ResourcesConfig(Section):
    """What the run may use. Nothing here can change a result beyond rounding."""

    workers: Positive | None = None
    """Actors, training runs and trials side by side; null: one per GPU, or per core without GPUs."""
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    """GPUs of one worker; null: 1 if the cluster has any, else 0."""
    threads: Positive = 1
    """CPU threads of one worker."""
    fork_workers: Literal["auto", "never"] = "auto"
    """Whether workers of a local Ray are forks of one process that has imported their libraries once for all. auto: on Linux without graphics cards; never: each imports them anew."""
    embed_batch: Positive = 32
    """Images that go through a frozen model at once."""
    adapters_per_run: Positive | None = None
    """Adapters that one Ray Train run trains (a lot); null: all of them shared out over the workers, 64 at most."""
    adapters_at_once: Positive | None = None
    """Adapters of a lot that train at a time; null: as many as memory holds, 16 at most."""
    compile: Literal["auto", "never", "always", "blocks"] = "auto"
    """Whether networks are compiled on GPUs (torch.compile). auto: to make images, a UNet as a whole, a transformer block by block; to train adapters, where that saves more time than compiling takes. always: to train adapters in any case, too; blocks: as auto, but a UNet that makes images block by block as well, which takes less time before the first image; never: not at all."""
    cuda_graphs: bool = False
    """Replay the passes of a compiled network as CUDA graphs: faster where passes are so small that launching kernels takes longer than computing, as with few adapters and small images; takes more memory."""
    workers_per_cluster: Positive = 1
    """Workers that train one cluster, data parallel, with finetune.parameters: full."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Worker failures that one Ray Train run or trial survives."""
    workers_per_classifier: Positive = 1
    """Workers that train one classifier, data parallel: in each trial and each final training, one classifier after the other."""
    disk_margin: Annotated[float, Field(ge=0)] = 1.2
    """Free room of the output folder's disk that a run asks for at its start, in multiples of what the plan says it is to write; 0: it begins on any disk."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    """Seconds of a classifier's training between its checkpoints, at least."""
    hang_seconds: Annotated[float, Field(ge=0)] = 600.0
    """Seconds after which a worker that stands still in the midst of a unit (no processor time, no disk) is replaced; 0: never."""


class RunConfig(Section):
    """The whole configuration of a run: where it writes, its seed, and a section for each stage."""

    out: Annotated[str, Field(min_length=1)] = "runs/default"
    """Output folder; on a cluster it must be shared by all nodes."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides all draws of the run but those of data.split_seed and data.severity_seed; torch's generators take no more than 32 bits."""
    data: DataConfig = DataConfig()
    models: ModelsConfig = ModelsConfig()
    embed: EmbedConfig = EmbedConfig()
    cluster: ClusterConfig = ClusterConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    shared: SharedConfig = SharedConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    filter: FilterConfig = FilterConfig()
    classify: ClassifyConfig = ClassifyConfig()
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    bench: BenchConfig = BenchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _is_consistent(self) -> RunConfig:
        for problem in (self._prompts(), self._full(), self._shapes(), self._methods(), self._trials()):
            if problem:
                raise ValueError(problem)
        return self

    def _trials(self) -> str:
        """What is wrong with the trial batches; empty if nothing is."""
        n, least = self.synthesize.trial_images, self.synthesize.min_shown
        # The lower end of Wilson's 95 % interval if all n of n images show their group.
        best = n / (n + 1.959964**2)
        if self.synthesize.routing != "auto" or best >= least:
            return ""
        return (
            f"synthesize.min_shown {least:g} is out of reach: if all {n} images of a trial batch show their group, the "
            f"lower end of the 95 % interval is {best:.2f}; set a smaller share, or a larger synthesize.trial_images"
        )

    def _prompts(self) -> str:
        """What is wrong with the prompts and the split; empty if nothing is."""
        for where, text in (("finetune.prompt", self.finetune.prompt), ("synthesize.prompt", self.synthesize.prompt)):
            needed = ("{label}",) if self.data.attribute == "discover" else ("{label}", "{attribute}")
            missing = [field for field in needed if field not in text]
            if missing:
                return f"{where} must contain {' and '.join(missing)}; it is {text!r}"
        if "{token}" not in self.finetune.prompt:
            return f"finetune.prompt must contain {{token}}; it is {self.finetune.prompt!r}"
        if self.data.split_fractions is not None and abs(sum(self.data.split_fractions) - 1) > 1e-9:
            return f"data.split_fractions must add up to 1; they are {self.data.split_fractions}"
        return ""

    def _full(self) -> str:
        """What does not go with training whole networks."""
        if self.finetune.parameters != "full":
            return ""
        if self.finetune.frozen_weights == "int8":
            return (
                "finetune.frozen_weights is int8, but finetune.parameters is full, which leaves no weight frozen; choose "
                "--finetune.frozen_weights dtype, or train adapters: --finetune.parameters adapter"
            )
        workers, per_cluster = self.resources.workers, self.resources.workers_per_cluster
        if self.finetune.generator == "lora":
            return (
                "finetune.parameters is full, but finetune.generator is lora; choose dreambooth or clustered-dreambooth"
            )
        if workers and per_cluster > workers:
            return f"resources.workers_per_cluster is {per_cluster}, but resources.workers is {workers}"
        if per_cluster > self.finetune.batch_size:
            return (
                f"resources.workers_per_cluster is {per_cluster}, but there are only "
                f"{self.finetune.batch_size} samples in a step to share (finetune.batch_size)"
            )
        return ""

    def _shapes(self) -> str:
        """What does not go with images of several shapes."""
        tuned = self.finetune
        if self.models.shapes == "square" or tuned.prior != "images" or not tuned.prior_size:
            return ""
        return (
            "finetune.prior is images, whose class images are squares, but models.shapes is buckets; choose --finetune.prior "
            "teacher, or --models.shapes square"
        )

    def _methods(self) -> str:
        """What does not go with the methods that are compared."""
        methods, alone = self.tune.methods, self.classify.synthetic in (None, "pretrain")
        lists = {"tune.methods": methods} | {
            f"bench.{name}": getattr(self.bench, name) for name in ("methods", "severities", "generators", "validation")
        }
        for where, values in lists.items():
            if len(set(values)) < len(values):
                names = ("original" if value is None else str(value) for value in values)
                return f"{where} names something twice: {', '.join(names)}"
        if "ffr" in methods and self.finetune.generator != "vanilla":
            return (
                f"tune.methods names ffr, which learns from images of the unchanged base model, but finetune.generator "
                f"is {self.finetune.generator}; choose --finetune.generator vanilla, or leave ffr out"
            )
        if not self.synthesize.fill:
            return ""
        if "ffr" in methods:
            return (
                "synthesize.fill leaves out what the common groups have, but ffr learns from the synthetic images alone "
                "at first and needs all groups; drop fill, or leave ffr out of tune.methods"
            )
        if "fairsynth" in methods and alone:
            return (
                "synthesize.fill leaves out what the common groups have, but fairsynth may learn from the synthetic "
                "images alone at first and then needs all groups; drop fill, let it learn from both at once (--classify.synthetic "
                "fill), or leave fairsynth out: --tune.methods '[erm, group-dro]'"
            )
        return ""
