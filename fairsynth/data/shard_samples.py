"""The samples of a WebDataset's tar shard: members that belong together by their key."""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from fairsynth.data.image_names import is_image
from fairsynth.data.location import tar_location
from fairsynth.data.metadata import Found, SetAside
from fairsynth.data.storage import Storage, is_hidden, named
from fairsynth.data.tables.table import Row, read_object
from fairsynth.data.tar import MAX_TEXT, is_safe, members
from fairsynth.errors import DataError

TEXTS = (".json", ".cls", ".txt")
KeyEnds = Literal["first dot", "last dot"]


@dataclass(slots=True)
class Sample:
    """The members of one key: path and location of each image by what follows the key, and the texts."""

    images: dict[str, tuple[str, str]] = field(default_factory=dict)
    row: Row | None = None
    cls: str = ""
    txt: str = ""
    malformed: str = ""
    """Why its JSON cannot be read."""
    others: bool = False
    """It has members that are neither images nor texts."""
    dotted: bool = False
    """A text's ending has a dot inside: the key may have been meant to end later."""

    @property
    def label(self) -> str:
        """The label that stands outside the JSON; a text beside a JSON is a caption."""
        return self.cls or (self.txt if self.row is None else "")

    @property
    def says_nothing(self) -> bool:
        """True for texts that are about no image: README.txt, dataset_info.json."""
        return not (self.images or self.others or self.cls or self.malformed or any((self.row or {}).values()))

    def has(self, ending: str) -> bool:
        """True if there is a member with this ending already."""
        texts = {"json": self.row is not None or bool(self.malformed), "cls": bool(self.cls), "txt": bool(self.txt)}
        return ending in self.images or texts.get(ending, False)


def samples_of(
    storage: Storage, shard: str, fields: Sequence[str], key_ends: KeyEnds, found: Found
) -> dict[str, Sample]:
    """The samples of a shard by key, with these fields of their JSON; what cannot be used is set aside in ``found``.

    Raises DataError as ``members`` does.
    """
    samples: dict[str, Sample] = defaultdict(Sample)
    for member, text in members(storage, shard, TEXTS):
        shown = named(member.name.encode("utf-8", "surrogateescape"))[0]
        if member.isdir() or _is_hidden(shown):
            continue
        if not is_safe(member):
            found.quarantined.append(SetAside(f"{shard}/{shown}", "unsafe_member"))
            continue
        # The key from the name as it is shown, what follows it from the name as it is.
        folder, name = _split(shown)
        stem, ending = _parted(name, key_ends)[0], _parted(member.name.rpartition("/")[2], key_ends)[2].lower()
        if stem and ending:
            sample = samples[f"{folder}/{stem}" if folder else stem]
            if sample.has(ending):
                what = f"{storage.name(shard)} has the member {shown!r} twice; keep one"
                found.refuse(f"{shard}/{shown}", "repeated_member", what)
            else:
                _put(sample, storage, shard, shown, ending, member, text, fields, found)
        elif is_image(name):
            found.quarantined.append(SetAside(f"{shard}/{shown}", "no_key"))
    return samples


def _split(path: str) -> tuple[str, str]:
    """Folder (empty: none) and name of a relative path."""
    if "//" in path or "./" in path or path.endswith(("/", "/.")):
        path = str(PurePosixPath(path))
    folder, _, name = path.rpartition("/")
    return folder, name


def _parted(name: str, key_ends: KeyEnds) -> tuple[str, str, str]:
    return name.partition(".") if key_ends == "first dot" else name.rpartition(".")


def _is_hidden(name: str) -> bool:
    return any(part not in (".", "..") and is_hidden(part) for part in name.split("/"))


def _put(
    sample: Sample, storage: Storage, shard: str, name: str, ending: str, member: tarfile.TarInfo, text: bytes,
    fields: Sequence[str], found: Found,
) -> None:  # fmt: skip
    if is_image(f".{ending}"):
        sample.images[ending] = (f"{shard}/{name}", tar_location(shard, member.offset_data, member.size))
    elif ending == "json":
        where = f"{storage.name(shard)}, {name}"
        try:
            sample.row = read_object(where, _text(where, member, text), fields)
        except DataError as error:
            sample.malformed = str(error)
            found.problem("malformed_json", str(error))
    elif ending in ("cls", "txt"):
        setattr(sample, ending, text.decode("utf-8-sig", "replace").strip())
    else:
        sample.others = True
    sample.dotted |= f".{ending}" not in TEXTS and f".{ending}".endswith(TEXTS)


def _text(where: str, member: tarfile.TarInfo, text: bytes) -> str:
    if member.size > MAX_TEXT:
        raise DataError(f"{where} has {member.size} bytes; at most {MAX_TEXT} are read; shorten it")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8; write the shard anew with UTF-8 texts") from None
