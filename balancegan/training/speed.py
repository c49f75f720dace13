"""Quick measurements of how fast this machine trains the presets and decodes images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from balancegan.compute.device import prepare
from balancegan.compute.memory import memory_errors
from balancegan.core.config import MethodConfig
from balancegan.data.decode import DecodeSettings, decode_image
from balancegan.data.resize import network_pixels
from balancegan.methods import load_method
from balancegan.methods.base import DataSpec
from balancegan.training.estimate import estimate

METHOD = "sgbgan"
CLASSES, CHANNELS, IMAGES = 5, 3, 500  # the assumed data set; the results hardly depend on it
RUNS = 3
ENOUGH_SECONDS = 3.0
"""Start no further run of a preset after this long."""
DEFAULT_SECONDS = 6.0
"""Skip the preset `default` on a CPU that would need longer than this for one run."""
DEFAULT_OVER_TINY = 16
"""How much longer a run of `default` takes than one of `tiny`; 8 to 14 were measured on CPUs."""
JPEG_SIDE, JPEG_COUNT = 256, 64


def measure_preset(preset: str, device: torch.device, *, runs: int = RUNS) -> tuple[dict[str, Any], float]:
    """Return the cost of training with the preset (see `row`) and the seconds of the shortest measurement.

    Uses the same `estimate` as `train --dry-run`, and takes the lowest of up to `runs` results, because first calls and
    other programs can only make it slower.

    Raises:
        OutOfMemoryError: the measured batch does not fit in the device's memory.
    """
    cfg = _config(preset)
    began, shortest = time.monotonic(), float("inf")
    costs: list[dict[str, Any]] = []
    while len(costs) < runs and (not costs or time.monotonic() - began < ENOUGH_SECONDS):
        started = time.monotonic()
        with memory_errors(device, "close other programs that use its memory"):
            costs.append(_estimate(cfg, device))
        shortest = min(shortest, time.monotonic() - started)
    return row(preset, min(costs, key=lambda cost: cost["seconds_estimated"])), shortest


def row(preset: str, cost: dict[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
    """Return a preset's budget and, if measured, its speed; `reason` says why it was not measured.

    `images_per_second` counts images as training does: those that the discriminator sees and, before it, the
    autoencoder. `seconds_per_step` is the mean over both stages; `hours` covers all steps.
    """
    cfg = _config(preset)
    speed: dict[str, float | None] = dict.fromkeys(("images_per_second", "seconds_per_step", "hours", "memory_gib"))
    if cost is not None:
        seconds = max(cost["seconds_estimated"], 1e-3)
        schedule = load_method(METHOD)(cfg).schedule
        speed = {
            "images_per_second": round(schedule.images(cfg.batch_size) / seconds, 2),
            "seconds_per_step": round(seconds / schedule.total, 4),
            "hours": round(seconds / 3600, 2),
            "memory_gib": cost["memory_gib"],
        }
    budget = {name: getattr(cfg, name) for name in ("image_size", "batch_size", "pretrain_steps", "steps")}
    return {"preset": preset, "method": METHOD, **budget, **speed, "reason": reason}


def _config(preset: str) -> MethodConfig:
    kind = load_method(METHOD)
    return kind.Config(**kind.presets[preset])


def _estimate(cfg: MethodConfig, device: torch.device) -> dict[str, Any]:
    prepare(device)
    method = load_method(METHOD)(cfg)
    method.setup(DataSpec(CLASSES, CHANNELS, cfg.image_size, (IMAGES // CLASSES,) * CLASSES))
    return estimate(method, device, IMAGES)


def measure_decoding(image_size: int = 64) -> dict[str, Any]:
    """Measure images per second from JPEG files to network inputs, in one process."""
    settings = DecodeSettings(image_size=image_size, channels=3)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="balancegan-") as folder:
        path = Path(folder) / "image.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (JPEG_SIDE // 16, JPEG_SIDE // 16, 3), dtype=np.uint8))
        coarse.resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
        _decode(path, settings)
        started = time.monotonic()
        for _ in range(JPEG_COUNT):
            _decode(path, settings)
        seconds = time.monotonic() - started
    return {
        "images_per_second": round(JPEG_COUNT / max(seconds, 1e-9), 1),
        "format": "JPEG",
        "side": JPEG_SIDE,
        "image_size": image_size,
    }


def _decode(path: Path, settings: DecodeSettings) -> None:
    network_pixels(decode_image(path, at_least=2 * settings.image_size).pixels, settings)
