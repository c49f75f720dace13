"""What resolution images lose in training, and which larger `--image-size` a machine could carry.

The rule: twice the side takes four times the time and memory, as it has four times the pixels. Estimated on one thread
(`train --dry-run`, `tiny`), 64 px took 2.6 (`sgbgan`), 2.7 (`edm`) and 3.8 (`damage-gan`) times as long as 32 px, and
128 px 3.6, 3.4 and 7.7 times as long as 64 px.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from balancegan.compute import machine
from balancegan.core.text import human_time

LOSS = 1.5
"""Images lose detail if their longer side is at least this many times the side they are trained at."""
AT_ONCE = 16
"""Images of a batch that memory must hold at once: where it holds fewer than all, training works in parts."""
MOST_HOURS = 12
"""The longest training in reasonable time."""
MOST_CORES = 8
"""More are assumed to gain nothing; networks of the preset `tiny` are small."""


@dataclass(frozen=True)
class Training:
    """What a training takes, and the sizes that its method offers."""

    size: int
    sizes: tuple[int, ...]
    batch: int
    gib: float  # with the whole batch at once
    hours: float | None  # None: unknown, as on a GPU: estimates measure a batch that is too small for it


ON_CPU, CORE_HOURS = Training(32, (16, 32, 64, 128, 256), 64, 0.15, None), 2.1
"""`sgbgan --preset tiny`: two cores made 174 of its 672,000 images a second (docs/commands.md)."""
ON_GPU = Training(64, (16, 32, 64, 128), 256, 40, None)
"""`edm`: the memory that `train --dry-run` estimates. GPUs differ tenfold in speed, so nothing is said of time: an H200
needs 0.7 hours at 64 px (benchmarks/edm.md), 2.7 at 128 px by the rule."""


def loses(side: int, size: int) -> bool:
    """Whether images whose longer side has this median lose detail at `size` pixels."""
    return side >= LOSS * size


def inspection_note(side: int) -> str | None:
    """Return what images lose in the training that `inspect` recommends, by documented figures: nothing is measured."""
    if not loses(side, ON_CPU.size):  # before torch is loaded, which takes a second
        return None
    device = next((gpu["device"] for gpu in (machine.gpus() if machine.has_gpu() else [])), "cpu")
    if device != "cpu":
        return resolution_note("`edm`", side, ON_GPU, device)
    hours = CORE_HOURS / min(machine.usable_cores(), MOST_CORES)
    return resolution_note("`--preset tiny`", side, replace(ON_CPU, hours=hours), device)


def resolution_note(who: str, side: int, training: Training, device: str) -> str | None:
    """Return what images of this median side lose, and the largest size that the device could carry; None if no loss.

    A size is carried if memory holds `AT_ONCE` images and the training ends in reasonable time. Both are scaled from
    what `training` takes (see the module). Sizes beyond the first that keeps all detail are not proposed.
    """
    if not loses(side, training.size):
        return None
    gib = machine.device_gib(device)
    factor = side / training.size
    lost = (
        f"images lose detail: their longer side has a median of {side:,} px, and {who} works at {training.size} px "
        f"({round(factor, 1 if factor < 10 else None):g} times less); "
    )
    refused = "the method offers no larger `--image-size`"
    for size in sorted((s for s in training.sizes if training.size < s < 2 * side), reverse=True):
        times = (size / training.size) ** 2
        need = training.gib * times * min(1, AT_ONCE / training.batch)
        hours = None if training.hours is None else training.hours * times
        takes = "" if hours is None else human_time(hours * 3600)
        if need > gib:
            refused = f"`--image-size {size}` needs about {need:.0f} GiB of memory, more than the {gib:.0f} GiB here"
        elif hours is not None and hours > MOST_HOURS:
            refused = f"`--image-size {size}` would take about {takes} here: use fewer `--steps` or a faster machine"
        else:
            about = f"about {times:.0f} times as long" + (f", {takes}" if takes else "")
            return f"{lost}this machine could carry `--image-size {size}` ({about})"
    return lost + refused
