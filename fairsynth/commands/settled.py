"""What commands do first with the models that a config names, before a dataset is read or anything is written."""

from __future__ import annotations

from fairsynth.config import RunConfig
from fairsynth.exports.terms import check_licence
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.hub.check import check_base, check_places
from fairsynth.models.hub.few_steps import check_few_steps


def settled(config: RunConfig) -> RunConfig:
    """The config with its base model's own values of what it leaves open.

    Raises ConfigError for models that do not exist or are not supported, that cannot do what the config asks of them, or whose
    licence forbids it. No weights are looked at, and the hub is waited for some seconds at most.
    """
    check_licence(config)
    check_places(config.models, config.classify)
    config = with_base(config)
    check_base(config.models)
    check_few_steps(config)
    return config
