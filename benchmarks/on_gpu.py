"""Every check that needs a GPU, most valuable first, in slices of under ten minutes.

    python benchmarks/on_gpu.py --out DIR [--data FOLDER] [--only NAME[,NAME]] [--minutes 8]

Slices:
  correct     one step on CUDA against the CPU (float32 and bf16), resume on CUDA, equal bytes from equal seeds
  throughput  images/s of `default` and `paper` at 64 px: float32 eager, bf16, bf16 without channels_last
  train       a real training of the `default` preset on FOLDER for --minutes, then augment with its report
  paper       the same with the `paper` preset

Each slice writes DIR/<slice>.json with the commit, the settings and the hardware; `train` and `paper` also copy their
last sample grid. Without --data the embedded digits are used at 16 px. A slice that fails is recorded as failed and
the next one runs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch

from balancegan import device as devices
from balancegan.balance import AugmentOptions, augment
from balancegan.config import resolve
from balancegan.data.demo import write_digits
from balancegan.launch import TrainRequest, launch
from balancegan.methods.base import DataSpec
from balancegan.methods.sgbgan import SGBGAN, SGBGANConfig
from balancegan.rundir import RunDir
from balancegan.sample import Sampler

CUDA = torch.device("cuda", 0)


class Printer:
    """Prints a line every ten seconds."""

    last = 0.0

    def step(self, stage, step, total):
        pass

    def tick(self, row):
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(row["step"], row["stage"], f"{row['images_per_second']:.0f} img/s", flush=True)

    def note(self, text):
        print(text, flush=True)


def build(preset, device, **flags):
    torch.manual_seed(0)
    method = SGBGAN(resolve(SGBGANConfig, SGBGAN.presets[preset], flags=flags, env={}))
    size = method.cfg.image_size
    method.setup(DataSpec(5, 3, size, (5600, 197, 119, 58, 20)))
    return method.to(device).to(memory_format=torch.channels_last)


def batch(n, size, device):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, size, size, generator=generator) * 2 - 1
    c = torch.randint(5, (n,), generator=generator)
    return x.to(device).contiguous(memory_format=torch.channels_last), c.to(device)


def gradients(method, x, c, amp):
    """Loss and gradients of the pre-training stage, whose only randomness (reparameterisation) is made constant."""
    method.reparameterise = lambda mu, logvar: mu
    method.zero_grad()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
        total = torch.stack([t.float() for t in method.pretrain_loss(x, c).values()]).sum()
    total.backward()
    return float(total.detach()), torch.cat([p.grad.flatten().float().cpu() for p in method.pretrain_parameters()])


def correct(args):
    """CUDA against CPU, and sampling determinism on CUDA."""
    result = {}
    reference, g_cpu = gradients(build("tiny", "cpu"), *batch(16, 32, "cpu"), amp=False)
    for name, amp in (("float32", False), ("bf16", True)):
        value, g = gradients(build("tiny", CUDA), *batch(16, 32, CUDA), amp=amp)
        cosine = float(torch.nn.functional.cosine_similarity(g, g_cpu, dim=0))
        result[name] = {"loss_relative_error": abs(value / reference - 1), "gradient_cosine": cosine}
        assert abs(value / reference - 1) < (1e-3 if not amp else 2e-2) and cosine > (0.999 if not amp else 0.95), (
            result
        )
    method = build("tiny", CUDA)
    critic = method.d_loss(*batch(16, 32, CUDA))
    result["d_loss"] = {k: float(v.detach()) for k, v in critic.items()}
    sampler = Sampler(build("tiny", CUDA), CUDA)
    first, again = sampler.images(1, range(100)), sampler.images(1, [70])
    result["equal_bytes"] = bool((first[70] == again[0]).all())
    assert result["equal_bytes"]
    cpu = Sampler(build("tiny", "cpu"), torch.device("cpu")).images(1, range(8))
    result["cpu_difference_levels"] = int(abs(cpu.astype(int) - first[:8].astype(int)).max())
    data = write_digits(args.out / "digits")
    flags = {"image_size": 16, "width": 16, "pretrain_steps": 10, "steps": 10, "save_every": 5}
    straight = launch(TrainRequest(data, preset="tiny", flags=flags, device="cuda", out=args.out / "a"), Printer())
    launch(TrainRequest(data, preset="tiny", flags={**flags, "steps": 4}, device="cuda", out=args.out / "b"), Printer())
    resumed = launch(TrainRequest(data, preset="tiny", flags=flags, device="cuda", out=args.out / "b"), Printer())
    a, b = (RunDir(d["run"]).load_checkpoint().weights for d in (straight, resumed))
    result["resume_largest_weight_difference"] = max(float((a[k].float() - b[k].float()).abs().max()) for k in a)
    return result


def time_steps(method, amp, steps=20):
    """Images per second of discriminator and generator updates as the loop makes them."""
    cfg, x_c = method.cfg, batch(method.cfg.batch_size, method.cfg.image_size, CUDA)
    optimisers = {
        "d": torch.optim.Adam(method.d_parameters(), fused=True),
        "g": torch.optim.Adam(method.g_parameters(), fused=True),
    }

    def update(name, loss):
        with torch.autocast("cuda", torch.bfloat16, enabled=amp):
            total = torch.stack([t.float() for t in loss(*x_c).values()]).sum()
        optimisers[name].zero_grad(set_to_none=True)
        total.backward()
        optimisers[name].step()

    def step():
        for _ in range(cfg.n_critic):
            update("d", method.d_loss)
        update("g", method.g_loss)

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.monotonic()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return cfg.batch_size * cfg.n_critic * steps / (time.monotonic() - start)


def throughput(args):
    """Side by side in one run, so that the ratios mean something."""
    result = {}
    for preset in ("default", "paper"):
        rows = {
            "float32": time_steps(build(preset, CUDA), amp=False),
            "bf16": time_steps(build(preset, CUDA), amp=True),
            "bf16, contiguous": time_steps(build(preset, CUDA).to(memory_format=torch.contiguous_format), amp=True),
        }
        result[preset] = {k: round(v, 1) for k, v in rows.items()}
        print(preset, {k: f"{v:.0f} img/s ({v / rows['float32']:.2f}x)" for k, v in rows.items()}, flush=True)
    result["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return result


def real_training(args, preset):
    """Train for --minutes, fill every class up to 1,000, keep the last grid and the report's numbers."""
    flags = {} if args.data else {"image_size": 16}
    data = args.data or write_digits(args.out / "digits")
    request = TrainRequest(
        data, preset=preset, flags=flags, device="cuda", out=args.out / preset, max_seconds=60 * args.minutes
    )
    trained = launch(request, Printer())
    run = RunDir(trained["run"])
    shutil.copy(max(run.samples.glob("step-*.png")), args.out / f"{preset}.png")
    counts = run.read_json("dataset.json")["counts"]["train"]
    options = AugmentOptions(
        out=args.out / f"{preset}-balanced", counts={k: max(n, 1000) for k, n in counts.items()}, real="symlink"
    )
    document = augment(run, options, device=CUDA)
    report = json.loads((options.out / "report.json").read_text())
    keep = ("name", "n_real", "n_fake", "fid", "fid_floor", "ssim", "copy_rate")
    classes = [{k: c.get(k) for k in keep} for c in report["classes"]]
    return {
        "train": trained,
        "augment": document["classes"],
        "report": classes,
        "extractor": report["extractor"]["name"],
    }


SLICES = {
    "correct": correct,
    "throughput": throughput,
    "train": lambda args: real_training(args, "default"),
    "paper": lambda args: real_training(args, "paper"),
}


def commit():
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="correct,throughput,train")
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; nothing was measured")
    args.out.mkdir(parents=True, exist_ok=True)
    devices.prepare(CUDA)
    failed = False
    for name in args.only.split(","):
        start = time.monotonic()
        record = {"slice": name, "commit": commit(), **devices.describe(CUDA)}
        try:
            record["result"] = SLICES[name](args)
        except Exception:
            failed = True
            record["failed"] = traceback.format_exc()
            print(record["failed"], flush=True)
        record["seconds"] = round(time.monotonic() - start, 1)
        (args.out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(json.dumps(record.get("result")), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
