"""The configuration of a run. RunConfig holds a section for each stage."""

from fairsynth.config.classify import ClassifyConfig, TuneConfig
from fairsynth.config.data import ANY_IMAGE, DataConfig, ImageRules, formats
from fairsynth.config.generation import (
    ROUTES,
    ClusterConfig,
    FilterConfig,
    FinetuneConfig,
    FrozenWeights,
    ModelsConfig,
    Scheduler,
    SharedConfig,
    SynthesizeConfig,
)
from fairsynth.config.report import ReportConfig
from fairsynth.config.run import ResourcesConfig, RunConfig
from fairsynth.config.tracking import TrackingConfig
from fairsynth.config.types import Section

__all__ = [
    "ANY_IMAGE",
    "ROUTES",
    "ClassifyConfig",
    "ClusterConfig",
    "DataConfig",
    "FilterConfig",
    "FinetuneConfig",
    "FrozenWeights",
    "ImageRules",
    "ModelsConfig",
    "ReportConfig",
    "ResourcesConfig",
    "RunConfig",
    "Scheduler",
    "Section",
    "SharedConfig",
    "SynthesizeConfig",
    "TrackingConfig",
    "TuneConfig",
    "formats",
]
