"""The training loop for every method: it runs the method's stages and knows nothing else about the method.

The random generators are seeded by (seed, s) in step s, so a checkpoint needs only weights, optimiser states and the
step number for a run to continue exactly. Several ranks (`compute.ranks`) draw the same numbers and take their own rows
of the batch; their weights are equal at every step, and only rank 0 writes files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from balancegan.compute.ranks import here
from balancegan.core.signals import StopOnSignal
from balancegan.data.batches import Batches
from balancegan.methods.base import Method
from balancegan.runs.directory import RunDir
from balancegan.training.monitor import Monitor, TrainResult
from balancegan.training.records import Records
from balancegan.training.resume import Checkpointer
from balancegan.training.state import State
from balancegan.training.steps import Steps


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
    """Train `method` (already set up) from `run`'s newest checkpoint until all stages end or time runs out.

    `class_names` label the rows of the sample grids.

    Raises StoppedError after SIGINT/SIGTERM (state saved), TrainingDivergedError, OutOfMemoryError, DiskError,
    CheckpointError.
    """
    method = method.to(device).to(memory_format=torch.channels_last)
    cfg, schedule, ranks, state = method.cfg, method.schedule, here(), State(method.cfg.seed)
    records = Records(method, batches, run, state, device, monitor, class_names)
    steps = Steps(method, batches, device, note=records.say)
    checkpointer = Checkpointer(method, run, state, steps, records)
    with StopOnSignal() as stop:
        resumed = checkpointer.resume_or_start()
        started, seen_before = time.monotonic(), state.images_seen
        records.start_clock()
        if state.step >= schedule.total:
            monitor.note(f"{run.name} has already made its {cfg.steps} steps; nothing to do")
        while state.step < schedule.total:
            one_step(method, batches, state, steps)
            stage, (done, length) = steps.stage, schedule.within(state.step)
            monitor.step(stage.name, done, length)
            late = max_seconds is not None and time.monotonic() - started >= max_seconds
            # Read once: a signal that arrives while saving takes effect at the next step.
            signum, out_of_time = ranks.most(stop.signum or 0, int(late))
            ending = bool(signum or out_of_time) or state.step == schedule.total
            stage_over = done == length
            sampling = stage_over or ending or state.step % cfg.sample_every == 0
            saving = sampling or state.step % cfg.save_every == 0
            if saving or state.step % cfg.log_every == 0:
                if not checkpointer.all_finite(saving):
                    continue  # rolled back
                records.tick(stage, steps, looking=saving and stage is schedule.last)
                if (stage_over or ending) and stage.end:
                    checkpointer.over_all_images(f"{stage.name} end", stage.end)
                if stage is not schedule.last:
                    method.update_ema(0.0)  # averaging starts with the last stage; until then `G_ema` copies `G`
                    if stage_over:
                        checkpointer.enter(schedule.index(state.step))
                if sampling:
                    ranks.from_main(records.save_samples)
                if saving:
                    ranks.from_main(checkpointer.save)
            if signum and state.step < schedule.total:
                ranks.from_main(lambda: checkpointer.stop(signum))  # noqa: B023
            if out_of_time:
                records.log(f"time limit reached at step {state.step}")
                break
    images, seconds = state.images_seen - seen_before, time.monotonic() - started
    if not images:  # nothing left to do: report the run's overall speed
        images, seconds = state.images_seen, state.seconds
    return TrainResult(
        steps=max(0, state.step - schedule.before_last),
        images_seen=state.images_seen,
        seconds=round(state.seconds, 2),
        images_per_second=round(images / max(seconds, 1e-9), 2),
        resumed_from=resumed,
        finished=state.step >= schedule.total,
        collapsed=tuple(records.collapsed),
        signum=stop.signum,
    )


def one_step(method: Method, batches: Batches, state: State, steps: Steps) -> None:
    """Make one step of the current stage, update the weight average, and call `on_epoch` when an epoch ends."""
    cfg, schedule = method.cfg, method.schedule
    done = state.step - schedule.starts[schedule.index(state.step)]
    state.seed("step", state.step)
    with here().together(cfg.batch_size):
        drawn = steps.step(done)
    if steps.stage is schedule.last and cfg.ema_halflife > 0:
        # Limit the half-life to a twentieth of the images so far; otherwise the average would keep early weights.
        lookback = min(1000 * cfg.ema_halflife, 0.05 * (done + 1) * cfg.batch_size)
        method.update_ema(0.5 ** (cfg.batch_size / lookback))
    before, state.images_seen = state.images_seen, state.images_seen + drawn * cfg.batch_size
    state.step += 1
    if state.images_seen // batches.num_images > before // batches.num_images:
        method.on_epoch()
