"""From Pillow's modes to sRGB: alpha, depth and embedded colour profiles, by one rule each.

- Palette, grey, 1 bit, CMYK, YCbCr, LAB, HSV: Pillow's conversion; premultiplied alpha is divided out.
- Alpha, transparent palette entries and PNG's transparent colour (tRNS): laid over a background.
- Unsigned 16 bits: scaled by 65535. Colour images of 16 bits: Pillow keeps the high byte, at most one level darker.
- Signed and 32 bit integers say nothing of their range: up to 255 taken as is, up to 65535 scaled by 65535, else by the maximum.
- Floats: up to 1 scaled by 1, else as those integers. Negative values are black.
- A profile that fits the pixels (RGB, grey or CMYK) is applied, relative colorimetric with black point
  compensation; one that is broken, or as good as sRGB, is ignored.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fairsynth.data.metadata import BadImage

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_PLAINER = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA", "RGBX": "RGB"}
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # the name in a profile for the colours of a mode
LARGEST_PROFILE = 4 << 20  # profiles of printing presses have about 2 MB
_NOTICEABLE = 2  # levels; the sRGB profiles that vendors embed differ by 1
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 0x0102, 0x0106, 0


def scale_key(image: Image.Image) -> None:
    """Bring PNG's transparent colour from the file's depth to that of Pillow's pixels; only before load()."""
    key = image.info.get("transparency")
    if key is None or image.format != "PNG" or not image.tile:  # type: ignore[attr-defined]
        return
    stored = image.tile[0].args  # type: ignore[attr-defined]
    if stored in ("L;2", "L;4"):
        image.info["transparency"] = key * 255 // (3 if stored == "L;2" else 15)
    elif stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)


def to_srgb(image: Image.Image, background: str) -> Image.Image:
    """A new RGB image without metadata. Raises BadImage (not_finite)."""
    profile = image.info.get("icc_profile")
    colours, alpha = _split(image)
    rgb = _managed(colours, profile) or colours.convert("RGB")
    if alpha is not None:
        opaque = Image.new("RGB", rgb.size, background)
        opaque.paste(rgb, mask=alpha)
        rgb = opaque
    rgb.info = {}  # or a later save would carry the old profile and comments along
    return rgb


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours, and alpha if there is any."""
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in _PLAINER:
        image = image.convert(_PLAINER[image.mode])
    if image.mode in ("RGBA", "LA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    key = image.info.pop("transparency", None)
    alpha = None if key is None else _alpha_of(image, key)
    return (_eight_bits(image) if image.mode in _DEEP else image), alpha


def _alpha_of(image: Image.Image, key: object) -> Image.Image:
    """Transparent where the pixel has the key's colour."""
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    differs = (pixels != key).reshape(*pixels.shape[:2], -1).any(axis=-1)
    return Image.fromarray(differs.astype(np.uint8) * np.uint8(255))


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" and not np.isfinite(values).all():
        raise BadImage("not_finite", f"{int((~np.isfinite(values)).sum())} pixels are no finite numbers")
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        # Pillow hands 12 bits over in the low bits, and does not turn 16 bits around where white is 0.
        top = 4095.0 if 12 in tags.get(_BITS_PER_SAMPLE, ()) else 65535.0
    else:
        top = _range(image.mode, float(values.max()))
    light = values.astype(np.float32)
    np.clip(light, 0, top, out=light)
    light *= 255 / top
    light += 0.5
    eight: NDArray[np.uint8] = light.astype(np.uint8)
    white_is_zero = image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return Image.fromarray(255 - eight if white_is_zero else eight)


def _range(mode: str, highest: float) -> float:
    """The value of white, where the type leaves it open."""
    if mode == "F" and highest <= 1:
        return 1.0
    return next((top for top in (255.0, 65535.0) if highest <= top), highest)


def _managed(image: Image.Image, profile: object) -> Image.Image | None:
    """The image in sRGB by its profile; None if the profile is unusable."""
    if not isinstance(profile, bytes) or image.mode not in _SPACES or len(profile) > LARGEST_PROFILE:
        return None
    transform = _transform(profile, image.mode)
    return None if transform is None else transform.apply(image)


@lru_cache(maxsize=8)  # the images of a dataset share a few profiles; a transform may be used by several threads
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        transform = ImageCms.ImageCmsTransform(
            source,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return transform if mode == "CMYK" or _noticeable(transform, mode) else None
    except Exception:  # littlecms says no in several ways
        return None


def _noticeable(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the transform changes colours by more than rounding, tried on a grid of all colours."""
    levels = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    probe = Image.fromarray(grid) if mode == "RGB" else Image.linear_gradient("L")
    before = np.asarray(probe.convert("RGB"), np.int16)
    return int(np.abs(np.asarray(transform.apply(probe), np.int16) - before).max()) > _NOTICEABLE
