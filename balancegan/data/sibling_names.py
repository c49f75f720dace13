"""What file names say about siblings: which images belong to one run, and which were taken one after the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"^(.*?)(\d+)\D*$", re.DOTALL)


class NameHints(NamedTuple):
    """Per image: number of its run, how many images of its class that run has, and its number within the run.

    `named`: whether the run has a name of its own; in another one, only neighbours in the count are hinted.
    """

    run: NDArray[np.int64]
    size: NDArray[np.int64]
    number: NDArray[np.int64]
    named: NDArray[np.bool_]

    def partners(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """Among how many images of its class a name places the sibling of an image; infinite where names differ.

        Two neighbours in a count have two such places; two images of one named run, the others of the run.
        """
        same = self.run[one] == self.run[other]
        found = np.full(len(one), np.inf)
        in_run = same & self.named[one]
        found[in_run] = self.size[one][in_run] - 1
        found[same & (np.abs(self.number[one] - self.number[other]) == 1)] = 2
        return found


def name_hints(names: Sequence[str], labels: NDArray[np.int64]) -> NameHints:
    """Read runs and numbers from relative paths: `run3_item_101.jpg` is number 101 of `run3_item_`.

    A run is named if its prefix, without folders, has a digit itself; other prefixes (`img_`) only count images.
    Names without digits hint at nothing.
    """
    runs: dict[tuple[int, str], int] = {}
    run, number, named = [], [], []
    for k, (name, label) in enumerate(zip(names, labels.tolist(), strict=True)):
        folder, _, file = name.rpartition("/")
        match = _NUMBER.match(file.rpartition(".")[0] or file)
        prefix, digits = match.groups() if match else (f"{file}\0{k}", "0")
        run.append(runs.setdefault((label, f"{folder}/{prefix}"), len(runs)))
        number.append(int(digits[-15:]))
        named.append(bool(match) and any(c.isdigit() for c in prefix))
    sizes = Counter(run)
    return NameHints(np.array(run, np.int64), np.array([sizes[r] for r in run], np.int64),
                     np.array(number, np.int64), np.array(named, bool))  # fmt: skip
