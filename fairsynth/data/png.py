"""PNG files without what their pixels do not need.

Texts, times and private chunks may be long, damaged, or unpack into gigabytes. Pillow unpacks them, and refuses the
whole file for one that is too long or has a wrong checksum, though every viewer shows it. So they are cut out
before; of what a picture's look depends on, at most some megabytes are unpacked.

Source: Portable Network Graphics, third edition: chunks and their checksums (5.3), the bit that makes a chunk ancillary
(5.4), iCCP (11.3.2.3), texts (11.3.3).
"""

from __future__ import annotations

import struct
import zlib

from fairsynth.data.colour import LARGEST_PROFILE

_MAGIC = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its data: length, name, checksum
_ANCILLARY = 0x20
_LONGEST_TEXT = 1 << 20
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")  # to count frames; damage to them is damage to the image
_LOOK = (b"tRNS", b"eXIf")  # transparent colours; the orientation
# Texts in which older programs and Photoshop write the orientation.
_ORIENTATION = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")


def essentials(content: bytes) -> tuple[bytes, dict[str, str | bytes]]:
    """The file with the chunks that its pixels need, and what Pillow's ``info`` would hold of the others.

    That is the colour profile (``icc_profile``), up to 4 MB, and texts with an orientation, up to 1 MB, the first
    of each. A chunk that is no part of the pixels and has a wrong checksum counts as not there, as in libpng. What is
    no PNG, or no chunk, stays as it is.
    """
    if not content.startswith(_MAGIC):
        return content, {}
    view, kept, found = memoryview(content), list[memoryview](), dict[str, str | bytes | None]()
    begin, place = 0, len(_MAGIC)
    while place + _AROUND <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        end = place + _AROUND + length
        if end > len(content) or not name.isalpha() or name == b"IEND":
            break
        if name[0] & _ANCILLARY and name not in _ANIMATION:
            whole = zlib.crc32(view[place + 4 : end - 4]) == struct.unpack_from(">I", content, end - 4)[0]
            if not (whole and name in _LOOK):
                if begin < place:
                    kept.append(view[begin:place])
                begin = end
            if whole:
                _note(name, view[place + 8 : end - 4], found)
        place = end
    info = {key: value for key, value in found.items() if value is not None}
    return (b"".join([*kept, view[begin:]]) if kept else content), info


def _note(name: bytes, data: memoryview, found: dict[str, str | bytes | None]) -> None:
    """Add what a chunk says of the picture's look; a second one of its kind is not even unpacked."""
    key = bytes(data[:80]).partition(b"\0")[0]
    value = data[len(key) + 1 :]
    if name == b"iCCP" and "icc_profile" not in found:
        found["icc_profile"] = _unpacked(value[1:], LARGEST_PROFILE) if bytes(value[:1]) == b"\0" else None
    elif name in _TEXTS and key in _ORIENTATION and key.decode() not in found:
        text = _TEXTS[name](value)
        found[key.decode()] = text if text is None or key == b"exif" else text.decode("utf-8", "replace")


def _plain(value: memoryview) -> bytes | None:
    return bytes(value) if len(value) <= _LONGEST_TEXT else None


def _packed(value: memoryview) -> bytes | None:
    return _unpacked(value[1:], _LONGEST_TEXT) if bytes(value[:1]) == b"\0" else None


def _international(value: memoryview) -> bytes | None:
    """Whether it is packed, how, a language and a translated key come before the text."""
    words = bytes(value[2:_LONGEST_TEXT]).split(b"\0", 2)
    if len(words) < 3:
        return None
    text = value[2 + len(words[0]) + 1 + len(words[1]) + 1 :]
    return _unpacked(text, _LONGEST_TEXT) if value[0] else _plain(text)


_TEXTS = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}


def _unpacked(data: memoryview, most: int) -> bytes | None:
    """Deflated bytes; None if they are damaged or more than ``most``."""
    try:
        plain = zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        return None
    return plain if len(plain) <= most else None
