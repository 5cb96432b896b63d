"""The grid of datasets, severities, methods, generators and repetitions: the paper's table, for any dataset.

Each cell is a config, and its stages are artifacts like those of a run: cells share what is equal, and the same command
resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fairsynth.classify.methods import SYNTHETIC
from fairsynth.classify.policies import PAPERS, POLICIES
from fairsynth.config import RunConfig
from fairsynth.config.load import changed
from fairsynth.errors import ConfigError
from fairsynth.escaping import plain
from fairsynth.manifest import seed_for

_POLICIES = {
    ", ".join(policy): {f"classify.{part}": value for part, value in policy._asdict().items()} for policy in POLICIES
}
_PAPERS = _POLICIES[", ".join(PAPERS)]
# Questions that the paper leaves open: each policy alone, then one change at a time under the paper's policy. There the
# encoder learns from synthetic images alone, so their worth is clearest. k says
# nothing where the shared adapter is taken.
ABLATION: Mapping[str, Mapping[str, Any]] = {
    **_POLICIES,
    **{f"beta {b}": {"classify.beta": b, **_PAPERS} for b in (0.25, 0.5, 0.75, 1.0)},
    **{f"k {k}": {"cluster.k": k, "shared.use": False, **_PAPERS} for k in (1, 2, 5, "auto")},
    "without the shared adapter": {"shared.use": False, **_PAPERS},
    **{f"text weight {a}": {"filter.text_weight": a, **_PAPERS} for a in (0.0, 0.5, 1.0, "random")},
    **{f"{n} per group": {"synthesize.per_group": n, **_PAPERS} for n in (100, 300, 1000)},
}
# What a dataset cannot set, and where it is set.
_THE_GRIDS = {"out": "", "data.severity": ": bench.severities", "tune.methods": ": bench.methods"}


@dataclass(frozen=True)
class Cell:
    """Methods that are trained on the same images: real ones alone, or those of one generator or variant.

    ``dataset``: its name, empty for the config's own; ``of_dataset``: its settings. ``validation``: given or biased.
    """

    severity: float | None
    repetition: int
    methods: tuple[str, ...]
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    of_dataset: Mapping[str, Any] = field(default_factory=dict)
    validation: str = "given"

    @property
    def level(self) -> str:
        """The severity for people."""
        return "original" if self.severity is None else f"{self.severity * 100:g} %"

    def config(self, base: RunConfig) -> RunConfig:
        """The config of its run. Raises ConfigError for an unknown or impossible setting."""
        own: dict[str, Any] = {"data.severity": self.severity, "tune.methods": list(self.methods)}
        if self.validation == "biased":
            own["data.severity_validation"] = True
        try:
            config = changed(base, {**_recognised(base, self.of_dataset), **self.settings, **own})
        except ConfigError as error:
            raise ConfigError(f"dataset {self.dataset!r}: {error}" if self.dataset else str(error)) from None
        return changed(config, _redrawn(config, self.repetition))


def _recognised(base: RunConfig, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dataset's settings; one that lies in a folder is not the built-in one, whose root means nothing."""
    if base.data.format == "demo" and "data.root" in settings:
        return {"data.format": "auto", **settings}
    return settings


def _redrawn(config: RunConfig, repetition: int) -> dict[str, int]:
    """All seeds of a repetition: those of the config for the first one, for others a hash of them and the number.

    So benches with other seeds share no repetition, as they would if the number were added.
    """
    seeds = {
        "seed": config.seed,
        "data.severity_seed": config.data.severity_seed,
        "data.split_seed": config.data.split_seed,
    }
    if not repetition:
        return seeds
    return {name: seed_for("repetition", seed, repetition) % 2**32 for name, seed in seeds.items()}


def cells(config: RunConfig) -> list[Cell]:
    """All cells in running order: severity by severity, all datasets at each, the cheap ones first.

    Raises ConfigError if no cell is left, if a variant has no name or another row's, or for a dataset without a name or
    with settings that are the grid's.
    """
    _check_variants(config)
    _check_datasets(config)
    bench = config.bench
    if "biased" in bench.validation and set(bench.severities) == {None}:
        raise ConfigError(
            "bench.validation says biased, but at original nothing is biased; name a severity: --bench.severities '[95%]'"
        )
    grid = [
        cell
        for severity in bench.severities
        for validation in (bench.validation if severity is not None else ("given",))
        for repetition in range(bench.seeds)
        for name, settings in (bench.datasets or {"": {}}).items()
        for cell in _cells(config, Cell(severity, repetition, (), "", {}, name, settings, validation))
    ]
    if not grid:
        raise ConfigError(
            "nothing to compare: ffr needs vanilla among bench.generators, and fairsynth a generator or a variant"
        )
    return grid


def _check_variants(config: RunConfig) -> None:
    taken = {*config.bench.generators, *(ABLATION if config.bench.ablation else ())}
    for name in config.bench.variants:
        if not name.strip() or name in taken:
            raise ConfigError(
                f"bench.variants: {name!r} is no name for a variant: it must be one that no other row has"
            )


def _check_datasets(config: RunConfig) -> None:
    for name, settings in config.bench.datasets.items():
        if not plain(name):
            raise ConfigError(f"bench.datasets: {name!r} is no name for a dataset: it has nothing to show")
        for key in settings:
            if "." not in key and key not in ("seed", "out"):
                raise ConfigError(
                    f"bench.datasets: {name!r} sets {key!r}; settings are written section.key, for example data.root"
                )
            if key in _THE_GRIDS or key.startswith("bench."):
                raise ConfigError(
                    f"bench.datasets: {name!r} sets {key!r}, which is the same for all datasets; set it for the whole bench"
                    f"{_THE_GRIDS.get(key, '')}"
                )


def _cells(config: RunConfig, place: Cell) -> Iterator[Cell]:
    """The cells of one dataset at one level, in one repetition."""
    bench = config.bench
    real = tuple(method for method in bench.methods if method not in SYNTHETIC)
    if real:
        yield replace(place, methods=real)
    whole = place.of_dataset.get("finetune.parameters", config.finetune.parameters) == "full"
    for generator in bench.generators:
        methods = tuple(m for m in bench.methods if m == "fairsynth" or (m == "ffr" and generator == "vanilla"))
        if methods:
            settings: dict[str, Any] = {"finetune.generator": generator}
            if generator in ("lora", "dreambooth"):
                settings["shared.use"] = False  # published methods know no such adapter
            if whole and generator == "lora":
                settings["finetune.parameters"] = "adapter"
            yield replace(place, methods=methods, variant=generator, settings=settings)
    for name, more in {**(ABLATION if bench.ablation else {}), **bench.variants}.items():
        yield replace(place, methods=("fairsynth",), variant=name, settings=more)
