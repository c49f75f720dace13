"""Checkpoints during training: saving, resuming, and rolling back after non-finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from balancegan.compute.ranks import here
from balancegan.core.errors import CheckpointError, StoppedError, TrainingDivergedError
from balancegan.data.batches import Batches
from balancegan.methods.base import Method
from balancegan.runs.checkpoint import Checkpoint
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import load_weights
from balancegan.training.records import Records
from balancegan.training.state import State
from balancegan.training.steps import Steps

MAX_ROLLBACKS = 3


class Checkpointer:
    """Enters stages, saves and restores checkpoints; after each call, all ranks hold equal weights."""

    def __init__(self, method: Method, run: RunDir, state: State, steps: Steps, records: Records) -> None:
        self.method, self.run, self.state, self.steps, self.records = method, run, state, steps, records
        self.cfg, self.schedule, self.ranks = method.cfg, method.schedule, here()

    def resume_or_start(self) -> str | None:
        """Load the run's newest checkpoint and return its path, or begin the first stage, save and return None."""
        checkpoint = self.ranks.from_main(lambda: self.run.load_checkpoint(warn=self.records.say))
        if checkpoint is not None:
            self._restore(checkpoint)
            # The earlier process may have died between saving and pruning.
            self.ranks.from_main(lambda: self.run.prune(self.cfg.keep_checkpoints))
            if self.state.step < self.schedule.total:
                self.records.say(f"continuing {self.run.name} after step {self.state.step} of {self.schedule.total}")
            return str(checkpoint.path)
        self.ranks.equal(self.method.state_dict().values())
        self._begin(0)
        self.ranks.from_main(self.save)
        return None

    def enter(self, index: int) -> None:
        """Begin the stage with this index, after the previous stage has ended."""
        self._begin(index)
        if self.steps.stage is self.schedule.last:
            self.ranks.from_main(self.records.look)

    def _begin(self, index: int) -> None:
        stage = self.schedule.stages[index]
        if stage.begin:
            self.over_all_images(f"{stage.name} begin", stage.begin)
        if stage is self.schedule.last:
            self.method.update_ema(0.0)
        self.steps.enter(stage, 0.5**self.state.rollbacks)

    def over_all_images(self, name: str, work: Callable[[Batches], str | None]) -> None:
        """Run a stage's hook on rank 0, with as many images at once as fit, and broadcast the method's state.

        The hook's message, if it returns one, goes to the log.
        """
        batches = self.steps.batches

        def attempt(size: int) -> str | None:
            self.state.seed(name)
            batches.once_size = size
            return work(batches)

        message = self.ranks.from_main(lambda: self.steps.gradients.fitting(name).run(attempt))
        if message:
            self.records.say(message)
        self.ranks.equal(self.method.state_dict().values())

    def all_finite(self, saving: bool) -> bool:
        """Return whether all losses since the last tick were finite; if not, roll back first. Reads the device once.

        Before `saving`, it also checks the weights and the optimisers' moments, so that every checkpoint is usable.
        """
        if bool(self.steps.broken):
            self._roll_back("a loss is not finite")
            return False
        if saving and not self.steps.weights_finite():
            self._roll_back("a weight is not finite")
            return False
        return True

    def _roll_back(self, why: str) -> None:
        """Return to the last checkpoint with half the learning rate and new random numbers."""
        at = self.state.step
        checkpoint = self.ranks.from_main(lambda: self._to_return_to(why))
        self._restore(checkpoint, rollbacks=self.state.rollbacks + 1)
        rate = 0.5**self.state.rollbacks
        self.records.say(f"Step {at}: {why}; back to step {self.state.step} with learning rates times {rate:g}.")

    def _to_return_to(self, why: str) -> Checkpoint:
        """Return the last checkpoint, or raise `TrainingDivergedError` if no rollback is left."""
        at = self.state.step
        if self.state.rollbacks == MAX_ROLLBACKS:
            self.records.log(f"diverged at step {at}: {why}")
            first = self.steps.stage is not self.schedule.last
            rates = [n for n in vars(self.cfg) if n.startswith("lr") and ("pretrain" in n) == first]
            lower = " ".join(f"--set {name}={getattr(self.cfg, name) / 2:g}" for name in rates)
            raise TrainingDivergedError(
                f"training diverged at step {at}: {why}, even after halving the learning rate {MAX_ROLLBACKS} times",
                f"start again with lower learning rates ({lower}) or another seed",
            )
        checkpoint = self.run.load_checkpoint(warn=self.records.say)
        if checkpoint is None:
            raise CheckpointError(f"the checkpoints of {self.run.name} disappeared during training")
        return checkpoint

    def stop(self, signum: int) -> NoReturn:
        """Raise `StoppedError` after a signal; the state is already saved."""
        state = self.state
        self.records.log(f"stopped by signal {signum} at step {state.step}")
        counted = " (including pre-training)" if len(self.schedule.stages) > 1 else ""
        raise StoppedError(
            f"at step {state.step} of {self.schedule.total}{counted}; saved in {self.run.path}",
            "run the same command again to continue",
            signum=signum,
        )

    def save(self) -> None:
        """Write a checkpoint; at the end of a stage, it belongs to the next stage, before that stage's first step."""
        state, watch = self.state, self.records.diversity
        saved = {
            "step": state.step,
            "stage": self.steps.stage.name,
            "images_seen": state.images_seen,
            "seconds": state.seconds,
            "rollbacks": state.rollbacks,
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.steps.optimisers.items()},
            "parts": self.steps.gradients.sizes(),
            "best_diversity": dict(watch.best if watch else self.records.best_diversity),
            "collapsed": list(self.records.collapsed),
        }
        collapsed = watch.collapsed if watch and state.step > self.schedule.before_last else None
        self.run.save_checkpoint(
            state.step, self.method.state_dict(), saved, self.cfg.keep_checkpoints, collapsed=collapsed
        )

    def _restore(self, checkpoint: Checkpoint, rollbacks: int | None = None) -> None:
        self.ranks.everywhere(lambda: self._take_over(checkpoint, rollbacks))
        if self.state.step < self.schedule.total:
            self.method.on_resume()
        self.ranks.from_main(self._forget_later_steps)
        self.steps.forget_losses()
        self.records.forget()

    def _forget_later_steps(self) -> None:
        self.run.truncate_metrics(self.state.step)
        self.run.set_aside_after(self.state.step)

    def _take_over(self, checkpoint: Checkpoint, rollbacks: int | None) -> None:
        """Load weights, optimisers and counters from a checkpoint; `rollbacks`, if given, replaces its own count."""
        state, saved = self.state, checkpoint.state
        try:
            load_weights(self.method, checkpoint)
            state.step, state.images_seen, state.seconds = saved["step"], saved["images_seen"], saved["seconds"]
            state.rollbacks = saved["rollbacks"] if rollbacks is None else rollbacks
            if not self.cfg.micro_batch:
                self.steps.gradients.begin_with(saved.get("parts", {}))
            self.records.best_diversity = dict(saved.get("best_diversity", {}))
            self.records.collapsed = list(saved.get("collapsed", []))
            self.records.diversity = None
            stage = next(stage for stage in self.schedule.stages if stage.name == saved["stage"])
            self.steps.enter(stage, 0.5**state.rollbacks)
            self.steps.load(saved["optimisers"])
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise CheckpointError(f"checkpoint {checkpoint.path.name} does not fit this run ({error!r})") from None
