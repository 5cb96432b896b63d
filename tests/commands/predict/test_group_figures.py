"""Figures per group by their definitions: by hand, and against fairlearn."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from fairsynth.commands.predict.group_figures import group_figures, lines
from fairsynth.commands.predict.truth import Known
from fairsynth.metrics import wilson

BOTH = ("label", "attribute")


def test_against_fairlearn() -> None:
    draws = np.random.default_rng(0)
    truth, predicted, attribute = (draws.choice(names, 200) for names in (["n", "y"], ["n", "y"], ["a", "b", "c"]))
    paths = [f"{n}.png" for n in range(200)]
    figures = group_figures(
        dict(zip(paths, predicted.tolist(), strict=True)),
        {p: Known(y, a, "") for p, y, a in zip(paths, truth.tolist(), attribute.tolist(), strict=True)},
        {}, ["n", "y"], BOTH,
    )  # fmt: skip
    (part,) = figures["parts"]
    given = {"y_true": truth == "y", "y_pred": predicted == "y", "sensitive_features": attribute}
    assert part["demographic_parity_difference"] == pytest.approx(demographic_parity_difference(**given))
    assert part["equalized_odds_difference"] == pytest.approx(equalized_odds_difference(**given))
    assert part["accuracy"] == pytest.approx((truth == predicted).mean())
    right = {(g["label"], g["attribute"]): g for g in part["groups"]}
    for (label, place), group in right.items():
        of = (truth == label) & (attribute == place)
        assert (group["n"], group["correct"]) == (of.sum(), (predicted[of] == label).sum())
        assert group["ci95"] == list(wilson(group["correct"], group["n"]))
    assert part["worst_group_accuracy"] == min(g["accuracy"] for g in right.values())
    assert part["accuracy_group_mean"] == pytest.approx(np.mean([g["accuracy"] for g in right.values()]))


def test_the_test_split_comes_first_and_hostile_names_stay_on_their_line() -> None:
    known = {"1": Known("a", "x\n", "train"), "2": Known("a", "x", "test"), "3": Known("b", "", "other")}
    figures = group_figures({"1": "a", "2": "b", "3": "b"}, known, {}, ["a", "b"], BOTH)
    assert [part["split"] for part in figures["parts"]] == ["test", "train"]
    assert figures["excluded"] == {"no_attribute": 1} and figures["used"] == 2
    told = lines(figures, ["a", "b"])
    assert told[0] == "accuracy by group, split test:" and told[2].split() == [
        *"ax1",
        "0.0",
        "%",
        "0.0",
        "%",
        "to",
        "79.3",
        "%",
    ]
    assert told[-2].startswith("train: 1 images, accuracy 100.0 %") and "\n" not in "".join(told)
    assert told[-1] == "left out of these figures: no_attribute 1"


def test_a_line_break_in_a_name_or_a_split_makes_no_line() -> None:
    """Inside a value, where stripping a line does not help."""
    names, forged = ["a\nb", "c"], "x\n  c      sea         999  100.0 %"
    known = {"1": Known("a\nb", forged, "s\nt"), "2": Known("c", "y", "u\nv")}
    for has in (BOTH, ("attribute",)):
        told = lines(group_figures({"1": "a\nb", "2": "c"}, known, {}, names, has), names)
        assert all(line.isprintable() for line in told), told
        assert any("x?  c      sea" in line for line in told)


def test_one_attribute_has_no_gap() -> None:
    figures = group_figures({"1": "a"}, {"1": Known("", "x", "")}, {}, ["a", "b"], ("attribute",))
    (part,) = figures["parts"]
    assert part["demographic_parity_difference"] is None
    assert lines(figures, ["a", "b"])[-1] == "1 images"
