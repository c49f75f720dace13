"""Colour profiles: pixels become sRGB, the colours that screens and networks assume."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

from PIL import Image

_INTO = {"RGB": "RGB", "L": "RGB", "CMYK": "RGB"}  # mode of an image with a profile -> mode after it


def to_srgb(im: Image.Image) -> Image.Image:
    """Apply an image's embedded ICC profile; an image without one, or with a damaged one, is returned as it is.

    Grey images stay grey, and transparency stays.
    """
    profile = im.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return im
    if im.mode in ("P", "PA"):
        im = im.convert("RGBA" if im.mode == "PA" or "transparency" in im.info else "RGB")
    if im.mode == "RGBA":
        colours = _applied(im.convert("RGB"), profile)
        colours.putalpha(im.getchannel("A"))
        return colours
    return _applied(im, profile)


def _applied(im: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    transform = _transform(profile, im.mode)
    if transform is None:
        return im
    done = ImageCms.applyTransform(im, transform)
    if done is None:
        return im
    done.info = {k: v for k, v in im.info.items() if k != "icc_profile"}
    return done.getchannel(0) if im.mode == "L" else done


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the transform from a profile into sRGB; None if it changes nothing, is damaged or is not of this mode."""
    from PIL import ImageCms

    if mode not in _INTO:
        return None
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            _INTO[mode],
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
