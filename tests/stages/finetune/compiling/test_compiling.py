"""One graph for all lots: what adapters become on a compiled network, how often it is compiled, and when it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from fairsynth.config import ModelsConfig, ResourcesConfig
from fairsynth.models.compiled import Compiled
from fairsynth.stages.finetune.compiling import (
    COMPILED,
    LEAST_FULL,
    PLAIN,
    SECONDS,
    Compiling,
    compiling,
    least_samples,
    samples_of,
    saved,
)
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import LotState, Trained
from fairsynth.stages.finetune.stacked_training import MOST_AT_ONCE, compiled_for
from tests.support.docs.measured.results import result
from tests.support.lots import (
    CONFIG,
    VALIDATING,
    changed,
    furthest_apart,
    jobs,
    latents_of_shapes,
    run,
    same_bits,
    shared_job,
    tiny_unet,
    train,
    trainer_of,
)

# Of six adapters four train at a time, and the last three end one after the other.
STEPS = [9, 7, 6, 5, 4, 3]


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """What was compiled in one test is not there in the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Noted:
    """A network in whose place it is called: notes how many samples came."""

    def __init__(self, network: Callable[..., Any]) -> None:
        self.network, self.sizes = network, list[int]()

    def __call__(self, sample: torch.Tensor, *rest: Any, **options: Any) -> Any:
        self.sizes.append(len(sample))
        return self.network(sample, *rest, **options)


def test_passes_with_rows_for_nobody_make_the_same_adapters() -> None:
    work, unet = jobs(STEPS), tiny_unet(torch.float64)
    expected, noted = train(unet, work, VALIDATING, 4), Noted(unet)
    found = run(trainer_of(unet, work, VALIDATING, 4, compiled=noted, rows=4), work)
    assert furthest_apart(found, expected) <= 1e-12
    for name, one in found.items():
        # Held-out images go through the network as it is.
        assert dict(one.progress.validation) == pytest.approx(dict(expected[name].progress.validation), rel=1e-9)
    # All of one size: four rows of two own samples and one of the prior.
    assert set(noted.sizes) == {12} and noted.sizes


def test_so_few_adapters_that_most_rows_would_be_for_nobody_use_the_network_as_it_is() -> None:
    work, unet = jobs([2] * 3), tiny_unet(torch.float64)
    noted = Noted(unet)
    found = run(trainer_of(unet, work, CONFIG, 4, compiled=noted, rows=4), work)
    assert not noted.sizes and LEAST_FULL > 3 / 4
    assert all(same_bits(found[name].weights, one.weights) for name, one in train(unet, work, CONFIG, 4).items())
    # Of ten rows eight are four fifths.
    work = jobs([2] * 8)
    found = run(trainer_of(unet, work, CONFIG, 10, compiled=noted, rows=10), work)
    assert set(noted.sizes) == {30} and furthest_apart(found, train(unet, work, CONFIG, 10)) <= 1e-12


def test_adapters_alone_and_of_several_shapes_become_the_same() -> None:
    unet = tiny_unet(torch.float64)
    for work, load in (([shared_job(5)], None), (jobs([4, 4, 4]), latents_of_shapes)):
        more = {"load": load} if load else {}
        config = CONFIG if load else CONFIG.model_copy(update={"generator": "lora"})
        expected = train(unet, work, config, 3, **more)
        found = run(trainer_of(unet, work, config, 3, **more, compiled=Noted(unet), rows=len(work)), work)
        assert furthest_apart(found, expected) <= 1e-12


@pytest.mark.slow
def test_two_lots_of_other_numbers_share_one_graph_with_the_bits_of_the_network_as_it_is() -> None:
    """The compiler's backend runs the graph as it stands, so the bits are those of passes that are filled up alike."""
    counter, unet = CompileCounter(), tiny_unet()
    compiled = Compiled(unet, dynamic=False, backend=counter)
    frames = []
    for steps in (STEPS, [4, 4, 4, 4, 3]):
        work = jobs(steps)
        found = run(trainer_of(unet, work, CONFIG, 4, compiled=compiled, rows=4), work)
        plain = tiny_unet()
        filled = run(trainer_of(plain, work, CONFIG, 4, compiled=plain, rows=4), work)
        assert all(same_bits(found[name].weights, filled[name].weights) for name in filled)
        frames.append(counter.frame_count)
    assert not compiled.why and frames[0] == frames[1] > 0


def test_a_lot_that_goes_on_from_any_checkpoint_ends_with_the_same_bits() -> None:
    unet, work, states = tiny_unet(), jobs(STEPS), list[LotState]()
    config = CONFIG.model_copy(update={"checkpoint_every": 2})

    def whole(resume: LotState | None = None) -> dict[str, Trained]:
        trainer = trainer_of(unet, work, config, 4, compiled=unet, rows=4)
        return run(trainer, work, checkpoint=None if resume else states.append, resume=resume)

    expected = whole()
    for state in states[1:4]:
        found = whole(state)
        assert found and all(same_bits(found[name].weights, expected[name].weights) for name in found)


def rate(name: str) -> float:
    """Samples a second of 16 adapters with one each."""
    rows = result(name)["rows"]
    (seconds,) = (row["seconds"] for row in rows if (row["trainer"], row["adapters"], row["each"]) == ("stacked", 16, 1) and "seconds" in row)  # fmt: skip
    return median(16 / one for one in seconds)


def test_the_rule_is_of_what_was_measured() -> None:
    assert pytest.approx(rate("stacked_sd15_h100"), abs=0.05) == PLAIN
    assert pytest.approx(rate("stacked_sd15_h100_compiled"), abs=0.05) == COMPILED
    assert pytest.approx(result("stacked_sd15_h100_compiled")["rows"][0]["took_s"], abs=0.5) == SECONDS
    assert saved(least_samples(512), 512) == pytest.approx(0, abs=1e-6) == saved(least_samples(256), 256)
    assert least_samples(256) == 4 * least_samples(512) and saved(0, 512) == -SECONDS


def test_a_lot_is_compiled_where_that_saves_time_or_as_the_settings_say() -> None:
    config = CONFIG.model_copy(update={"batch_size": 8, "prior_batch_size": 2})
    few, many = jobs([400] * 2), [changed(job, steps=10 * job.steps) for job in jobs([400] * 3)]
    assert samples_of(few, config) == 8000 < least_samples(512) < samples_of(many, config) == 120_000
    assert samples_of([shared_job(5)], config) == 40

    def asked(lots: list[list[AdapterJob]], models: ModelsConfig = ModelsConfig(), **resources: Any) -> list[Any]:  # noqa: B008
        return compiling(lots, config, models, ResourcesConfig(**resources))

    assert asked([few, many]) == [None, Compiling(3)] and asked([few, many], compile="never") == [None, None]
    assert asked([few, many], ModelsConfig(image_size=256)) == [None, None]
    assert asked([many], ModelsConfig(shapes="buckets")) == [None]
    assert asked([few, many], compile="always", cuda_graphs=True) == [Compiling(3, graphs=True)] * 2
    assert asked([few, many], compile="blocks") == [None, Compiling(3)]
    assert asked([]) == []


def test_without_a_gpu_nothing_is_compiled() -> None:
    assert compiled_for(tiny_unet(), Compiling(2)) == compiled_for(tiny_unet(), None) == (None, MOST_AT_ONCE)
