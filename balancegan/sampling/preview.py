"""A few sampled images of every class, for grids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from balancegan.compute.memory import Fitting
from balancegan.compute.pixels import to_uint8
from balancegan.methods.base import Method
from balancegan.sampling.samplers import latents

GRID_COLUMNS = 8


def grid_images(method: Method, device: torch.device, columns: int = GRID_COLUMNS) -> list[np.ndarray]:
    """As many rows as classes, each uint8 (columns, C, S, S).

    Of a conditional method one row per class from seeds 0 … columns-1 (a column shares its latent); of another method
    as many different seeds, whatever comes.
    """
    fitting = Fitting(columns, device)

    def row(label: int) -> Tensor:
        first = 0 if method.conditional else label * columns
        z = latents(method, range(first, first + columns)).to(device)
        c = torch.full((columns,), label, device=device)
        return fitting.rows(lambda some: method.sample(z[some], c[some]), columns)

    return [to_uint8(row(label)).cpu().numpy() for label in range(method.data.num_classes)]
