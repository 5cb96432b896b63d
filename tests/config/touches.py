"""The declared table: another value for every setting, and the stages that read it. A new setting needs its line here.

A stage that reads a setting has it in its artifact's name, so the stage is made again when the setting changes, and with
it every stage that builds on what then differs. Settings that no stage reads change no result.
"""

from __future__ import annotations

_ALL = "ingest embed cluster finetune synthesize audit tune evaluate"
_MODELS = "embed finetune synthesize"
NOTHING = ""

# What each stage builds on.
NEEDS = {
    "ingest": "",
    "embed": "ingest",
    "cluster": "embed ingest",
    "finetune": "cluster embed",
    "synthesize": "finetune embed ingest",
    "audit": "synthesize embed ingest",
    "tune": "synthesize ingest",
    "evaluate": "tune ingest",
    "report": _ALL,
}

# Setting: (another value, the stages that read it), where the config is the default one.
TOUCHES: dict[str, tuple[object, str]] = {
    "out": ("elsewhere", NOTHING),
    "seed": (1, "cluster finetune synthesize audit tune evaluate"),
    "data.format": ("auto", "ingest"),
    "data.root": ("moved", NOTHING),
    "data.label_column": ("other_label", "ingest"),
    "data.attribute_column": (["other_attribute"], "ingest"),
    "data.split_column": ("other_split", "ingest"),
    "data.options": ({"file_column": "file_name"}, "ingest"),
    "data.attribute": ("discover", "ingest cluster tune"),
    "data.discovered": (3, NOTHING),
    "data.label_names": ({"cat": "kitten"}, "finetune synthesize"),
    "data.attribute_names": ({"indoor": "in a room"}, "finetune synthesize"),
    "data.unknown": ("drop", "ingest"),
    "data.split_fractions": ([0.5, 0.25, 0.25], "ingest"),
    "data.split_seed": (1, "ingest"),
    "data.split_names": ({"extra": "drop"}, "ingest"),
    "data.split_from": ({"test": "train"}, "ingest"),
    "data.missing_files": ("leave_out", "ingest"),
    "data.severity": (0.75, "ingest"),
    "data.severity_validation": (True, NOTHING),
    "data.severity_seed": (1, NOTHING),
    "data.aligned": ({"cat": "outdoor"}, NOTHING),
    "data.allow_missing": (True, "ingest"),
    "data.max_bad_fraction": (0.02, "ingest"),
    "data.max_bad_group_fraction": (0.1, "ingest"),
    "data.max_conflict_fraction": (0.01, "ingest"),
    "data.max_leak_fraction": (0.02, "ingest"),
    "data.follow_links": (True, "ingest"),
    "data.images.max_bytes": (1_000_000, "ingest"),
    "data.images.max_pixels": (10_000, "ingest"),
    "data.images.min_side": (4, "ingest"),
    "data.images.max_aspect": (10.0, "ingest"),
    "data.images.background": ("#000000", "ingest"),
    "data.images.frames": ("refuse", "ingest"),
    "data.images.constant": ("keep", "ingest"),
    "models.diffusion": ("another/model", _MODELS),
    "models.diffusion_revision": ("abc", _MODELS),
    "models.clip": ("another/clip", _MODELS),
    "models.clip_revision": ("abc", _MODELS),
    "models.dtype": ("bfloat16", _MODELS),
    "models.image_size": (256, _MODELS),
    "models.shapes": ("buckets", _MODELS),
    "models.accept_licence": ("flux-non-commercial", NOTHING),
    "embed.unit_size": (64, "embed"),
    "cluster.k": (2, "cluster"),
    "cluster.max_k": (5, "cluster"),
    "cluster.min_size": (8, "cluster"),
    "cluster.min_group": (20, "cluster"),
    "cluster.restarts": (4, "cluster"),
    "finetune.generator": ("dreambooth", "finetune"),
    "finetune.parameters": ("full", "finetune synthesize"),
    "finetune.prompt": ("one {token} {label}, {attribute}", "finetune"),
    "finetune.rare_tokens": (["ohwx"], "finetune"),
    "finetune.rank": (8, "finetune"),
    "finetune.alpha": (8, "finetune"),
    "finetune.target_modules": (["to_q"], "finetune"),
    "finetune.steps": (200, "finetune"),
    "finetune.max_epochs": (9, "finetune"),
    "finetune.batch_size": (8, "finetune"),
    "finetune.learning_rate": (1e-3, "finetune"),
    "finetune.full_learning_rate": (1e-5, NOTHING),
    "finetune.warmup_steps": (5, "finetune"),
    "finetune.weight_decay": (0.0, "finetune"),
    "finetune.max_grad_norm": (2.0, "finetune"),
    "finetune.snr_ceiling": (None, "finetune"),
    "finetune.prior": ("images", "finetune"),
    "finetune.prior_weight": (0.5, "finetune"),
    "finetune.prior_batch_size": (2, "finetune"),
    "finetune.prior_group": ("same-label", "finetune"),
    "finetune.class_images": (50, NOTHING),
    "finetune.validation_share": (0.2, "finetune"),
    "finetune.validation_min_images": (10, "finetune"),
    "finetune.validation_samples": (8, "finetune"),
    "finetune.validate_every": (25, "finetune"),
    "finetune.patience": (3, "finetune"),
    "finetune.max_failed_share": (0.5, NOTHING),
    "finetune.checkpoint_every": (10, NOTHING),
    "finetune.frozen_weights": ("int8", "finetune"),
    "shared.use": (False, "finetune synthesize"),
    "shared.rank": (8, "finetune"),
    "shared.alpha": (8, "finetune"),
    "shared.target_modules": (["to_q"], "finetune"),
    "shared.steps": (1000, "finetune"),
    "shared.batch_size": (4, "finetune"),
    "shared.learning_rate": (1e-3, "finetune"),
    "shared.warmup_steps": (5, "finetune"),
    "shared.text_dropout": (0.2, "finetune"),
    "shared.guidance": (3.0, "synthesize"),
    "synthesize.per_group": (12, "synthesize"),
    "synthesize.fill": (True, "synthesize"),
    "synthesize.cluster_shares": ("uniform", "synthesize"),
    "synthesize.prompt": ("one {label}, {attribute}", "synthesize"),
    "synthesize.negative_prompt": ("blur", "synthesize"),
    "synthesize.absent_groups": ("make", "synthesize"),
    "synthesize.routing": ("paper", "finetune synthesize"),
    "synthesize.routes": ({"cat/outdoor": "own"}, "synthesize"),
    "synthesize.also_try": (["composed"], "synthesize"),
    "synthesize.trial_images": (12, "synthesize"),
    "synthesize.prompt_margin": (0.2, "synthesize"),
    "synthesize.min_shown": (0.0, "synthesize"),
    "synthesize.scheduler": ("ddim", "synthesize"),
    "synthesize.steps": (10, "synthesize"),
    "synthesize.few_steps": ("owner/sampler", "synthesize"),
    "synthesize.few_steps_revision": ("abc", NOTHING),
    "synthesize.guidance": (5.0, "synthesize"),
    "synthesize.borrow_guidance": (5.0, "synthesize"),
    "synthesize.guidance_until": (0.5, "synthesize"),
    "synthesize.unit_size": (8, "synthesize"),
    "filter.text_weight": (0.25, "synthesize"),
    "filter.keep": (0.5, "synthesize"),
    "filter.min_probability": (0.4, "synthesize"),
    "filter.min_recognised": (0.0, "synthesize"),
    "filter.min_right": (0.0, "synthesize"),
    "filter.near_duplicates": (False, "synthesize"),
    "filter.near_copies": (False, "synthesize"),
    "filter.max_rounds": (2, "synthesize"),
    "classify.backbone": ("small", "tune"),
    "classify.backbone_revision": ("abc", "tune"),
    "classify.image_size": (64, "tune"),
    "classify.batch_size": (64, "tune"),
    "classify.pretrain_epochs": (5, "tune"),
    "classify.finetune_epochs": (5, "tune"),
    "classify.augment": (False, "tune"),
    "classify.flip": (False, "tune"),
    "classify.beta": (0.5, "tune"),
    "classify.synthetic": ("mix", "tune"),
    "classify.stage_2": ("full", "tune"),
    "classify.validation": ("choose", "tune"),
    "classify.augmentation": ("strong", "tune"),
    "tune.trials": (2, "tune"),
    "tune.search": ("optuna", "tune"),
    "tune.wave": (4, "tune"),
    "tune.worker_minutes": (60.0, "tune"),
    "tune.grace_epochs": (3, "tune"),
    "tune.select": ("accuracy", "tune"),
    "tune.methods": (["erm", "fairsynth"], "tune"),
    "evaluate.seeds": (5, "evaluate"),
    "report.faces": ("hidden", "report"),
    "bench.datasets": ({"one": {"seed": 3}}, NOTHING),
    "bench.severities": ([0.9], NOTHING),
    "bench.validation": (["biased"], NOTHING),
    "bench.methods": (["erm"], NOTHING),
    "bench.generators": (["lora"], NOTHING),
    "bench.seeds": (2, NOTHING),
    "bench.ablation": (True, NOTHING),
    "bench.variants": ({"five": {"cluster.k": 5}}, NOTHING),
    "resources.workers": (3, NOTHING),
    "resources.gpus_per_worker": (0.5, NOTHING),
    "resources.threads": (2, NOTHING),
    "resources.disk_margin": (0.0, NOTHING),
    "resources.embed_batch": (8, NOTHING),
    "resources.adapters_per_run": (2, NOTHING),
    "resources.adapters_at_once": (2, NOTHING),
    "resources.workers_per_cluster": (2, NOTHING),
    "resources.hang_seconds": (60.0, NOTHING),
    "resources.max_failures": (0, NOTHING),
    "resources.workers_per_classifier": (2, NOTHING),
    "resources.checkpoint_seconds": (1.0, NOTHING),
    "tracking.tensorboard": (False, NOTHING),
    "tracking.to": (["mlflow"], NOTHING),
    "tracking.project": ("other", NOTHING),
}

# What must be set for a value to be possible.
GIVEN: dict[str, dict[str, object]] = {
    "data.split_from": {"data.split_names": {"test": "drop"}, "data.split_from": {"test": "val"}},
    "synthesize.fill": {"classify.synthetic": "fill"},
}

_SAMPLING = {
    f"synthesize.{name}": "finetune synthesize" for name in ("steps", "guidance", "negative_prompt", "unit_size")
}
_PRIOR = ("prior", "prior_weight", "prior_batch_size", "prior_group")
_SHARED = [name for name in TOUCHES if name.startswith("shared.")]
_WITHOUT_SHARED = dict.fromkeys(_SHARED, NOTHING) | {"synthesize.routing": "synthesize"}
# Other configs, by their settings, and where the table reads otherwise for them; None: the two do not go together.
OTHERWISE: dict[str, tuple[dict[str, object], dict[str, str | None]]] = {
    "the default config": ({}, {}),
    "images for the prior": (
        {"finetune.prior": "images"},
        _SAMPLING | {"finetune.class_images": "finetune", "models.shapes": None},
    ),
    "attributes are discovered": (
        {"data.attribute": "discover"},
        {"data.discovered": "cluster", "data.severity": None},
    ),
    "a severity": (
        {"data.severity": 0.8},
        dict.fromkeys(("data.severity_validation", "data.severity_seed", "data.aligned"), "ingest")
        | {"data.attribute": None, "data.label_column": None, "data.attribute_column": None},
    ),
    "the whole UNet": (
        {"finetune.parameters": "full"},
        _WITHOUT_SHARED
        | dict.fromkeys(
            ("finetune.rank", "finetune.alpha", "finetune.target_modules", "finetune.learning_rate"), NOTHING
        )
        | {"finetune.full_learning_rate": "finetune", "finetune.frozen_weights": None},
    ),
    "adapters by plain prompts": (
        {"finetune.generator": "lora"},
        {"finetune.rare_tokens": NOTHING, "finetune.parameters": None}
        | {f"finetune.{name}": NOTHING for name in _PRIOR},
    ),
    "no adapters": (
        {"finetune.generator": "vanilla"},
        _WITHOUT_SHARED
        | {name: NOTHING for name in TOUCHES if name.startswith("finetune.")}
        | {
            "finetune.generator": "finetune synthesize",
            "seed": "cluster synthesize audit tune evaluate",
            "data.label_names": "synthesize",
            "data.attribute_names": "synthesize",
        },
    ),
}
