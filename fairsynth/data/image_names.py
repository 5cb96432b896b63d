"""Which files are images by their names: those that can be read, and those that only look like it.

The content alone decides how a file is read. Endings of formats that are not read are listed so that such files are
counted and named, and do not vanish.
"""

from __future__ import annotations

from fairsynth.data.location import container
from fairsynth.data.storage import FileEntry

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
_NOT_READ = (
    ".heic", ".heif", ".hif", ".avif", ".avifs", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".svg", ".psd", ".ico",
    ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".dds", ".exr", ".hdr", ".qoi", ".dcm",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".raw",
)  # fmt: skip
_READ = tuple(dict.fromkeys(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
IMAGE_SUFFIXES = (*_READ, *_NOT_READ)


def is_image(name: str) -> bool:
    """True if a file's name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_read(name: str) -> bool:
    """True if it ends like an image's of a format that is read."""
    return name.lower().endswith(_READ)


def is_image_file(file: FileEntry) -> bool:
    """The same for a file whose name may not be UTF-8."""
    return is_image(container(file.path, file.location))
