"""The estimated cost of a training run on this machine, measured on a small batch and scaled."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from balancegan.methods.base import Method
from balancegan.methods.stages import Terms

PROBE = 8  # images in the measured batch


def estimate(method: Method, device: torch.device, num_images: int) -> dict[str, Any]:
    """Return parameter counts, memory and time for `method` (already set up), measured at batch 8 and scaled linearly.

    Time: the second of two passes of each update's loss. Memory: weights, gradients and Adam's two moments, plus the
    activations kept for the backward pass of the largest loss. Both are estimates. A larger batch is usually faster per
    image than the probe, so the time is usually an overestimate.
    """
    cfg = method.cfg
    method = method.to(device).to(memory_format=torch.channels_last)
    batch = min(PROBE, cfg.batch_size)
    x = torch.rand(batch, method.data.channels, method.data.image_size, method.data.image_size, device=device) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    c = torch.randint(method.data.num_classes, (batch,), device=device)
    scale = cfg.batch_size / batch
    seconds, activations = 0.0, 0
    for stage in method.schedule.stages:
        for update in stage.updates:
            _measure(update.loss, x, c, device)
            took, kept = _measure(update.loss, x, c, device)
            seconds += took * scale * stage.steps * update.repeats
            activations = max(activations, int(kept * scale))
    parameters = {name: count_parameters(module) for name, module in method.named_children()}
    weights = 4 * sum(parameters.values())
    return {
        "parameters": parameters,
        "memory_gib": round((4 * weights + activations) / 2**30, 4),
        "checkpoint_mib": round(checkpoint_bytes(method) / 2**20, 1),
        "images": num_images,
        "seconds_estimated": round(seconds, 1),
    }


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(p.numel() for p in module.parameters())


def checkpoint_bytes(method: Method) -> int:
    """Return the size in bytes of a checkpoint of a method after `setup`: its tensors and Adam's two moments."""
    tensors = sum(t.numel() * t.element_size() for t in method.state_dict().values())
    return tensors + 2 * sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)


def _measure(loss: Any, x: torch.Tensor, c: torch.Tensor, device: torch.device) -> tuple[float, int]:
    """Return the seconds and the bytes of saved activations of one forward and backward pass."""
    kept = 0

    def pack(t: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += t.numel() * t.element_size()
        return t

    _synchronise(device)
    start = time.monotonic()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        terms: Terms = loss(x, c)
    torch.stack(list(terms.values())).sum().backward()
    _synchronise(device)
    return time.monotonic() - start, kept


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
