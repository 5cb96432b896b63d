"""Figures of the accepted images, each beside that of real images that nothing learnt from.

Works on CLIP embeddings. Of the validation images one half has taught the probe (``probe.halves``); the other half
is held out: it stands for the real images that a perfect generator would make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.groups import Group
from fairsynth.stages.audit.fidelity import frechet_distance, kernel_distance, prdc
from fairsynth.stages.audit.memorisation import SelfTest, closer_share, nearest_ratio
from fairsynth.stages.audit.realism import detectability, style_predicts_label

VERSION = 2
# Of fewer images no figure is given.
FEWEST = 10
# AUCs above which warnings say that a classifier tells synthetic from real images, or the label by their style.
DETECTABLE, STYLED = 0.8, 0.7


@dataclass(frozen=True)
class Images:
    """Embedded images: unit vectors (N, D), the group of each, and what probe and zero-shot CLIP see in it.

    ``by_clip``: None where groups share a prompt, so that CLIP cannot tell them apart.
    """

    embeddings_ND: NDArray[np.float32]
    groups: Sequence[Group]
    by_probe: Sequence[Group]
    by_clip: Sequence[Group] | None

    def of(self, group: Group) -> NDArray[np.int64]:
        """Places of a group's images."""
        return np.array([i for i, own in enumerate(self.groups) if own == group], int)


def group_figures(
    group: Group,
    made: Images,
    synthetic: Images,
    held_out: Images,
    known_KD: NDArray[np.float32],
    learnt_TD: NDArray[np.float32],
    learnt_from: Group,
    known_from_LD: NDArray[np.float32],
    seed: int,
) -> dict[str, Any]:
    """All figures of one group; None where there are too few images for one.

    ``made``: all images that were made, of which ``synthetic`` were accepted. ``known_KD``: other real images of the
    group, with the same figures for comparison. ``learnt_TD``: what the group's generators have learnt, images of
    ``learnt_from``; ``known_from_LD``: other real images of that group.
    """
    accepted_places, held_out_places = synthetic.of(group), held_out.of(group)
    accepted, real = synthetic.embeddings_ND[accepted_places], held_out.embeddings_ND[held_out_places]
    size = min(len(accepted), len(known_KD))
    return {
        "label": group.label,
        "attribute": group.attribute,
        "synthetic": len(accepted_places),
        "held_out": len(held_out_places),
        "agreement": {
            "made": agreement(made, made.of(group)),
            "synthetic": agreement(synthetic, accepted_places),
            "held_out": agreement(held_out, held_out_places),
        },
        "seen_as": {"synthetic": seen_as(synthetic, accepted_places), "held_out": seen_as(held_out, held_out_places)},
        "fidelity": {
            "synthetic": fidelity(accepted, real, size, seed),
            "held_out": fidelity(known_KD, real, size, seed),
        },
        "memorisation": memorisation(
            accepted, learnt_TD, held_out.embeddings_ND[held_out.of(learnt_from)], known_from_LD, seed
        ),
    }


def agreement(images: Images, places: NDArray[np.int64]) -> dict[str, Any] | None:
    """Share of images in which label, attribute and both are seen as they should be, by probe and by zero-shot CLIP."""
    if not len(places):
        return None
    shares: dict[str, Any] = {}
    for name, groups_seen in (("probe", images.by_probe), ("zero_shot", images.by_clip)):
        if groups_seen is None:
            shares[name] = None
            continue
        pairs = [(images.groups[i], groups_seen[i]) for i in places.tolist()]
        shares[name] = {
            "label": float(np.mean([own.label == other.label for own, other in pairs])),
            "attribute": float(np.mean([own.attribute == other.attribute for own, other in pairs])),
            "both": float(np.mean([own == other for own, other in pairs])),
        }
    return shares


def seen_as(images: Images, places: NDArray[np.int64]) -> dict[str, list[dict[str, Any]]]:
    """A row of the confusion table: which groups probe and zero-shot CLIP see in these images, and how often."""
    return {
        name: [
            {"label": group.label, "attribute": group.attribute, "n": n}
            for group, n in sorted(Counter(groups_seen[i] for i in places.tolist()).items())
        ]
        for name, groups_seen in (("probe", images.by_probe), ("zero_shot", images.by_clip))
        if groups_seen is not None
    }


def fidelity(rows_ND: NDArray[np.float32], real_MD: NDArray[np.float32], size: int, seed: int) -> dict[str, Any] | None:
    """Distances of ``size`` of these images to real ones; None for fewer than 10 on a side.

    The sample size is fixed because these distances depend on it.
    """
    if min(size, len(rows_ND), len(real_MD)) < FEWEST:
        return None
    rows = rows_ND[np.random.default_rng(seed).choice(len(rows_ND), min(size, len(rows_ND)), replace=False)]
    shape, auc = prdc(real_MD, rows), detectability(real_MD, rows, seed)
    return {
        "n": len(rows),
        "frechet_distance": frechet_distance(rows, real_MD),
        "kernel_distance": kernel_distance(rows, real_MD),
        **(shape._asdict() if shape else {}),
        "detectability": auc._asdict() if auc else None,
    }


def memorisation(
    made_ND: NDArray[np.float32],
    learnt_TD: NDArray[np.float32],
    held_out_HD: NDArray[np.float32],
    known_LD: NDArray[np.float32],
    seed: int,
) -> dict[str, Any] | None:
    """Are these images nearer to what their generators learnt than to held-out images? None where nothing was learnt.

    The same share of other real images, ``known_LD``, is given for comparison: few reference images alone can tip it.
    """
    if min(len(made_ND), len(held_out_HD)) < FEWEST or len(learnt_TD) < 2:
        return None
    return {
        "learnt": len(learnt_TD),
        "closer_to_training": closer_share(made_ND, learnt_TD, held_out_HD, seed)._asdict(),
        "closer_real": closer_share(known_LD, learnt_TD, held_out_HD, seed)._asdict()
        if len(known_LD) >= FEWEST
        else None,
        "nearest_ratio": {
            "synthetic": nearest_ratio(made_ND, learnt_TD),
            "held_out": nearest_ratio(held_out_HD, learnt_TD),
        },
    }


def cluster_figures(
    rows: Sequence[Mapping[str, Any]],
    synthetic: Images,
    learnt: Mapping[str, NDArray[np.float32]],
    held_out: Images,
    known: Mapping[Group, NDArray[np.float32]],
    seed: int,
) -> list[dict[str, Any]]:
    """Per group and adapter: what the images show, how close they are to the group's real ones and to what was learnt.

    ``rows[i]`` is the row of image i. ``fidelity`` as for a group, beside that of as many other real images
    of the group, ``known``: a cluster is a part of its group and covers it only in part. ``nearest_ratio`` as in
    ``memorisation``, None for an adapter of one image.
    """
    members: dict[tuple[Group, str], list[int]] = {}
    for place, row in enumerate(rows):
        members.setdefault((synthetic.groups[place], row["adapter"] or ""), []).append(place)
    figures = []
    for (group, adapter), places in sorted(members.items()):
        trained = learnt.get(adapter, np.zeros((0, 1), np.float32))
        ratio = nearest_ratio(synthetic.embeddings_ND[places], trained) if len(trained) > 1 else None
        agreeing = agreement(synthetic, np.array(places))
        made, real = synthetic.embeddings_ND[places], held_out.embeddings_ND[held_out.of(group)]
        size = min(len(made), len(known[group]))
        figures.append(
            {
                "label": group.label,
                "attribute": group.attribute,
                "adapter": adapter,
                "cluster": rows[places[0]]["cluster"],
                "synthetic": len(places),
                "learnt": len(trained),
                "agreement": agreeing,
                "fidelity": {
                    "synthetic": fidelity(made, real, size, seed),
                    "held_out": fidelity(known[group], real, size, seed),
                },
                "nearest_ratio": ratio,
            }
        )
    return figures


def shortcuts(synthetic: Images, rows: Sequence[Mapping[str, Any]], real: Images, seed: int) -> list[dict[str, Any]]:
    """For each attribute: how far generator and style predict the label. 0.5, or chance, is ideal.

    ``label_from_generator``: how often the label is right if for each generator its commonest label is taken, every
    label counting the same; ``chance`` is 1 / labels. Adapters of the attribute's own groups are one generator.
    ``style``: the label's AUC by how real an image looks.
    """
    styles = {
        audit.attribute: audit
        for audit in style_predicts_label(
            real.embeddings_ND, synthetic.embeddings_ND, real.groups, synthetic.groups, seed
        )
    }
    tables: dict[str, Counter[tuple[str, str]]] = {}
    for group, row in zip(synthetic.groups, rows, strict=True):
        tables.setdefault(group.attribute, Counter())[_generator(row["route"]), group.label] += 1
    return [
        {
            "attribute": attribute,
            "label_from_generator": _label_from_generator(table),
            "chance": 1 / len({label for _, label in table}),
            "style": _style(styles.get(attribute)),
        }
        for attribute, table in sorted(tables.items())
    ]


def _generator(route: str) -> str:
    """Adapters that learnt images with this attribute give the same look, whichever group's they are."""
    return "adapters of the attribute" if route in ("own", "same-attribute") else route


def _label_from_generator(table: Counter[tuple[str, str]]) -> float:
    totals: Counter[str] = Counter()
    for (_, label), n in table.items():
        totals[label] += n
    best: dict[str, float] = {}
    for (generator, label), n in table.items():
        best[generator] = max(best.get(generator, 0.0), n / totals[label])
    return sum(best.values()) / len(totals)


def _style(audit: Any) -> dict[str, Any] | None:
    if audit is None:
        return None
    return {
        "label": audit.label,
        "more_real": audit.more_real,
        "synthetic": audit.synthetic._asdict(),
        "real": audit.real._asdict() if audit.real else None,
    }


def self_test_facts(test: SelfTest | None) -> dict[str, Any]:
    """The detector's rates. Without a passed test privacy counts as not measured."""
    if test is None:
        return {"passed": False, "why": "too few real images to test the detector of copies with"}
    return {
        "passed": test.passed,
        "threshold": test.threshold,
        "detected": {"share": test.detected.share, "n": test.detected.n},
        "false_alarms": {"share": test.false_alarms.share, "n": test.false_alarms.n},
        "by_kind": {disguise: {"share": count.share, "n": count.n} for disguise, count in test.planted.items()},
    }


def warnings(audit: Mapping[str, Any]) -> list[str]:
    """Warnings for users of the set, in words."""
    lines = []
    for group in audit["groups"]:
        name = f"({group['label']}, {group['attribute']})"
        figures = group["fidelity"]["synthetic"]
        auc = figures["detectability"] if figures else None
        if auc and auc["low"] > DETECTABLE:
            lines.append(f"{name}: a classifier can tell synthetic from real images (AUC {auc['auc']:.2f})")
        closer = group["memorisation"] and group["memorisation"]["closer_to_training"]
        usual = group["memorisation"] and group["memorisation"]["closer_real"]
        if closer and closer["low"] > max(0.5, usual["high"] if usual else 0):
            lines.append(f"{name}: {closer['share']:.0%} of the images are nearer to training than to held-out images")
    for entry in audit["shortcuts"]:
        style = entry["style"]
        if style and style["synthetic"]["low"] > max(STYLED, style["real"]["high"] if style["real"] else 0):
            more = "more" if style["more_real"] else "less"
            lines.append(
                f"{entry['attribute']}: images of {style['label']} look {more} real than others "
                f"(AUC {style['synthetic']['auc']:.2f}), which a classifier can learn in place of the label"
            )
    copies = audit["copies"]
    test = copies["self_test"]
    # The detector takes some real images for copies, too: a share up to that is no news.
    if test["passed"] and (copies["flagged"] or 0) > test["false_alarms"]["share"] * copies["images"]:
        lines.append(f"{copies['flagged']} of {copies['images']} images look like copies of training images")
    if not test["passed"] and copies["images"]:
        lines.append("privacy not measured: the detector of copies did not pass its self-test")
    return lines
