"""`compare`: train and measure every cell of the matrix, or read what earlier calls left, and write the page."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from balancegan import __version__
from balancegan import device as devices
from balancegan.compare.matrix import Board, Matrix
from balancegan.compare.measure import Ruler
from balancegan.compare.records import read_record, write_record
from balancegan.compare.request import Cell, CompareRequest
from balancegan.compare.table import findings, table
from balancegan.config import MethodConfig
from balancegan.data.inspect import imbalance_rate
from balancegan.data.training_set import TrainingSet, open_training_set
from balancegan.errors import (
    BalanceGANError,
    CheckpointError,
    OutOfMemoryError,
    TrainingDivergedError,
    UsageError,
)
from balancegan.estimate import count_parameters
from balancegan.files import disk_errors, refuse_source, write_atomic
from balancegan.launch import Plan, configure, launch
from balancegan.report.comparison import SampleSheet, write_comparison
from balancegan.report.compute import describe_extractor
from balancegan.restore import restore
from balancegan.rundir import RunDir
from balancegan.sample import Sampler

Json = dict[str, Any]

DATA_FIELDS = ("image_size", "channels", "fit", "background", "holdout", "holdout_seed", "group_by")
OF_ONE_METHOD = (TrainingDivergedError, OutOfMemoryError, CheckpointError)
SHEET_COLUMNS = 20
SHEET_CLASSES = 10


def compare(request: CompareRequest, board: Board | None = None) -> Json:
    """Do what is left to do, write everything into `request.out`, and return the command's JSON document.

    Raises `UsageError` and `DatasetError` before anything is trained; afterwards only what concerns all cells
    (`DiskError`, `StoppedError`), or when no cell at all has a result. A training that fails marks its cell.
    """
    board = board or Board()
    request.check()
    plans = {cell: configure(request.training(cell)) for cell in request.cells}
    cfg = _shared_config(plans)
    data = open_training_set(
        request.data, dataclasses.replace(cfg, train_ir=0.0), strict=request.strict, progress=board
    )
    thinned = {ir: data.thinned(ir, cfg.holdout_seed) if ir else data for ir in request.rates}
    refuse_source(request.out, data.folder.folders())
    with _locked(request.out):
        ruler = Ruler(request, data, next(iter(plans.values())).device, request.out / "cells", board)
        results = _Worker(request, plans, data, ruler, board).work()
        document = _document(request, plans, data, thinned, ruler, results)
        write_comparison(document, _sheets(request, data, ruler, results), request.out)
    if all(result["status"] == "failed" for result in results.values()):
        first = next(iter(results.values()))
        kind = next((k for k in OF_ONE_METHOD if k.exit_code == first["exit_code"]), BalanceGANError)
        raise kind(f"every training failed, the first with: {first['reason']}", f"see {request.out / 'compare.html'}")
    return {**document, "out": str(request.out.absolute()), "page": str((request.out / "compare.html").absolute())}


def _shared_config(plans: dict[Cell, Plan]) -> MethodConfig:
    """Any cell's configuration, after a check that all see the same images."""
    first, *others = (plan.cfg for plan in plans.values())
    for name in DATA_FIELDS:
        if differing := {str(getattr(cfg, name)) for cfg in others} - {str(getattr(first, name))}:
            raise UsageError(
                f"the methods' presets differ in {name} ({getattr(first, name)} and {', '.join(sorted(differing))})",
                f"give one for all: --set {name}=…",
            )
    return first


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the output folder for this process; refuse a folder that is something else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is no folder", "choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "cells").is_dir():
        raise UsageError(f"{out} is not empty and holds no comparison", "choose a new folder with --out")
    with disk_errors(f"create {out}"):
        (out / "cells").mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / "cells" / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another process works on {out}", "wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


class _Watch:
    """A training's monitor that moves the matrix and says nothing twice."""

    def __init__(self, board: Board, matrix: Matrix) -> None:
        self.board, self.matrix = board, matrix
        self.cell: Cell | None = None
        self.plan: Plan | None = None
        self._said: set[str] = set()

    def watch(self, cell: Cell, plan: Plan) -> None:
        """The next calls are about this cell."""
        self.cell, self.plan = cell, plan
        self.matrix.start(cell)
        self.board.matrix(self.matrix)

    def step(self, stage: str, step: int, total: int) -> None:
        assert self.cell and self.plan
        cfg = self.plan.cfg
        done = step + (cfg.pretrain_steps if stage == "adversarial" else 0)
        self.matrix.advance(self.cell, done / max(1, cfg.pretrain_steps + cfg.steps))
        self.board.matrix(self.matrix)
        self.board.step(stage, step, total)

    def tick(self, row: Json) -> None:
        self.board.tick(row)

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.board.note(text)


class _Worker:
    """Brings every cell to its result."""

    def __init__(
        self, request: CompareRequest, plans: dict[Cell, Plan], data: TrainingSet, ruler: Ruler, board: Board
    ) -> None:
        self.request, self.plans, self.data, self.ruler, self.board = request, plans, data, ruler, board
        self.folder = request.out / "cells"
        self.matrix = Matrix(request.cells)
        self.watch = _Watch(board, self.matrix)

    def work(self) -> dict[Cell, Json]:
        """Results of all cells, those of earlier calls included."""
        keys = {cell: self._key(plan) for cell, plan in self.plans.items()}
        results = {}
        for cell, key in keys.items():
            result = read_record(self.folder / f"{cell.name}.json", key)
            # A training that diverged would do so again; what failed for another reason is tried again.
            if result and (result["status"] == "done" or result["exit_code"] == TrainingDivergedError.exit_code):
                results[cell] = result
                self.matrix.finish(cell, failed=result["status"] == "failed", read=True)
        self.board.matrix(self.matrix)
        for cell, key in keys.items():
            if cell not in results:
                self.watch.watch(cell, self.plans[cell])
                results[cell] = self._result(cell)
                write_record(self.folder / f"{cell.name}.json", key, results[cell])
                self.matrix.finish(cell, failed=results[cell]["status"] == "failed")
                self.board.matrix(self.matrix)
        return {cell: results[cell] for cell in self.plans}

    def _key(self, plan: Plan) -> Json:
        """Everything that decides a cell's result."""
        settings = {**plan.cfg.identity(), "steps": plan.cfg.steps}
        return {"method": plan.name, "settings": settings, "data": self.data.store.fingerprint, **self.ruler.key}

    def _result(self, cell: Cell) -> Json:
        """Train (or go on, or find it trained) and measure; a failure of this training alone becomes its result."""
        failed: Json = {"status": "failed", "run": None, "rows": [], "exit_code": BalanceGANError.exit_code}
        try:
            return self._trained(cell)
        except OF_ONE_METHOD as error:
            reason, failed["exit_code"] = error.message, error.exit_code
        except BalanceGANError:
            raise  # concerns every cell
        except Exception as error:  # a bug in one method must not cost a night's other results
            reason = f"unexpected {type(error).__name__}: {error}"
            with disk_errors("write a traceback"):
                write_atomic(self.folder / f"{cell.name}.txt", traceback.format_exc())
        self.board.note(f"{cell.label} failed: {reason}")
        return {**failed, "reason": reason}

    def _trained(self, cell: Cell) -> Json:
        trained = launch(self.request.training(cell), self.watch, self.board)
        restored = restore(RunDir(trained["run"]), self.plans[cell].device)
        rows, shown = self.ruler.measure(Sampler(restored.method, restored.device))
        with disk_errors("write sample images"):
            np.save(self.folder / f"{cell.name}.npy", shown)
        return {
            "status": "done",
            "reason": None,
            "exit_code": 0,
            "run": trained["run"],
            "steps": trained["steps"],
            "seconds": trained["seconds"],
            "images_per_second": trained["images_per_second"],
            "parameters": {
                name: count_parameters(m) for name, m in restored.method.named_children() if name != "G_ema"
            },
            "rows": rows,
        }


def _document(
    request: CompareRequest,
    plans: dict[Cell, Plan],
    data: TrainingSet,
    thinned: dict[float, TrainingSet],
    ruler: Ruler,
    results: dict[Cell, Json],
) -> Json:
    """Everything that the page shows."""
    device = next(iter(plans.values())).device
    by_method = {cell.method: plan for cell, plan in plans.items()}
    first = next(iter(by_method.values()))
    counts = {ir: dict(zip(data.class_names, thin.class_counts, strict=True)) for ir, thin in thinned.items()}
    majority = max(counts[request.rates[0]], key=lambda name: counts[request.rates[0]][name])
    key = {**ruler.key, "data": data.store.fingerprint}
    path = request.out / "cells" / "references.json"
    described = read_record(path, key)
    if described is None:
        described = {"classes": ruler.describe()}
        write_record(path, key, described)
    cells = [row for cell, result in results.items() for row in _cell_rows(cell, result, data.class_names)]
    pair = request.pair
    document: Json = {
        "schema_version": 1,
        "balancegan_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": data.folder.root.name,
        "data": str(data.folder.root),
        "methods": list(request.methods),
        "seeds": list(request.seeds),
        "irs": [ir or None for ir in request.rates],
        "preset": first.preset,
        "steps": first.cfg.steps,
        "image_size": first.cfg.image_size,
        "batch_size": first.cfg.batch_size,
        "images_per_class": ruler.images,
        "device": str(device),
        "hardware": devices.describe(device),
        "settings": {name: dataclasses.asdict(plan.cfg) for name, plan in by_method.items()},
        "extractor": describe_extractor(ruler.kind),
        "classes": [{**row, "majority": row["name"] == majority} for row in described["classes"]],
        "train_counts": [
            {"ir": ir or None, "imbalance_rate": imbalance_rate(count), "counts": count} for ir, count in counts.items()
        ],
        "baseline": pair[1] if pair else None,
        "target": pair[0] if pair else None,
        "cells": cells,
        "runs": [_run_row(cell, plans[cell], result) for cell, result in results.items()],
    }
    document["table"] = [
        {
            "ir": block["ir"],
            "imbalance_rate": block["imbalance_rate"],
            "measures": table(
                cells, ir=block["ir"], methods=request.methods, classes=data.class_names, majority=majority, pair=pair
            ),
        }
        for block in document["train_counts"]
    ]
    document["findings"] = findings(document)
    return document


def _cell_rows(cell: Cell, result: Json, class_names: tuple[str, ...]) -> list[Json]:
    """One row per class, also for a cell without a result."""
    empty = dict.fromkeys(("fid", "kid", "kid_std", "ssim", "n_real", "n_fake", "reference"))
    rows = result["rows"] or [{"class": name, **empty, "reason": result["reason"]} for name in class_names]
    head = {"ir": cell.ir or None, "method": cell.method, "seed": cell.seed}
    return [{**head, **row, "status": result["status"]} for row in rows]


def _run_row(cell: Cell, plan: Plan, result: Json) -> Json:
    keep = ("status", "reason", "run", "steps", "seconds", "images_per_second", "parameters")
    head = {"ir": cell.ir or None, "method": cell.method, "seed": cell.seed, "pretrain_steps": plan.cfg.pretrain_steps}
    return {**head, **{name: result.get(name) for name in keep}}


def _sheets(request: CompareRequest, data: TrainingSet, ruler: Ruler, results: dict[Cell, Json]) -> list[SampleSheet]:
    """Real images and every method's, the same latents in a column; of the first seed, one sheet per rate."""
    counts = data.class_counts
    labels = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    if len(labels) > SHEET_CLASSES:  # the majority and the rarest
        labels = [labels[0], *labels[1 - SHEET_CLASSES :]]
    labels.sort()
    each = max(1, min(8, SHEET_COLUMNS // len(labels)))
    real = [_repeat(ruler.references[label].images, each) for label in labels]
    sheets = []
    for ir in request.rates:
        rows = [("real", np.concatenate(real))]
        for method in request.methods:
            cell = Cell(ir, request.seeds[0], method)
            if results[cell]["status"] == "done":
                shown = np.load(request.out / "cells" / f"{cell.name}.npy", allow_pickle=False)
                rows.append((method, np.concatenate([shown[label, :each] for label in labels])))
        headings = [(data.class_names[label], each) for label in labels]
        sheets.append(SampleSheet(ir or None, rows, headings))
    return sheets


def _repeat(images: np.ndarray, n: int) -> np.ndarray:
    """The first n images, from the beginning again where there are fewer."""
    return images[np.arange(n) % len(images)]
