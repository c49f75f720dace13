"""The measured peak rates of this machine, as floors for the other scripts.

    python benchmarks/floors.py [--device auto]

A step that needs F floating-point operations takes at least F / `matrix_rate`; work that reads and writes B bytes of
memory takes at least B / `copy_rate`. Both rates are the best of several runs, since other programs can only lower
them.
"""

import argparse
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from balancegan.compute.device import resolve_device

RUNS = 7


def matrix_rate(device, dtype=torch.float32):
    """Return the floating-point operations per second of one large matrix product."""
    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / _best(lambda: a @ a, device)


def copy_rate(device):
    """Return the bytes per second of a copy larger than the caches, counting reads and writes."""
    a = torch.zeros(2**28 if device.type == "cpu" else 2**30, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() / _best(lambda: b.copy_(a), device)


def flops(work):
    """Count the floating-point operations of products, convolutions and attention in `work()`, including backward.

    Element-wise work is not counted: if it dominates, memory bandwidth sets the floor.
    """
    with _Counter() as counter:
        work()
    return counter.total


class _Counter(TorchDispatchMode):
    """torch's counter without its module hooks, which fail under double backward."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        count = flop_registry.get(operation._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def wait(device):
    """Wait until the device has finished all queued work."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def _best(work, device):
    work()
    seconds = []
    for _ in range(RUNS):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    device = resolve_device(parser.parse_args().device)
    print(f"{device}: {torch.get_num_threads()} threads")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"  {dtype}: {matrix_rate(device, dtype) / 1e9:,.0f} GFLOP/s")
    print(f"  copy: {copy_rate(device) / 1e9:,.1f} GB/s")


if __name__ == "__main__":
    main()
