"""The configuration's section ``data``, and the types that all sections share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from fairsynth.config.suggest import did_you_mean
from fairsynth.config.types import Fraction, Positive, Section, Severity, SplitNames, Words


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) and value else value or ()


def formats() -> list[str]:
    """Names of the dataset readers: the modules in ``fairsynth/data/readers``."""
    folder = Path(__file__).parents[1] / "data" / "readers"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def _known_format(value: str) -> str:
    known = ["auto", "demo", *formats()]
    if value not in known:
        raise ValueError(f"must be one of {', '.join(known)}{did_you_mean(value, known)}")
    return value


class ImageRules(Section):
    """Which images are usable, and how they become RGB."""

    max_pixels: Positive = 50_000_000
    """Larger images are set aside by their header, before they are decoded."""
    max_bytes: Positive = 200_000_000
    """Image files of more bytes are set aside before they are read."""
    min_side: Positive = 8
    """Images with a shorter side are set aside."""
    max_aspect: Annotated[float, Field(ge=1)] = 20.0
    """Images whose longer side is more than this many times the shorter are set aside."""
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"
    """Colour behind transparent pixels."""
    frames: Literal["first", "refuse"] = "first"
    """Animations and multi-page files: use the first frame, or set them aside."""
    constant: Literal["refuse", "keep"] = "refuse"
    """Images of a single colour: set them aside, or keep them."""


# For images that were checked before: whatever can be decoded is taken.
ANY_IMAGE = ImageRules(max_pixels=10**9, max_bytes=10**10, min_side=1, max_aspect=10**9, constant="keep")


class DataConfig(Section):
    """Where the dataset is, how to read it, and what is asked of it."""

    format: Annotated[str, AfterValidator(_known_format), WithJsonSchema({"enum": ["auto", "demo", *formats()]})] = (
        "auto"
    )
    """auto: recognise the layout; demo: the built-in digits; else the reader of that name."""
    root: str = ""
    """Folder of the dataset: a path, s3://... or gs://... For demo: left empty, the dataset is written below the output folder."""
    label_column: str = ""
    """Column or field of the label; empty: the format's own."""
    attribute_column: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """Column or field of the attribute; several combine into one attribute. Empty: the format's own."""
    split_column: Annotated[str, BeforeValidator(lambda value: "" if value is None else value)] = "split"
    """Column of the split, where the format has one; '': none, though a column looks like splits (split_fractions makes them)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of one format alone, such as age_bins of utkface."""
    attribute: Literal["column", "discover"] = "column"
    """discover: nobody knows the attribute; inside each label, clusters of the embeddings stand in for it. A given attribute_column is then used for evaluation only."""
    discovered: Positive = 2
    """Clusters per label that discover looks for."""
    label_names: Words = Field(default_factory=dict)
    """Words for label values, used in prompts; a value without a word stands for itself."""
    attribute_names: Words = Field(default_factory=dict)
    """Words for attribute values, used in prompts."""
    unknown: Literal["refuse", "drop", "own_group"] = "refuse"
    """Rows without label or attribute: refuse the dataset, drop them, or give an unknown attribute a group of its own."""
    split_fractions: tuple[Fraction, Fraction, Fraction] | None = None
    """Shares of train, val and test, for data without a split: seeded, the same shares in every group."""
    split_seed: int = 0
    """Seed of that split; it does not change with the run's seed."""
    split_names: SplitNames = Field(default_factory=dict)
    """What the dataset's own words for splits mean, where they are not the usual ones; drop leaves those images out. {"0": train, extra: drop}"""
    split_from: dict[Literal["val", "test"], Literal["train", "val", "test"]] = Field(default_factory=dict)
    """A split that the dataset lacks, taken from another one, seeded (split_seed), the same share in every group: {test: val}. It gets half of val or test or a fifth of train, or what split_fractions says of the two."""
    missing_files: Literal["quarantine", "leave_out"] = "quarantine"
    """Images that the metadata names and that are not there: bad images, or, for a dataset of which a part was fetched, left out and counted."""
    severity: Severity = None
    """Bias of the training split: 0.99, 99% or another ratio keeps that share of a label's images aligned; original or null: as it is."""
    severity_validation: bool = False
    """Bring the validation split to that severity too, but for 10 images of each label that go against it (From Fake to Real's rule): then no method has many images of rare groups to choose or refit by."""
    severity_seed: int = 0
    """Seed of the choice; more severe sets lie inside less severe ones of the same seed."""
    aligned: Words = Field(default_factory=dict)
    """label: attribute that goes with it; labels not named are left alone. Empty: each label's largest training group."""
    allow_missing: bool = False
    """Go on though a group has no validation images; worst-group accuracy is then chosen without it."""
    max_bad_fraction: Fraction = 0.01
    """Refuse the dataset if more than this share of its images cannot be used."""
    max_bad_group_fraction: Fraction = 0.05
    """The same for any group."""
    max_conflict_fraction: Fraction = 0.001
    """Refuse the dataset if more than this share of its images occurs under different labels or attributes; fewer are set aside."""
    max_leak_fraction: Fraction = 0.01
    """Refuse the dataset if more than this share of its training images is in another split too; fewer are left out."""
    follow_links: bool = False
    """Follow symbolic links that leave the dataset's folder."""
    images: ImageRules = ImageRules()

    @property
    def other_split_column(self) -> str:
        """The split's column if it was asked for by another name than the usual one, so that it must be there; else empty."""
        usual = type(self).model_fields["split_column"].default
        return "" if self.split_column == usual else self.split_column
