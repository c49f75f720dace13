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
    if im.mode in ("P", "PA") or "transparency" in im.info:  # a transparent colour must not be moved by the profile
        im = im.convert("RGBA" if im.mode == "PA" or "transparency" in im.info else "RGB")
    if im.mode == "RGBA":
        colours = _applied(im.convert("RGB"), profile)
        colours.putalpha(im.getchannel("A"))
        return colours
    return _applied(im, profile)


def _applied(im: Image.Image, profile: bytes) -> Image.Image:
    transform = _transform(profile, im.mode)
    if transform is None:
        return im
    from PIL import ImageCms

    done = ImageCms.applyTransform(im, transform)
    if done is None:
        return im
    done.info = {k: v for k, v in im.info.items() if k != "icc_profile"}
    return done.getchannel(0) if im.mode == "L" else done


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the transform from a profile into sRGB; None if it changes nothing, is damaged or is not of this mode."""
    if mode not in _INTO:
        return None
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow was built without LittleCMS
        return None
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).lower()
        if mode == "RGB" and "srgb" in name and "linear" not in name:
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
