"""Makes images from rows that give prompt, seed, guidance and adapters.

The base model is loaded once. One adapter's rows run on its weights merged into the network; rows of several
adapters run in one pass with stacked adapters, which is faster where each has few images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairsynth.artifacts import Units
from fairsynth.config import ModelsConfig
from fairsynth.data.shapes import Shape, shape_of
from fairsynth.models.adapters import AdapterState, MergedAdapters, Part, read_state, weights_file
from fairsynth.models.compiled import Compiled
from fairsynth.models.diffusion import load_without_texts
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.families.table import family_of
from fairsynth.models.few_steps import add_few_steps
from fairsynth.models.hub.few_steps import fetched_file
from fairsynth.models.memory import LIGHTER, Parts
from fairsynth.models.sampling import Pixels, Predict, Wanted, denoise, network_of
from fairsynth.models.schedule import Sampling, stackable
from fairsynth.models.stacked import StackedAdapters, shell
from fairsynth.models.texts import Texts

Row = Mapping[str, Any]
# Adapters that stay in memory.
_KEPT = 256


class ImageMaker:
    """``maker(rows)`` gives uint8 (N, H, W, 3) in the rows' order.

    A row has ``prompt``, ``negative_prompt``, ``guidance``, ``seed``, ``adapter`` (a folder below ``adapters``, or
    None), ``adapter_scale``, ``second_adapter`` and ``adapter_from``: the share of the steps after which the adapters
    come in; and ``height`` and ``width`` in pixels, if its image is no square. Its image depends on nothing else, to 1/255.
    ``texts``: prompts that there will be: those that are not ``known`` are encoded first, by text encoders that are gone before
    the network comes, for these may be larger than it. ``compiling`` and ``graphs``: as ``resources.compile`` and
    ``resources.cuda_graphs`` say.
    """

    def __init__(
        self,
        models: ModelsConfig,
        sampling: Sampling,
        adapters: Path,
        texts: Iterable[str] = (),
        known: Mapping[str, Conditions] | None = None,
        compiling: str = "auto",
        graphs: bool = False,
    ) -> None:
        self.size, self.sampling, self.adapters = models.image_size, sampling, adapters
        self.texts = Texts(models, texts, known)
        self.pipeline = load_without_texts(models)
        family = family_of(self.pipeline)
        network = family.network_of(self.pipeline)
        if sampling.few_steps is not None:
            # First of all: what adapters are merged into and stacked upon is the base with it.
            add_few_steps(network, family, fetched_file(sampling.few_steps, sampling.few_steps_revision))
        self.merged, self.states = MergedAdapters(network), dict[str, AdapterState]()
        self.stacks: dict[tuple[Any, ...], tuple[StackedAdapters, Predict]] = {}
        self.predict = on_device(self.pipeline, compiling, graphs)
        pixels = f"an image of {self.size} pixels"
        self.denoised, self.decoded = Parts(pixels, LIGHTER), Parts(f"{pixels} when its latents are decoded", LIGHTER)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.uint8]:
        """Images of rows of one shape that share their adapters, or that have one plain adapter each.

        Raises ValueError for rows of several shapes.
        Where memory does not hold them all, fewer at once. Raises Exhausted if it does not hold one.
        """
        return self.begin(rows)()

    def begin(self, rows: Sequence[Row]) -> Callable[[], NDArray[np.uint8]]:
        """The same in two parts: what comes waits for the pixels, in any thread, while a GPU goes on with the next batch."""
        if len({self._shape(row) for row in rows}) > 1:
            raise ValueError("rows of different height or width cannot share a batch")
        latents = torch.cat(self.denoised(len(rows), lambda part: self._latents(rows[part])))
        parts = self.decoded(len(rows), lambda part: Pixels(self.pipeline, latents[part]))
        return lambda: np.concatenate([part.numpy() for part in parts])

    def _latents(self, rows: Sequence[Row]) -> torch.Tensor:
        return self._stacked(rows) if len({_recipe(row) for row in rows}) > 1 else self._merged(rows)

    def _merged(self, rows: Sequence[Row]) -> torch.Tensor:
        size = self._shape(rows[0])
        parts, begins = self._parts(rows[0]), math.ceil(rows[0]["adapter_from"] * self.sampling.steps)
        if not parts or not begins:
            self.merged.use(*parts)
            return denoise(self.pipeline, self._wanted(rows), size, self.sampling, self.predict)
        at = {0: (), begins: parts}

        def change(step: int) -> None:
            if step in at:
                self.merged.use(*at[step])

        return denoise(self.pipeline, self._wanted(rows), size, self.sampling, self.predict, before_step=change)

    def _shape(self, row: Row) -> Shape:
        return Shape(row["height"], row["width"]) if "height" in row else shape_of(self.size)

    def _parts(self, row: Row) -> tuple[Part, ...]:
        names = [name for name in (row["adapter"], row["second_adapter"]) if name]
        return tuple(Part(self._file(name), row["adapter_scale"]) for name in names)

    def _file(self, name: str) -> Path:
        path = weights_file(Units(self.adapters)[name])
        if path is None:
            raise ValueError(f"there are no weights in {self.adapters / name}")
        return path

    def _stacked(self, rows: Sequence[Row]) -> torch.Tensor:
        """All adapters in one pass: those with fewer rows are padded, and the surplus images are dropped."""
        members: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            if not stackable(row):
                raise ValueError("rows with different adapters can share a batch only if each has one plain adapter")
            members.setdefault(row["adapter"], []).append(place)
        each = max(map(len, members.values()))
        places = [(own * each)[:each] for own in members.values()]
        stack, predict = self._stack([self._state(name) for name in members])
        weights = torch.stack([stack.row(self._state(name).weights) for name in members]).to(self.pipeline.device)
        wanted = self._wanted([rows[place] for own in places for place in own])
        self.merged.use()
        with stack.using(weights), torch.no_grad():
            latents = denoise(self.pipeline, wanted, self._shape(rows[0]), self.sampling, predict, len(members))
        where = {place: index for index, place in reversed(list(enumerate(p for own in places for p in own)))}
        return latents[[where[place] for place in range(len(rows))]]

    def _state(self, name: str) -> AdapterState:
        if name not in self.states:
            if len(self.states) >= _KEPT:
                self.states.clear()
            self.states[name] = read_state(self._file(name))
        return self.states[name]

    def _stack(self, states: Sequence[AdapterState]) -> tuple[StackedAdapters, Predict]:
        """Hooks for adapters of this shape on a second instance of the network, over the same weights."""
        shapes = {(state.rank, state.alpha, state.target_modules) for state in states}
        if len(shapes) > 1:
            raise ValueError("adapters of different rank, alpha or layers cannot share a batch")
        (shape,) = shapes
        if shape not in self.stacks:
            network = shell(family_of(self.pipeline).network_of(self.pipeline))
            self.stacks[shape] = StackedAdapters(network, *shape), network_of(self.pipeline, network)
        return self.stacks[shape]

    def _wanted(self, rows: Sequence[Row]) -> Wanted:
        return Wanted(
            self.texts([row["prompt"] for row in rows], self.pipeline.device),
            self.texts([row["negative_prompt"] for row in rows], self.pipeline.device),
            [row["guidance"] for row in rows],
            [row["seed"] for row in rows],
        )


def _recipe(row: Row) -> tuple[Any, ...]:
    return row["adapter"], row["adapter_scale"], row["second_adapter"], row["adapter_from"]


def on_device(pipeline: Any, compiling: str = "auto", graphs: bool = False) -> Predict:
    """The network as a function; on a GPU compiled, if it can be: weights merged in place keep that valid.

    A UNet as a whole, for half of its work lies between the blocks that repeat; a transformer, which is nothing else than
    such blocks, block by block, as all are with ``blocks``; with ``never`` none.
    """
    if pipeline.device.type != "cuda":
        return network_of(pipeline)
    family = family_of(pipeline)
    network = family.network_of(pipeline)
    for convolutional in (*([network] if family.channels_last else []), pipeline.vae):
        convolutional.to(memory_format=torch.channels_last)
    if compiling == "never":
        return network_of(pipeline)
    by_blocks = compiling == "blocks" or family.network == "transformer"
    return network_of(pipeline, Compiled(network, by_blocks, **({"mode": "reduce-overhead"} if graphs else {})))
