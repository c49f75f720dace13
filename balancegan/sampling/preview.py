"""A few sampled images of every class, for grids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from balancegan.compute.memory import Fitting
from balancegan.compute.pixels import to_uint8
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling.samplers import latents, source_images

GRID_COLUMNS = 8


def grid_images(
    method: Method, device: torch.device, columns: int = GRID_COLUMNS, sources: SourceImages | None = None
) -> list[np.ndarray]:
    """As many rows as classes, each uint8 (columns, C, S, S), equally many for all that the method can be asked for.

    The rows of one class go on with its seeds; of different classes they begin with the same ones, so that a column
    shares its latent.
    """
    fitting, classes = Fitting(columns, device), method.data.num_classes
    rows_each = classes // len(method.condition_names([str(k) for k in range(classes)]))

    def row(label: int) -> Tensor:
        first = label % rows_each * columns
        seeds = range(first, first + columns)
        z, source = latents(method, seeds).to(device), source_images(method, sources, label, seeds, device)
        c = torch.full((columns,), label, device=device)
        return fitting.rows(
            lambda some: method.sample(z[some], c[some], None if source is None else source[some]), columns
        )

    return [to_uint8(row(label)).cpu().numpy() for label in range(classes)]
