"""No two images of a source begin with the same noise, of which torch's generator has 2**32 kinds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from fairsynth.config import FinetuneConfig, ModelsConfig, SynthesizeConfig
from fairsynth.manifest import noise_of, seed_for, seeds_apart
from fairsynth.models.sampling import Wanted
from fairsynth.stages.finetune import class_images
from fairsynth.stages.synthesize import image_plan
from fairsynth.stages.synthesize.image_plan import Source, plan_images
from tests.stages.synthesize.test_rounds import Recorded, rounds_in
from tests.support.synthesize.plans import SOURCES, A, B

ONE = {A: [Source("prompt", None, 0, "low", 1)]}


def hashed(number: int, round_name: str = "r0") -> int:
    """The seed of a row of ``ONE`` as it is drawn at first."""
    whole = hashlib.sha256(repr((0, tuple(A))).encode())
    whole.update(f"{round_name}/{A.slug}/prompt-base/{number:06d}".encode())
    return int.from_bytes(whole.digest()[:8], "big") >> 1


def test_torch_takes_the_low_32_bits_of_a_seed() -> None:
    def draws(seed: int) -> torch.Tensor:
        return torch.randn(4, generator=torch.Generator("cpu").manual_seed(seed))

    assert torch.equal(draws(5), draws(5 + 2**40)) and noise_of(5) == noise_of(5 + 2**40)
    assert not torch.equal(draws(5), draws(5 + 2**31)) and noise_of(5) != noise_of(5 + 2**31)


def test_a_hundred_thousand_images_have_noise_of_their_own_and_all_others_keep_their_seeds() -> None:
    count = 100_000
    first = [hashed(number) for number in range(count)]
    assert len({*map(noise_of, first)}) == count - 1, "as they are drawn at first two are alike"
    seeds = plan_images({A: count}, ONE, 0, 0, 512)["seed"].to_pylist()
    assert len({*map(noise_of, seeds)}) == count
    (changed,) = (number for number in range(count) if seeds[number] != first[number])
    assert noise_of(first[changed]) in {*map(noise_of, first[:changed])}, "the later one is drawn again"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """As if torch took seven bits of a seed."""
    for module in ("fairsynth.manifest", "fairsynth.stages.synthesize.image_plan"):
        monkeypatch.setattr(f"{module}.noise_of", lambda seed: seed & 127)
    return 128


def low(table: pa.Table) -> list[int]:
    return [seed & 127 for seed in table["seed"].to_pylist()]


def test_the_seeds_of_a_row_do_not_depend_on_how_many_there_are(few: int) -> None:
    whole = plan_images({A: 120}, ONE, 0, 0, 16)["seed"].to_pylist()
    assert len({seed & 127 for seed in whole}) == 120 and whole != [hashed(number) for number in range(120)]
    assert plan_images({A: 50}, ONE, 0, 0, 4)["seed"].to_pylist() == whole[:50]
    # Nor on other groups and sources, whose images may well begin alike.
    both = plan_images({A: 120, B: 40}, {**ONE, B: SOURCES[B]}, 0, 0, 16).to_pylist()
    assert [row["seed"] for row in both if row["label"] == "low" and row["attribute"] == A.attribute] == whole


def test_a_later_round_keeps_away_from_the_noise_of_earlier_ones(few: int) -> None:
    sources = {A: [*ONE[A], Source("own", "low--building--0", 0, "sks low", 1)]}
    first = plan_images({A: 80}, sources, 0, 0, 16)
    second = plan_images({A: 100}, sources, 0, 1, 16, earlier=first)
    for route in ("prompt", "own"):
        noise = [
            bits
            for table in (first, second)
            for bits, own in zip(low(table), table["route"].to_pylist(), strict=True)
            if own == route
        ]
        assert len(noise) == len({*noise}) == 90
    alone = plan_images({A: 100}, sources, 0, 1, 16)
    assert {*low(first)} & {*low(alone)}, "without looking back they would meet"


def test_the_rounds_of_a_run_look_back(few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rejecting(Recorded):
        """Of the first round half is not what it should be."""

        def read(self, artifact: object, names: list[str]) -> pa.Table:
            table = super().read(artifact, names)  # type: ignore[arg-type]
            fine = [float(i % 2 or len(self.asked) > 1) for i in range(table.num_rows)]
            return table.set_column(
                table.schema.get_field_index("label_probability"), "label_probability", pa.array(fine)
            )

    rounds = rounds_in(tmp_path, Rejecting(monkeypatch))
    rounds.filter = rounds.filter.model_copy(update={"min_probability": 0.5})
    images, _ = rounds.until_full({A: 60}, ONE)
    assert {*images["round"].to_pylist()} == {0, 1} and len({*low(images)}) == images.num_rows > 60


def test_class_images_have_noise_of_their_own(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def denoise(pipeline: object, wanted: Wanted, *rest: object) -> torch.Tensor:
        asked.extend(wanted.seeds)
        return torch.zeros(len(wanted.seeds), 4)

    monkeypatch.setattr(class_images, "denoise", denoise)
    models, config = ModelsConfig(diffusion="demo", clip="demo", image_size=32), FinetuneConfig(class_images=120)
    make = class_images.ClassLatents(models, config, SynthesizeConfig(), {"x": "a dog"}, 3)
    make({"name": "x"})
    assert len({seed & 127 for seed in asked}) == 120
    assert asked[0] == seed_for(3, "class", "a dog", 0) and image_plan.noise_of is not noise_of


def test_what_is_taken_is_not_given_again() -> None:
    assert seeds_apart(lambda number, again: number + 10 * again, 3, taken={0, 2, 10}) == [20, 1, 12]
