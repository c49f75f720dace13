"""A compare request: the cells of the matrix and the training run of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from balancegan.commands.compare.matrix import Cell
from balancegan.commands.train import TrainRequest
from balancegan.core.errors import UsageError
from balancegan.core.options import Extractor, require_choices
from balancegan.methods import PAPER_TABLE, load_method


@dataclass(frozen=True)
class CompareRequest:
    """One `compare` command.

    `flags` are configuration fields as in `TrainRequest`; `settings` (from --set) may name a field that only some
    methods have. `images`: samples per class, None for 1,000 (250 for a large network on a CPU). `max_seconds`: of each
    training.
    """

    data: Path
    methods: tuple[str, ...] = PAPER_TABLE
    seeds: tuple[int, ...] = (0, 1, 2)
    irs: tuple[float, ...] = ()
    preset: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    out: Path = Path("comparison")
    max_seconds: float | None = None
    images: int | None = None
    baseline: str | None = None
    extractor: Extractor = "auto"
    weights: Path | None = None
    strict: bool = False
    use_environment: bool = True  # whether BALANCEGAN_<FIELD> variables count

    def check(self) -> None:
        """Raise `UsageError` if the request is invalid."""
        if not self.methods:
            raise UsageError("no methods were given", f"write e.g. --methods {','.join(PAPER_TABLE)}")
        for name in self.methods:
            load_method(name)
        if self.baseline is not None and self.baseline not in self.methods:
            raise UsageError(
                f"--baseline {self.baseline} is not among the methods", f"choose one of {', '.join(self.methods)}"
            )
        if self.baseline is not None and self.baseline == self.methods[-1]:
            raise UsageError(
                f"--baseline {self.baseline} is the last method, which needs another baseline",
                "name the baseline earlier in --methods",
            )
        if not self.seeds:
            raise UsageError(
                "no seeds were given", "write e.g. --seeds 3 for three seeds, or --seeds 0, (with the comma) for seed 0"
            )
        if bad := [ir for ir in self.irs if not ir >= 1]:
            raise UsageError(f"--ir cannot be {bad[0]:g}", "an imbalance rate is majority / minority, so 1 or more")
        require_choices(self)
        if self.images is not None and self.images < 2:
            raise UsageError(f"--images {self.images} cannot be measured", "sample at least 2 images per class")
        for name, option in (("seed", "--seeds"), ("train_ir", "--ir")):
            if name in self.settings:
                raise UsageError(f"--set {name} would apply to every training run", f"use {option}")
        known = {f.name for name in self.methods for f in fields(load_method(name).Config)}
        if unknown := [name for name in self.settings if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see a run's config.yaml"
            raise UsageError(f"none of these methods has a configuration field {unknown[0]!r}", hint)

    @property
    def rates(self) -> tuple[float, ...]:
        """The imbalance rates to thin to; (0,) for the unthinned data."""
        return self.irs or (0.0,)

    @property
    def cells(self) -> list[Cell]:
        """All cells; the methods of one seed and rate are adjacent, so that they can be compared early."""
        return [Cell(ir, seed, method) for seed in self.seeds for ir in self.rates for method in self.methods]

    @property
    def pair(self) -> tuple[str, str] | None:
        """The last method, whose improvement is shown, and its baseline (by default the second to last)."""
        if len(self.methods) < 2:
            return None
        return self.methods[-1], self.baseline or self.methods[-2]

    def training(self, cell: Cell) -> TrainRequest:
        """Return the `train` request of a cell."""
        kind = load_method(cell.method)
        own = {f.name for f in fields(kind.Config)}
        flags = {**self.flags, **{name: value for name, value in self.settings.items() if name in own}}
        if not kind.pretrains():
            flags["pretrain_steps"] = 0
        return TrainRequest(
            data=self.data,
            method=cell.method,
            preset=self.preset,
            flags={**flags, "seed": cell.seed, "train_ir": cell.ir},
            device=self.device,
            out=self.out / "runs",
            max_seconds=self.max_seconds,
            resume="auto" if self.max_seconds is None else "never",  # an interrupted one would get more time
            strict=self.strict,
            use_environment=self.use_environment,
        )
