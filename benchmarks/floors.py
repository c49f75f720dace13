"""What this machine can do at most, measured: the floors that the other scripts compare with.

    python benchmarks/floors.py [--device auto]

A step that needs F floating-point operations cannot take less than F over `matrix_rate`; work that reads and writes B
bytes of memory not less than B over `copy_rate`. Both are the best of several runs, since other programs only ever make
them slower.
"""

import argparse
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from balancegan.compute.device import resolve_device

RUNS = 7


def matrix_rate(device, dtype=torch.float32):
    """Floating-point operations a second of one large matrix product."""
    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / _best(lambda: a @ a, device)


def copy_rate(device):
    """Bytes a second of a copy that no cache holds, reads and writes counted."""
    a = torch.zeros(2**28 if device.type == "cpu" else 2**30, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() / _best(lambda: b.copy_(a), device)


def flops(work):
    """Floating-point operations of matrix products, convolutions and attention in `work()`, backward passes too.

    Element-wise work is not counted: where it takes most of the time, the floor is bandwidth's.
    """
    with _Counter() as counter:
        work()
    return counter.total


class _Counter(TorchDispatchMode):
    """torch's own counter follows modules by hooks that a gradient of a gradient does not allow."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        count = flop_registry.get(operation._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def wait(device):
    """Until the device has done everything that it was asked to."""
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
