"""Every check that needs a GPU, most valuable first, in slices of under ten minutes.

    python benchmarks/on_gpu.py --out DIR [--data FOLDER] [--data-tables FOLDER] [--data-cifar FOLDER]
                                [--only NAME[,NAME]] [--minutes 8] [--device cpu --miniature]

Slices:
  correct       one step on CUDA against the CPU (float32 and bf16), resume on CUDA, equal bytes from equal seeds
  edm           a diffusion model trained for --minutes, by default 2.5, on CIFAR-10 (--data-cifar) at 32 px, made
                imbalanced (exponential, 100) if its classes are equally large: images/s of a step eager and as a CUDA
                graph, KID and FID, and wide residual networks trained with and without its images; five minutes in all
  edm-cells     the same on FOLDER, cells with train and test images, at 64 px
  methods       every method: a few steps of each stage in bf16 with finite losses, images/s with the `paper` preset
  memory        a device that really runs out: gradients in parts against the whole, training and sampling under a limit
  throughput    images/s of `default` and `paper` at 64 px: float32 eager, bf16, bf16 without channels_last
  step          a step of SGBGAN (64 px) and Damage GAN (32 px): eager, as a CUDA graph, with a compiled generator;
                equal weights after three steps first, then images/s and the share of the measured bf16 matrix rate
  plain         every method's step over that of a plain loop with the same networks and losses, `default` preset
  running-time  a step of Damage GAN over one of ContraD with the `paper` preset, and the discriminators' part in it
  utility       the report's classifiers on CUDA against the CPU: balanced accuracy of every arm, and the times' ratio
  train         a real training of the `default` preset on FOLDER for --minutes, then augment with its report
  paper         the same with the `paper` preset
  tables        two cells of SGBGAN's Table 3 within --minutes: Fashion-MNIST at imbalance rate 100, bagan-gp and
                sgbgan; the folder with its train and test images is --data-tables, Inception's weights are --weights
  damage        two cells of Damage GAN's tables within --minutes: damage-gan and contrad on imbalanced CIFAR-10, after
                --steps of the preset's 200,000; the folder with its train and test images is --data-cifar
  ablation      few-shot KID on FOLDER of sgbgan and damage-gan, `paper` and `default`, a quarter of --minutes each

For one call of ten minutes: --only correct,step,paper --minutes 4 --data FASHION (6,540 images, imbalance rate 100).

Each slice writes DIR/<slice>.json with the commit, the settings and the hardware; `train` and `paper` also copy their
last sample grid; `tables` and `damage` leave their cells in DIR/results, for the `--merge` of `sgbgan_tables.py` and
`damage_gan_tables.py`, and unfinished trainings in --work, where the next call goes on. Without --data the embedded
digits are used at 16 px. A slice that fails is recorded as failed and the next one runs. `edm` and `edm-cells` record
every number as soon as it is there and leave a grid and an archive of generated images, and their runs in --work;
--miniature makes them small enough to be tried on a CPU.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import edm_on_gpu
import floors
import torch
from common import (
    COUNTS,
    Captured,
    Printer,
    Updates,
    batch,
    build,
    commit_here,
    random_images,
    read,
    seconds_of,
)

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.train import TrainRequest, launch
from balancegan.compute import device as devices
from balancegan.core.errors import OutOfMemoryError
from balancegan.core.files import write_json
from balancegan.data.decode import DecodeSettings
from balancegan.data.digits import write_digits
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.methods import METHODS, load_method
from balancegan.runs.directory import RunDir
from balancegan.sampling.samplers import Sampler
from balancegan.training.accumulation import Accumulator
from balancegan.verdict.material import Material, Pool
from balancegan.verdict.utility import measure_utility

CUDA = torch.device("cuda", 0)  # with a CPU in its place, methods, running-time, tables and damage can be tried


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


def rate(step, images, steps, warm_up=5):
    """Images per second of a step that sees so many."""
    for _ in range(warm_up):
        step()
    return images / seconds_of(step, steps, CUDA)


def time_steps(method, amp, steps=20):
    """Images per second of discriminator and generator updates."""
    return rate(Updates(method, CUDA, amp).step, method.cfg.batch_size * method.schedule.last.batches, steps)


def try_method(name, steps, flags):
    """One method from its first to its last stage: finite losses, finite images, and its speed."""
    method = build("paper", CUDA, name, **flags)
    updates, size = Updates(method, CUDA, amp=True), method.cfg.batch_size
    row = {"batch_size": size, "image_size": method.cfg.image_size, "images_per_second": {}}
    for stage in method.stages():
        if stage.begin:
            stage.begin(random_images(method, CUDA))
        speed = rate(partial(updates.step, stage.name), size * stage.batches, steps)
        row["images_per_second"][stage.name] = round(speed, 1)
    row["losses"] = {stage: float(loss) for stage, loss in updates.losses.items()}
    assert all(map(math.isfinite, row["losses"].values())), row
    c = torch.arange(len(COUNTS), device=CUDA)
    source = random_images(method, CUDA).draw()[0][:1].expand(len(c), -1, -1, -1) if method.uses_sources else None
    made = method.sample(method.latent(len(c), device=CUDA), c, source)
    assert made.isfinite().all() and made.shape == (len(c), 3, method.cfg.image_size, method.cfg.image_size)
    return row


def methods(args, steps=20, **flags):
    """All of them in one run, so that the speeds compare."""
    result = {}
    for name in METHODS:
        fields = load_method(name).Config.__dataclass_fields__
        result[name] = try_method(name, steps, {key: value for key, value in flags.items() if key in fields})
        print(name, json.dumps(result[name]), flush=True)
    return result


@contextlib.contextmanager
def memory_limit(size):
    """While inside, this process may use so many bytes of the device."""
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, size / total), CUDA)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)


def memory(args, preset="default", peak=torch.cuda.max_memory_allocated):
    """An update, a training and a sampler with half and with hardly any of the memory that they want."""
    method = build(preset, CUDA)
    x, c = batch(method.cfg.batch_size, method.cfg.image_size, CUDA)
    result = {"batch_size": len(x)}

    def update():
        torch.manual_seed(0)
        accumulate = Accumulator(method, CUDA, len(x))
        accumulate("d", method.d_loss, x, c, method.zero_grad)
        found = torch.cat([p.grad.flatten().float().cpu() for p in method.d_parameters()])
        return accumulate.fitting("d").size, found

    for module in method.modules():  # what looks at several images would differ in parts
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    idle = torch.cuda.memory_allocated() if CUDA.type == "cuda" else 0
    if CUDA.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    whole_size, whole = update()
    most = peak()
    result |= {"peak_mib": most / 2**20, "whole": whole_size}
    for name, share in (("half", 0.5), ("eighth", 0.125)):
        with memory_limit(idle + share * (most - idle)):
            size, parts = update()
        cosine = float(torch.nn.functional.cosine_similarity(parts, whole, dim=0))
        result[name] = {
            "images_at_once": size,
            "gradient_cosine": cosine,
            "norm_ratio": float(parts.norm() / whole.norm()),
        }
        assert cosine > 0.999, result
    assert result["eighth"]["images_at_once"] < len(x), result  # half may do: cuDNN takes slower ways that need less
    with memory_limit(idle):
        try:
            update()
            result["nothing"] = "not refused"
        except OutOfMemoryError as error:
            result["nothing"] = f"exit {error.exit_code}: {error.hint}"
    assert result["nothing"].startswith("exit 5"), result
    whole_chunk = Sampler(method, CUDA).chunk(1, 0)
    with memory_limit(idle + 0.125 * (most - idle)):
        in_parts = Sampler(method, CUDA).chunk(1, 0)
        flags = {"steps": 5, "pretrain_steps": 2, **({} if args.data else {"image_size": 16})}
        data = args.data or write_digits(args.out / "digits")
        request = TrainRequest(data, preset=preset, flags=flags, device=str(CUDA), out=args.out / "memory")
        trained = launch(request, Printer())
    result["sample_difference_levels"] = int(abs(whole_chunk.astype(int) - in_parts.astype(int)).max())
    result["trained_steps"] = trained["steps"]
    return result


def table_words(args, name):
    """Command-line words for a script of a paper's tables: where, what is kept of it, and what is recorded."""
    words = ["--seeds", 0, "--device", CUDA, "--results", args.out / "results"]
    words += ["--work", args.work or args.out / f"{name}-work"]
    for option in ("commit", "weights"):
        if value := getattr(args, option):
            words += [f"--{option}", value]
    return words


def tables(args):
    """Two cells of a published table, as far as the time goes."""
    import sgbgan_tables

    if not args.data_tables:
        return {"skipped": "no --data-tables"}
    words = ["fashion-mnist", args.data_tables, "--ir", 100, "--methods", "bagan-gp,sgbgan"]
    words += ["--max-minutes", args.minutes, *table_words(args, "tables")]
    status = sgbgan_tables.main([str(word) for word in words])
    made = read(sgbgan_tables.results_file(args.out / "results", "fashion-mnist", False))
    keep = ("method", "ir", "seed", "seconds", "images_per_second")
    values = [{**{k: item[k] for k in keep}, **{m: summary(item[m]) for m in ("fid", "ssim")}} for item in made]
    return {"status": status, "cells": values}


def damage(args):
    """Two cells of Damage GAN's tables, as far as the time goes."""
    import damage_gan_tables

    if not args.data_cifar:
        return {"skipped": "no --data-cifar"}
    words = [args.data_cifar, "--sets", "imbalanced", "--methods", "damage-gan,contrad"]
    words += ["--max-time", f"{60 * args.minutes:.1f}s", *table_words(args, "damage")]
    words += ["--steps", args.steps] if args.steps else []
    status = damage_gan_tables.main([str(word) for word in words])
    made = read(damage_gan_tables.results_file(args.out / "results", False))
    keep = ("set", "method", "seed", "steps", "seconds", "images_per_second", "fid")
    return {"status": status, "cells": [{k: item[k] for k in keep} for item in made]}


def running_time(args, preset="paper", **settings):
    """Damage GAN's step over ContraD's."""
    import running_time as times

    result = times.measure([*times.PAIR, *times.OTHERS], preset, CUDA, **settings)
    print(times.show(result), flush=True)
    return result


def compiled(updates):
    """A step with the generator compiled; the discriminator is not, since its penalty is differentiated twice."""
    updates.method.G.forward = torch.compile(updates.method.G.forward, mode="reduce-overhead")
    return updates.step


WAYS = {"eager": lambda updates: updates.step, "graph": Captured, "compiled generator": compiled}


def after_three(name, preset, make):
    """The weights after three more steps of fixed seeds, made in one of `WAYS`, and the step itself."""
    method = build(preset, CUDA, name)
    method.schedule.last.begin(random_images(method, CUDA))
    updates = Updates(method, CUDA, amp=CUDA.type == "cuda", capturable=CUDA.type == "cuda")
    start = {key: value.clone() for key, value in method.state_dict().items()}
    step = make(updates)
    for _ in range(3):
        step()
    with torch.no_grad():
        for key, value in method.state_dict().items():
            value.copy_(start[key])
        for optimiser in updates.optimisers.values():
            for state in optimiser.state.values():
                for value in state.values():
                    value.zero_()
    for seed in range(3):
        torch.manual_seed(seed)
        step()
    return torch.cat([p.detach().flatten().float().cpu() for p in method.parameters()]), step, updates


def step(args, preset="paper", methods=("sgbgan", "damage-gan"), ways=tuple(WAYS), times=20):
    """What a whole step gains from being captured or compiled, where that leaves its result as it is."""
    rates = {str(dtype): floors.matrix_rate(CUDA, dtype) for dtype in (torch.float32, torch.bfloat16)}
    result = {"matrix_flops_per_second": rates, "copy_bytes_per_second": floors.copy_rate(CUDA)}
    for name in methods:
        rows, reference = {}, None
        for way in ways:
            try:
                weights, run, updates = after_three(name, preset, WAYS[way])
            except Exception:
                rows[way] = {"failed": traceback.format_exc(limit=3)}
                continue
            cfg = updates.method.cfg
            reference = weights if reference is None else reference
            images = cfg.batch_size * cfg.n_critic
            row = {"weights_relative_error": float((weights - reference).norm() / reference.norm())}
            row["images_per_second"] = round(rate(run, images, times), 1)
            if way == "eager":
                flops = floors.flops(updates.step)
                row["gflop_per_step"] = round(flops / 1e9, 1)
            row["share_of_matrix_rate"] = round(
                flops * row["images_per_second"] / images / rates[str(torch.bfloat16)], 4
            )
            rows[way] = row
        result[name] = rows
        print(name, json.dumps(rows), flush=True)
    return result


def plain(args, preset="default", rounds=3, steps=5, **flags):
    """The loop on noise images beside a plain one that decodes them as it goes."""
    import training_step

    with tempfile.TemporaryDirectory() as folder:
        data = training_step.write_noise(Path(folder) / "noise")
        return training_step.measure(
            list(METHODS), preset, data, CUDA, rounds=rounds, steps=steps, workers=min(8, os.cpu_count() or 1), **flags
        )


def summary(measure):
    return {part: measure[part] for part in ("minority", "majority")}


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
        out=args.out / f"{preset}-balanced",
        counts={k: max(n, 1000) for k, n in counts.items()},
        real="symlink",
        weights=args.weights,
    )
    document = augment(run, options, device=CUDA)
    report = json.loads((options.out / "report.json").read_text())
    keep = ("name", "n_real", "n_fake", "fid", "fid_floor", "kid", "ssim", "precision", "recall", "copy_rate")
    classes = [{k: c.get(k) for k in keep} for c in report["classes"]]
    return {
        "train": trained,
        "augment": document["classes"],
        "report": classes,
        "overall": report["overall"],
        "utility": document["utility"],
        "extractor": report["extractor"]["name"],
    }


def utility(args, updates=200):
    """Digits of which every other one plays the synthetic image: what is measured is the devices, not the images."""
    folder = scan(args.data or write_digits(args.out / "digits"))
    store = open_store(folder, DecodeSettings(image_size=32))
    train, test = (store.indices(split) for split in ("train", "test"))
    parts = [Pool(store.images[rows], store.labels[rows]) for rows in (train[::2], train[1::2], test)]
    counts = [int((parts[1].labels == k).sum()) for k in range(len(store.classes))]
    material = Material(store.classes, parts[0], parts[1], parts[2] if len(test) else None, "test", counts)
    result = {}
    for device in (CUDA, torch.device("cpu")):
        began = time.perf_counter()
        found = measure_utility(material, device=device, updates=updates)
        arms = {arm["name"]: arm["balanced_accuracy"]["value"] for arm in found["arms"]}
        result[device.type] = {"seconds": round(time.perf_counter() - began, 1), "balanced_accuracy": arms}
    result["cpu_over_cuda"] = round(result["cpu"]["seconds"] / result[CUDA.type]["seconds"], 2)
    return result


def ablation(args):
    """`paper` and `default` as they are, without narrowing, each method and option for a quarter of --minutes."""
    import ablation as script

    if not args.data:
        raise SystemExit("ablation needs --data")
    words = ["--methods", "sgbgan,damage-gan", "--options", "paper,default", "--full", "--device", str(CUDA)]
    words += ["--save-every", "1000000", *(["--commit", args.commit] if args.commit else [])]
    words += ["--seconds", str(15 * args.minutes), "--work", str(args.work or args.out / "ablation-work")]
    words += ["--results", str(args.out / "results"), *(["--weights", str(args.weights)] if args.weights else [])]
    script.main([str(args.data), *words])
    rows = read(args.out / "results" / "ablation.json")
    return [{k: r[k] for k in ("method", "option", "few_shot_kid", "fid", "copy_rate", "steps")} for r in rows]


SLICES = {
    "correct": correct,
    "edm": edm_on_gpu.edm,
    "edm-cells": edm_on_gpu.edm_cells,
    "methods": methods,
    "memory": memory,
    "throughput": throughput,
    "step": step,
    "plain": plain,
    "running-time": running_time,
    "utility": utility,
    "train": lambda args: real_training(args, "default"),
    "paper": lambda args: real_training(args, "paper"),
    "tables": tables,
    "damage": damage,
    "ablation": ablation,
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--data-tables", type=Path, help="Fashion-MNIST with train and test folders, for `tables`")
    parser.add_argument("--data-cifar", type=Path, help="CIFAR-10 with train and test folders, for `edm` and `damage`")
    parser.add_argument("--weights", type=Path, help="Inception weights for the reports, `tables` and `damage`")
    parser.add_argument("--work", type=Path, help="keeps runs of `edm`, `tables`, `damage`; default OUT/<slice>-work")
    parser.add_argument("--steps", type=int, help="of the trainings of `damage`")
    parser.add_argument("--commit", help="what to record where this is no git checkout")
    parser.add_argument("--only", default="correct,memory,step,throughput,paper")
    parser.add_argument("--minutes", type=float, help="default 2.5 for `edm` and `edm-cells`, otherwise 5")
    parser.add_argument("--device", type=torch.device, default=CUDA, help="cpu is for --miniature")
    parser.add_argument("--miniature", action="store_true", help="of `edm` and `edm-cells`")
    args = parser.parse_args(argv)
    if args.device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; nothing was measured")
    args.out.mkdir(parents=True, exist_ok=True)
    devices.prepare(args.device)
    failed, minutes = False, args.minutes
    for name in args.only.split(","):
        start = time.monotonic()
        record = {"slice": name, "commit": args.commit or commit_here(Path(__file__).name)}
        record |= devices.describe(args.device)

        def keep(result, name=name, record=record, start=start):
            record |= {"result": result, "seconds": round(time.monotonic() - start, 1)}
            write_json(args.out / f"{name}.json", record)

        args.keep, args.minutes = keep, minutes or (2.5 if name.startswith("edm") else 5)
        try:
            keep(SLICES[name](args))
        except Exception:
            failed = True
            record["failed"] = traceback.format_exc()
            print(record["failed"], flush=True)
            keep(record.get("result"))
        print(json.dumps(record.get("result")), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
