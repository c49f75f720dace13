"""The only training loop: optional pre-training, then adversarial steps, for every method.

Random numbers of step s are drawn from generators seeded by (seed, s), so weights, optimiser states and the step
number are all that a checkpoint must hold for a run to continue exactly. Several ranks (`ranks.py`) draw the same
numbers and take their rows of the batch; they hold equal weights at every step, and rank 0 does all that is written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from balancegan.compute.pixels import to_uint8
from balancegan.compute.ranks import here
from balancegan.core.errors import CheckpointError, StoppedError, TrainingDivergedError
from balancegan.core.grid import save_grid
from balancegan.core.signals import StopOnSignal
from balancegan.data.batches import Batches
from balancegan.methods.base import Method
from balancegan.runs.checkpoint import Checkpoint
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import load_weights
from balancegan.sampling.preview import grid_images
from balancegan.training.accumulation import Accumulator
from balancegan.training.collapse import ALL, REAL_IMAGES, DiversityWatch, by_name
from balancegan.training.monitor import Monitor, TrainResult

MAX_ROLLBACKS = 3
PRETRAIN, ADVERSARIAL = "pretrain", "adversarial"


def train(
    method: Method,
    batches: Batches,
    run: RunDir,
    *,
    device: torch.device,
    monitor: Monitor,
    max_seconds: float | None = None,
    class_names: Sequence[str] | None = None,
) -> TrainResult:
    """Train `method` (already set up) until its `steps` are done or time is over; continues from `run`'s checkpoint.

    `class_names` label the rows of the sample grids.

    Raises StoppedError after SIGINT/SIGTERM (state saved), TrainingDivergedError, OutOfMemoryError, DiskError,
    CheckpointError.
    """
    loop = _Loop(method, batches, run, device, monitor, class_names)
    with StopOnSignal() as stop:
        return loop.run_until_done(stop, max_seconds)


class _Loop:
    """State of one call of `train`."""

    def __init__(
        self,
        method: Method,
        batches: Batches,
        run: RunDir,
        device: torch.device,
        monitor: Monitor,
        class_names: Sequence[str] | None,
    ) -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last)
        self.cfg, self.batches, self.run, self.device, self.monitor = method.cfg, batches, run, device, monitor
        self.class_names = class_names
        self.total = self.cfg.pretrain_steps + self.cfg.steps
        self.step, self.images_seen, self.seconds, self.rollbacks = 0, 0, 0.0, 0
        self.stage = ""
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.ranks = here()
        autocast = self.cfg.amp and device.type == "cuda"
        each = self.ranks.require_equal_parts(self.cfg.batch_size, method.least_part)
        size = min(self.cfg.micro_batch or each, each)
        self.gradients = Accumulator(self.method, device, size, autocast=autocast, note=self._say)
        self.diversity: DiversityWatch | None = None  # from the first look on
        self._best_diversity: dict[str, float] = {}  # in earlier calls
        self._collapsed: list[str] = []  # at the last look
        self._rows: list[np.ndarray] = []  # of the last look
        self.rates: dict[str, float] = {}
        self.sums: dict[str, Tensor] = {}
        self.broken = torch.zeros((), dtype=torch.bool, device=device)
        self.steps_since_tick, self._ticked_images = 0, 0
        self.clock = time.monotonic()

    # The loop itself -------------------------------------------------------------------------------------------------

    def run_until_done(self, stop: StopOnSignal, max_seconds: float | None) -> TrainResult:
        """Resume or start, step until told to stop, save, report."""
        resumed = self._resume_or_start()
        started, seen_before = time.monotonic(), self.images_seen
        self.clock = started
        if self.step >= self.total:
            self.monitor.note(f"{self.run.name} has made its {self.cfg.steps} steps already; nothing to do")
        while self.step < self.total:
            self._one_step()
            self.monitor.step(self.stage, *self._within_stage())
            late = max_seconds is not None and time.monotonic() - started >= max_seconds
            # Read once: a signal that comes while saving counts at the next step.
            signum, out_of_time = self.ranks.most(stop.signum or 0, int(late))
            ending = bool(signum or out_of_time) or self.step == self.total
            saving = ending or self._at_save()
            if saving or self.step % self.cfg.log_every == 0:
                if not self._tick(saving):
                    continue  # rolled back
                if self.stage == PRETRAIN:
                    self.method.update_ema(0.0)  # the average begins with the adversarial stage; until then it follows
                    if self.step == self.cfg.pretrain_steps:
                        self._enter(ADVERSARIAL)
                        self.ranks.from_main(self._look)
                if ending and self.step > self.cfg.pretrain_steps:
                    self._over_all_images("end", self.method.end_training)
                if self._at_sample() or ending or self.step == self.cfg.pretrain_steps:
                    self.ranks.from_main(self._save_samples)
                if saving:
                    self.ranks.from_main(self._save)
            if signum and self.step < self.total:
                self.ranks.from_main(lambda: self._stop(signum))  # noqa: B023
            if out_of_time:
                self._log(f"time is over at step {self.step}")
                break
        images, seconds = self.images_seen - seen_before, time.monotonic() - started
        if not images:  # nothing was left to do: the speed it had
            images, seconds = self.images_seen, self.seconds
        return TrainResult(
            steps=max(0, self.step - self.cfg.pretrain_steps),
            images_seen=self.images_seen,
            seconds=round(self.seconds, 2),
            images_per_second=round(images / max(seconds, 1e-9), 2),
            resumed_from=resumed,
            finished=self.step >= self.total,
            collapsed=tuple(self._collapsed),
            signum=stop.signum,
        )

    def _one_step(self) -> None:
        """One pre-training or one generator step with its discriminator steps."""
        self._seed("step", self.step)
        with self.ranks.together(self.cfg.batch_size):
            batches = self._pretrain() if self.stage == PRETRAIN else self._adversarial()
        before, self.images_seen = self.images_seen, self.images_seen + batches * self.cfg.batch_size
        self.step += 1
        self.steps_since_tick += 1
        epoch = self.batches.num_images
        if self.images_seen // epoch > before // epoch:
            self.method.on_epoch()

    def _pretrain(self) -> int:
        """One update of the stage before; the batches that it saw."""
        self._update("pretrain", self.method.pretrain_loss, *self.batches.draw())
        return 1

    def _adversarial(self) -> int:
        """`n_critic` discriminator updates and one of the generator; the batches that they saw."""
        for last in [False] * (self.cfg.n_critic - 1) + [True]:
            x, c = self.batches.draw()
            self.method.keep_fakes = last and self._shares_fakes(x)
            self._update("d", self.method.d_loss, x, c)
        if not self._shares_fakes(x):  # memory ran out just now
            self.method.forget_fakes()
        with frozen(self.method.d_parameters()):
            self._update("g", self.method.g_loss, x, c)
        self._update_ema()
        return self.cfg.n_critic

    def _shares_fakes(self, x: Tensor) -> bool:
        """Whether both updates of a step may see the same generated images: they are made in one piece then."""
        return self.cfg.shared_fakes and min(self.gradients.fitting(name).size for name in ("d", "g")) >= len(x)

    def _update(self, name: str, loss: Any, x: Tensor, c: Tensor) -> None:
        """One optimiser update; sums the terms for the log and notes non-finite losses, all on the device."""
        optimiser = self.optimisers[name]
        terms = self.gradients(name, loss, x, c, optimiser.zero_grad)
        terms = self.ranks.summed((p for group in optimiser.param_groups for p in group["params"]), terms)
        self._warm_up(name)
        optimiser.step()
        self.broken |= ~torch.isfinite(torch.stack(list(terms.values())).sum())
        share = 1 / self.cfg.n_critic if name == "d" else 1.0
        for term, value in terms.items():
            key = f"loss/{name}/{term}"
            value = share * value
            self.sums[key] = self.sums[key] + value if key in self.sums else value

    def _over_all_images(self, name: str, work: Callable[[Batches], None]) -> None:
        """Let the method go through the training images, as many at once as fit; all ranks have the result."""

        def attempt(size: int) -> None:
            self._seed(name)
            self.batches.once_size = size
            work(self.batches)

        self.ranks.from_main(lambda: self.gradients.fitting(name).run(attempt))
        self.ranks.equal(self.method.state_dict().values())

    def _warm_up(self, name: str) -> None:
        """Set the learning rate of an adversarial step; afterwards, and in pre-training, it is constant."""
        done = self.step - self.cfg.pretrain_steps
        if self.stage == ADVERSARIAL and done < self.cfg.warmup_steps:
            for group in self.optimisers[name].param_groups:
                group["lr"] = self.rates[name] * (done + 1) / self.cfg.warmup_steps

    def _update_ema(self) -> None:
        halflife = self.cfg.ema_halflife * 1000
        if halflife > 0:
            # The average may not look back further than a twentieth of the way, or it would keep the beginning.
            seen = (self.step + 1 - self.cfg.pretrain_steps) * self.cfg.batch_size
            self.method.update_ema(0.5 ** (self.cfg.batch_size / min(halflife, 0.05 * seen)))

    def _seed(self, *what: object) -> None:
        """Seed torch's generators from the seed, how often we rolled back, and `what`."""
        text = "/".join(map(str, (self.cfg.seed, self.rollbacks, *what)))
        torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()))

    # Stages ----------------------------------------------------------------------------------------------------------

    def _enter(self, stage: str, *, fresh: bool = True) -> None:
        """Build the stage's optimisers; `fresh` also does what belongs between the stages."""
        cfg, method = self.cfg, self.method
        self.stage = stage
        if stage == PRETRAIN:
            plan = {"pretrain": (method.pretrain_parameters(), cfg.lr_pretrain, cfg.pretrain_beta1)}
        else:
            if fresh:
                self._over_all_images("transfer", method.end_pretrain)
                method.update_ema(0.0)
            plan = {
                "d": (method.d_parameters(), cfg.lr_d, cfg.beta1),
                "g": (method.g_parameters(), cfg.lr_g, cfg.beta1),
            }
        self.rates = {name: lr * 0.5**self.rollbacks for name, (_, lr, _) in plan.items()}
        self.optimisers = {
            name: torch.optim.Adam(
                list(parameters),
                lr=self.rates[name],
                betas=(beta1, cfg.beta2),
                fused=self.device.type in ("cpu", "cuda"),
            )
            for name, (parameters, _, beta1) in plan.items()
        }

    def _resume_or_start(self) -> str | None:
        checkpoint = self.ranks.from_main(lambda: self.run.load_checkpoint(warn=self._say))
        if checkpoint is not None:
            self._restore(checkpoint)
            # The process may have died between saving and that.
            self.ranks.from_main(lambda: self.run.prune(self.cfg.keep_checkpoints))
            if self.step < self.total:
                self._say(f"continuing {self.run.name} after step {self.step} of {self.total}")
            return str(checkpoint.path)
        self.ranks.equal(self.method.state_dict().values())
        self._enter(PRETRAIN if self.cfg.pretrain_steps else ADVERSARIAL)
        self.ranks.from_main(self._save)
        return None

    # Ticks, samples, checkpoints -------------------------------------------------------------------------------------

    def _at_save(self) -> bool:
        return self.step % self.cfg.save_every == 0 or self.step == self.cfg.pretrain_steps or self._at_sample()

    def _at_sample(self) -> bool:
        return self.step % self.cfg.sample_every == 0

    def _tick(self, saving: bool) -> bool:
        """Read the device once: log the mean losses since the last tick, or roll back when any was not finite.

        Before `saving` weights and optimisers' moments are looked at too: a checkpoint must be fit to return to.
        """
        if bool(self.broken):
            self._roll_back("a loss is not finite")
            return False
        if saving and not self._weights_finite():
            self._roll_back("a weight is not finite")
            return False
        self.ranks.from_main(lambda: self._report(saving))
        self._reset_tick()
        return True

    def _report(self, saving: bool) -> None:
        """Write and show what happened since the last tick."""
        self._rows = []
        if saving and self.stage == ADVERSARIAL:
            self._look()
        now = time.monotonic()
        elapsed, self.clock = now - self.clock, now
        self.seconds += elapsed
        n = max(self.steps_since_tick, 1)
        row = {
            "step": self.step,
            "stage": self.stage,
            "images_seen": self.images_seen,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(n / max(elapsed, 1e-9), 3),
            "images_per_second": round((self.images_seen - self._ticked_images) / max(elapsed, 1e-9), 2),
            **{key: float(value) / n for key, value in self.sums.items()},
        }
        if saving and self.diversity and self.diversity.lowest is not None:
            row["diversity"] = round(self.diversity.lowest, 4)
        self.run.append_metrics(row)
        stage_step, stage_total = self._within_stage()
        self.monitor.tick({**row, "stage_step": stage_step, "stage_total": stage_total})

    def _within_stage(self) -> tuple[int, int]:
        """Steps made and to be made in this stage."""
        if self.stage == PRETRAIN:
            return self.step, self.cfg.pretrain_steps
        return self.step - self.cfg.pretrain_steps, self.cfg.steps

    def _reset_tick(self) -> None:
        self.sums, self.steps_since_tick, self._ticked_images = {}, 0, self.images_seen

    def _weights_finite(self) -> bool:
        moments = [v for o in self.optimisers.values() for state in o.state.values() for v in state.values()]
        tensors = [t for t in (*self.method.state_dict().values(), *moments) if isinstance(t, Tensor)]
        floats = [t for t in tensors if t.is_floating_point() and t.device.type == self.device.type]
        return bool(torch.stack([t.isfinite().all() for t in floats]).all())

    def _roll_back(self, why: str) -> None:
        """Return to the last checkpoint with half the learning rate and other random numbers, at most three times."""
        at = self.step
        checkpoint = self.ranks.from_main(lambda: self._to_return_to(why))
        self._restore(checkpoint, rollbacks=self.rollbacks + 1)
        self._say(f"Step {at}: {why}; back to step {self.step} with learning rates times {0.5**self.rollbacks:g}.")

    def _to_return_to(self, why: str) -> Checkpoint:
        """The last checkpoint, if it may be tried again."""
        if self.rollbacks == MAX_ROLLBACKS:
            self._log(f"diverged at step {self.step}: {why}")
            raise TrainingDivergedError(
                f"training diverged at step {self.step}: {why}, also after {MAX_ROLLBACKS} halvings of the learning "
                "rate",
                "start again with lower rates (--set lr_g=1e-4 --set lr_d=1e-4) or another seed",
            )
        checkpoint = self.run.load_checkpoint(warn=self._say)
        if checkpoint is None:
            raise CheckpointError(f"the checkpoints of {self.run.name} vanished while it was training")
        return checkpoint

    def _stop(self, signum: int) -> NoReturn:
        """After a signal, with everything saved."""
        self._log(f"stopped by signal {signum} at step {self.step}")
        raise StoppedError(
            f"at step {self.step} of {self.total} (pre-training counted); saved in {self.run.path}",
            "the same command goes on from there",
            signum=signum,
        )

    def _look(self) -> None:
        """Generate a few images of every class and see whether any class has collapsed."""
        names = self._class_names()
        self._rows = grid_images(self.method, self.device)
        if self.diversity is None:
            self.diversity = DiversityWatch(self._real_images(names), self._best_diversity, self._collapsed)
        watch = self.diversity
        for name in watch.look(by_name(names, self._rows, self.method.conditional)):
            now, best, healthy = watch.shares[name], watch.best[name], self.run.healthy_step()
            kept = "No checkpoint is from before it." if healthy is None else f"The one of step {healthy} is kept."
            self._say(
                f"Step {self.step}: the images of {name} have become alike (mode collapse): their diversity is "
                f"{now:.0%} of real images', it was {best:.0%}. {kept}"
            )
        self._collapsed = watch.collapsed

    def _class_names(self) -> Sequence[str]:
        return self.class_names or [str(label) for label in range(self.method.data.num_classes)]

    def _real_images(self, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Real images as the generator should vary: of every class, or as they are drawn."""
        if self.method.conditional:
            for label, name in enumerate(names):
                yield name, self.batches.of_class(label, REAL_IMAGES)
        else:
            self._seed("diversity")
            yield ALL, to_uint8(self.batches.draw()[0]).cpu().numpy()

    def _save_samples(self) -> None:
        rows = self._rows or grid_images(self.method, self.device)
        # Without labels where the rows are not classes.
        names = self.class_names if self.method.conditional else None
        save_grid(rows, self.run.samples / f"step-{self.step:06d}.png", names)

    def _save(self) -> None:
        watch = self.diversity
        state = {
            "step": self.step,
            "stage": self.stage,
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "parts": self.gradients.sizes(),
            "best_diversity": dict(watch.best) if watch else {},
            "collapsed": list(self._collapsed),
        }
        collapsed = watch.collapsed if watch and self.step > self.cfg.pretrain_steps else None
        self.run.save_checkpoint(
            self.step, self.method.state_dict(), state, self.cfg.keep_checkpoints, collapsed=collapsed
        )

    def _restore(self, checkpoint: Checkpoint, rollbacks: int | None = None) -> None:
        self.ranks.everywhere(lambda: self._take_over(checkpoint, rollbacks))
        if self.step < self.total:
            self.method.on_resume()
        self.ranks.from_main(self._forget_later_steps)
        self.broken.zero_()
        self._reset_tick()

    def _forget_later_steps(self) -> None:
        self.run.truncate_metrics(self.step)
        self.run.set_aside_after(self.step)

    def _take_over(self, checkpoint: Checkpoint, rollbacks: int | None) -> None:
        """Weights, optimisers and counters from a checkpoint; `rollbacks` in place of its own."""
        state = checkpoint.state
        try:
            load_weights(self.method, checkpoint)
            self.step, self.images_seen, self.seconds = state["step"], state["images_seen"], state["seconds"]
            self.rollbacks = state["rollbacks"] if rollbacks is None else rollbacks
            if not self.cfg.micro_batch:
                self.gradients.begin_with(state.get("parts", {}))
            self._best_diversity = dict(state.get("best_diversity", {}))
            self._collapsed = list(state.get("collapsed", []))
            self.diversity = None
            self._enter(state["stage"], fresh=False)
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
                for group in optimiser.param_groups:
                    group["lr"] = self.rates[name]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"checkpoint {checkpoint.path.name} does not fit this run ({error!r})") from None

    def _say(self, text: str) -> None:
        self._log(text)
        self.monitor.note(text)

    def _log(self, text: str) -> None:
        if self.ranks.is_main:
            self.run.log(text)


class frozen:  # noqa: N801 (reads as a verb at its place of use)
    """While inside, parameters take no gradient: the other network's update need not compute theirs."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)
