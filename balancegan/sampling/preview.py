"""Sample a few images of every class, for grids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from balancegan.compute.memory import Fitting
from balancegan.compute.pixels import to_uint8
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling.samplers import latents, sampled

GRID_COLUMNS = 8


def grid_images(
    method: Method, device: torch.device, columns: int = GRID_COLUMNS, sources: SourceImages | None = None
) -> list[np.ndarray]:
    """Return one row of images per class, each uint8 (columns, C, S, S).

    A method with fewer conditions than classes gets equally many rows for each condition. The rows of one condition
    continue its seeds; all conditions begin with the same seeds, so that the images in a column share a latent.
    """
    fitting, classes = Fitting(columns, device), method.data.num_classes
    rows_each = classes // method.num_conditions

    def row(label: int) -> Tensor:
        first = label % rows_each * columns
        seeds = range(first, first + columns)
        return sampled(method, latents(method, seeds).to(device), label, seeds, sources, fitting)

    return [to_uint8(row(label)).cpu().numpy() for label in range(classes)]
