"""UTKFace: <age>_<gender>_<race>_<time>.jpg or .jpg.chip.jpg, or of another format; the names are the metadata."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Literal

from pydantic import field_validator

from fairsynth.config import DataConfig, Section
from fairsynth.data.image_names import SUFFIXES, is_image, is_image_file
from fairsynth.data.layout import ignored_files, is_table
from fairsynth.data.metadata import Entry, Fields, Metadata, SetAside
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places

FIELDS = ("age", "gender", "race")
# The dataset has no official split; these are the shares of From Fake to Real (ECCV 2024), datasets/utk_face.py.
SPLIT_FRACTIONS = (0.8, 0.1, 0.1)
AGE_BINS = {"young": (0, 5), "old": (20, 50)}
# The time means nothing here, so that a digit more or less in it does no harm. Copies were converted to other formats,
# or have their endings in capitals.
_ENDING = rf"(?:{'|'.join(re.escape(ending) for endings in SUFFIXES.values() for ending in endings)})"
_PATTERN = re.compile(
    rf"(?P<age>[0-9]{{1,3}})_(?P<gender>[01])_(?P<race>[0-4])_[0-9]{{14,20}}{_ENDING}(?:\.chip{_ENDING})?",
    re.IGNORECASE,
)
_RULES = {"age": r"[0-9]{1,3}", "gender": "[01]", "race": "[0-4]", "time": r"[0-9]{14,20}"}
_ATTEMPT = re.compile(r"[0-9]+_")
_LOOK = 50


class Options(Section):
    """Settings of this format (``data.options``)."""

    label: Literal["gender", "age", "race"] = "gender"
    """What is predicted."""
    attribute: Literal["gender", "age", "race"] = "age"
    """What it is biased by."""
    age_bins: dict[str, tuple[int, int]] = AGE_BINS
    """Names of age ranges, both ends included; other ages are left out where the age is used."""

    @field_validator("age_bins")
    @classmethod
    def _apart(cls, bins: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        for name, (low, high) in bins.items():
            if not name.strip() or low > high:
                raise ValueError(f"age bin {name!r} must have a name and a range from low to high, not {low} to {high}")
        for (name, one), (other, two) in combinations(bins.items(), 2):
            if one[0] <= two[1] and two[0] <= one[1]:
                raise ValueError(f"the age bins {name!r} and {other!r} overlap")
        return bins


def recognises(storage: Storage) -> bool:
    """True if most of the first files, at the root or one folder down, have names of this form."""
    names = storage.names()
    inside = [names, *(storage.names(name) for name in names[:8] if storage.is_folder(name))]
    return any(_mostly(place[:_LOOK]) for place in inside) and not any(
        is_table(name) for place in inside for name in place
    )


def _mostly(names: list[str]) -> bool:
    images = [name for name in names if is_image(name)]
    return 2 * sum(bool(_PATTERN.fullmatch(name)) for name in images) > len(images)


def read(storage: Storage, config: DataConfig) -> Metadata:
    """Entries sorted by path; gender and race stay codes, an age becomes its bin's name.

    A name that does not fit is set aside (``malformed_name``), an age outside all bins is left out
    (``outside_age_bins``). Raises DataError if label and attribute are the same or not in the names.
    """
    options = Options.model_validate(config.options)
    fields = Fields.of(config, options.label, options.attribute)
    places(f"the file names of {storage.root}", FIELDS, fields.needed)
    entries: list[Entry] = []
    quarantined: list[SetAside] = []
    excluded: list[SetAside] = []
    ignored: list[str] = []
    for file in storage.files():
        name = file.path.rpartition("/")[2]
        match = None if file.location else _PATTERN.fullmatch(name)
        if match is None:
            if is_image_file(file) or _ATTEMPT.match(name):
                quarantined.append(SetAside(file.path, "malformed_name", _fault(name)))
            else:
                ignored.append(file.path)
            continue
        row = match.groupdict()
        row["age"] = _bin(options, int(row["age"]))
        if "age" in fields.needed and not row["age"]:
            excluded.append(SetAside(file.path, "outside_age_bins"))
        else:
            entries.append(fields.entry(row, file.path, ""))
    return Metadata(entries, quarantined, excluded, ignored_files(ignored))


def _fault(name: str) -> str:
    """The first field of a name that is wrong."""
    stem, dot, ending = name.partition(".")
    if stem != stem.strip():
        return "a blank before the ending"
    fields = stem.split("_")
    for (field, rule), value in zip(_RULES.items(), fields, strict=False):
        if not re.fullmatch(rule, value):
            return f"{field} is {value!r}"
    if len(fields) != len(_RULES):
        return f"{len(fields)} fields; expected: {', '.join(_RULES)}"
    return f"the ending is {dot + ending!r}"


def _bin(options: Options, age: int) -> str:
    return next((name for name, (low, high) in options.age_bins.items() if low <= age <= high), "")
