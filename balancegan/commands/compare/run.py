"""`compare`: train and measure every cell of the matrix, or reuse earlier results, and write the page."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balancegan.commands.compare.document import make_document, sample_sheets
from balancegan.commands.compare.matrix import Board, Cell, Matrix
from balancegan.commands.compare.measure import Ruler
from balancegan.commands.compare.records import read_images, read_record, write_images, write_record
from balancegan.commands.compare.request import CompareRequest
from balancegan.commands.train import NO_SPACE, Plan, configure, launch, run_bytes
from balancegan.core.config import MethodConfig
from balancegan.core.documents import Json
from balancegan.core.errors import (
    BalanceGANError,
    CheckpointError,
    DatasetError,
    OutOfMemoryError,
    StoppedError,
    TrainingDivergedError,
    UsageError,
)
from balancegan.core.files import disk_errors, is_litter, refuse_source, require_space, write_atomic
from balancegan.core.locks import require_lock
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet, open_training_set, recorded_holdout
from balancegan.evaluation.class_assignment import describe_assignment
from balancegan.report.comparison import write_comparison
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.choice import make_samplers
from balancegan.training.estimate import count_parameters

DATA_FIELDS = ("image_size", "channels", "fit", "background", "holdout", "holdout_seed", "group_by")
MARKER = ".balancegan-comparison"  # marks a folder that we may write into
OF_ONE_METHOD = (TrainingDivergedError, OutOfMemoryError, CheckpointError)


def compare(request: CompareRequest, board: Board | None = None) -> Json:
    """Complete the remaining cells, write everything into `request.out`, and return the command's JSON document.

    Raises `UsageError` and `DatasetError` before any training; afterwards only errors that concern all cells
    (`DiskError`, `StoppedError`), or if no cell has a result. A failed training run only marks its cell.
    """
    board = board or Board()
    request.check()
    plans = {cell: configure(request.training(cell)) for cell in request.cells}
    cfg = _shared_config(plans)
    data = open_training_set(
        request.data, dataclasses.replace(cfg, train_ir=0.0), strict=request.strict, progress=board
    )
    thinned = {ir: data.thinned(ir, cfg.holdout_seed) if ir else data for ir in request.rates}
    refuse_source(request.out, data.folder.folders(), around=True)
    with _locked(request.out):
        ruler = Ruler(request, data, next(iter(plans.values())).device, request.out / "cells", board)
        results = _Worker(request, plans, thinned, ruler, board).work()
        document = make_document(request, plans, data, thinned, ruler, results)
        write_comparison(document, sample_sheets(request, data, ruler, results), request.out)
    if all(result["status"] == "failed" for result in results.values()):
        first = next(iter(results.values()))
        kind = next((k for k in OF_ONE_METHOD if k.exit_code == first["exit_code"]), BalanceGANError)
        raise kind(
            f"every training run failed; the first error is: {first['reason']}", f"see {request.out / 'compare.html'}"
        )
    return {**document, "out": str(request.out.absolute()), "page": str((request.out / "compare.html").absolute())}


def _shared_config(plans: dict[Cell, Plan]) -> MethodConfig:
    """Return any cell's configuration after checking that all see the same images."""
    first, *others = (plan.cfg for plan in plans.values())
    for name in DATA_FIELDS:
        if differing := {str(getattr(cfg, name)) for cfg in others} - {str(getattr(first, name))}:
            raise UsageError(
                f"the methods' presets differ in {name} ({getattr(first, name)} and {', '.join(sorted(differing))})",
                f"set one value for all: --set {name}=…",
            )
    return first


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the output folder for this process; refuses a folder that is not a comparison."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is not a folder", "choose another --out")
    theirs = out.is_dir() and not all(is_litter(path.name) for path in out.iterdir())
    if theirs and not (out / MARKER).is_file():
        raise UsageError(f"{out} is not empty and is not a comparison", "choose a new folder with --out")
    with disk_errors(f"create {out}"):
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).touch()
        (out / "cells").mkdir(exist_ok=True)
    hint = "wait for it, or choose another --out"
    lock = require_lock(out / "cells" / ".lock", f"another process is using {out}", hint)
    try:
        with disk_errors(f"clear {out}"):
            for folder in (out, out / "cells", out / "figures"):
                for leftover in folder.glob(".tmp-*"):  # left by a killed call
                    leftover.unlink()
        yield
    finally:
        lock.release()


class _Watch:
    """A training monitor that updates the matrix and repeats no note."""

    def __init__(self, board: Board, matrix: Matrix, max_seconds: float | None) -> None:
        self.board, self.matrix, self.max_seconds = board, matrix, max_seconds
        self.cell: Cell | None = None
        self.plan: Plan | None = None
        self._said: set[str] = set()

    def watch(self, cell: Cell, plan: Plan) -> None:
        """Apply the next calls to this cell."""
        self.cell, self.plan = cell, plan
        self.matrix.start(cell)
        self.board.matrix(self.matrix)

    def step(self, stage: str, step: int, total: int) -> None:
        assert self.cell and self.plan
        schedule = self.plan.method.schedule
        before = next(start for s, start in zip(schedule.stages, schedule.starts, strict=True) if s.name == stage)
        self.matrix.advance(self.cell, (before + step) / max(1, schedule.total), self.max_seconds)
        self.board.matrix(self.matrix)
        self.board.step(stage, step, total)

    def tick(self, row: Json) -> None:
        self.board.tick(row)

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.board.note(text)


class _Worker:
    """Trains and measures every cell."""

    def __init__(
        self,
        request: CompareRequest,
        plans: dict[Cell, Plan],
        thinned: dict[float, TrainingSet],
        ruler: Ruler,
        board: Board,
    ) -> None:
        self.request, self.plans, self.thinned, self.ruler, self.board = request, plans, thinned, ruler, board
        self.data = next(iter(thinned.values()))  # every rate has the same store
        self.folder = request.out / "cells"
        self.matrix = Matrix(request.cells)
        self.watch = _Watch(board, self.matrix, request.max_seconds)

    def work(self) -> dict[Cell, Json]:
        """Return the results of all cells, including those of earlier calls."""
        results = {cell: found for cell in self.plans if (found := self._read(cell))}
        for cell, result in results.items():
            self.matrix.finish(cell, failed=result["status"] == "failed", read=True)
        self.board.matrix(self.matrix)
        left = [cell for cell in self.plans if cell not in results]
        if left:
            _ = self.ruler.extractor  # find a wrong weights file before training, not after
            self._require_space(left, [result["run"] for result in results.values()])
        for cell in left:
            self.watch.watch(cell, self.plans[cell])
            results[cell] = self._result(cell)
            write_record(self._path(cell), self._key(cell), results[cell])
            self.matrix.finish(cell, failed=results[cell]["status"] == "failed")
            self.board.matrix(self.matrix)
            if signum := results[cell].pop("signum", None):  # the signal came in the last step, whose result is kept
                raise StoppedError(f"after {cell.label}", "run the same command again to continue", signum=signum)
        return {cell: results[cell] for cell in self.plans}

    def _require_space(self, cells: list[Cell], finished: list[str | None]) -> None:
        """Raise `DiskError` if the checkpoints of all these cells will not fit; counts those already written."""
        begun = [run for run in self.request.out.absolute().glob("runs/*") if str(run) not in finished]
        there = sum(path.stat().st_size for run in begun for path in run.glob("checkpoints/step-*/*"))
        each = {cell.method: run_bytes(self.plans[cell], self.data) for cell in cells}
        need = sum(each[cell.method] for cell in cells)
        require_space(self.request.out, max(0, need - there), "the checkpoints of all training runs need", NO_SPACE)

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def _key(self, cell: Cell) -> Json:
        """Return everything that determines a cell's result."""
        plan = self.plans[cell]
        settings = {**plan.cfg.identity(), "steps": plan.cfg.steps}
        time = {} if self.request.max_seconds is None else {"max_seconds": self.request.max_seconds}
        data = {"data": self.data.store.fingerprint}
        return {"method": plan.name, "settings": settings, **time, **data, **self.ruler.key}

    def _read(self, cell: Cell) -> Json | None:
        """Return the result of an earlier call if it is still valid, else None.

        A run that diverged would diverge again; other failures are retried.
        """
        result = read_record(self._path(cell), self._key(cell))
        if not result or (result["status"] == "failed" and result["exit_code"] != TrainingDivergedError.exit_code):
            return None
        if result["status"] == "done" and read_images(self.folder, cell) is None:
            return None
        return result

    def _result(self, cell: Cell) -> Json:
        """Train (or continue, or find it trained) and measure; a failure of this cell alone becomes its result."""
        failed: Json = {"status": "failed", "run": None, "rows": [], "exit_code": BalanceGANError.exit_code}
        try:
            return self._trained(cell)
        except OF_ONE_METHOD as error:
            reason, failed["exit_code"] = error.message, error.exit_code
        except BalanceGANError:
            raise  # affects every cell
        except Exception as error:  # a bug in one method must not cost a night's other results
            reason = f"unexpected {type(error).__name__}: {error}"
            with disk_errors("write a traceback"):
                write_atomic(self.folder / f"{cell.name}.txt", traceback.format_exc())
        self.board.note(f"{cell.label} failed: {reason}")
        return {**failed, "reason": reason}

    def _trained(self, cell: Cell) -> Json:
        training = self.request.training(cell)
        trained = launch(training, self.watch, self.board)
        run = RunDir(trained["run"])
        beyond = trained["steps"] > self.plans[cell].cfg.steps  # an earlier call trained beyond the budget
        if beyond or recorded_holdout(run.read_json("dataset.json")) != self.data.held_out:  # or on other images
            trained = launch(dataclasses.replace(training, resume="never"), self.watch, self.board)
            run = RunDir(trained["run"])
        if run.read_json("dataset.json")["fingerprint"] != self.data.store.fingerprint:
            raise DatasetError(f"{self.data.folder.root} changed during the comparison", "run it again")
        restored = restore(run, self.plans[cell].device)
        data = self.thinned[cell.ir]
        samplers = make_samplers(restored.method, restored.device, sources=SourceImages.of(data))
        rows, shown = self.ruler.measure(samplers, data.train_rows)
        write_images(self.folder, cell, shown)
        assignment = describe_assignment(restored, data, samplers, progress=self.board)
        parameters = {name: count_parameters(m) for name, m in restored.method.named_children() if name != "G_ema"}
        kept = {name: trained[name] for name in ("run", "steps", "seconds", "images_per_second", "signum")}
        made = {"parameters": parameters, "rows": rows, "distribution": assignment and assignment["distribution"]}
        return {"status": "done", "reason": None, "exit_code": 0, **kept, **made}
