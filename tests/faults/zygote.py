"""Many short-lived processes for little: one process imports everything once, and forks a child for each trial.

`python zygote.py` is that process: it reads requests as lines of JSON and never starts a thread, so that a fork of it
is whole. `Zygote` and `Child` are what tests use. A child runs in a process group of its own, with its output in a
file, and can be told to kill itself just before its n-th file operation below some folders.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PATIENCE = 120.0  # seconds until a child counts as hanging
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events that change what is on disk -> which of their arguments are paths, and which the folders' descriptors.
CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.rename": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
}
VARYING = (
    (re.compile(r"\.tmp-[^/]+"), ".tmp-*"),
    (re.compile(r"\.partial-\d+"), ".partial-*"),
    (re.compile(r"\btmp-[0-9a-f]+-\d+-[0-9a-f]+"), "tmp-*"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "#"),
    (re.compile(r"\d+"), "#"),
)


class Operations:
    """Counts what changes files below `folders`; this process is killed just before operation `kill_at`.

    `kill_at` is a number through all of them (from 1), or a kind and which one of that kind, which stays true when
    threads take turns in another order.

    Every operation is appended to `record` as one line: its kind, and its path with numbers and random parts blanked.
    """

    def __init__(self, folders: Sequence[str], kill_at: int | tuple[str, int] | None, record: str | None) -> None:
        self.folders = [os.path.realpath(folder) for folder in folders]
        self.kill_at, self.counts, self.busy = kill_at, Counter[str](), False
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if record else None
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or not (event in CHANGES or (event == "open" and int(arguments[2] or 0) & WRITING)):
            return
        self.busy = True
        try:
            pairs = CHANGES.get(event, ((0, None),))
            paths = [self._path(arguments[i], arguments[d] if d is not None else None) for i, d in pairs]
            if any(path and self._below(path) for path in paths) and self.due(event, paths[-1]):
                kill_myself()
        finally:
            self.busy = False

    def due(self, event: str, path: str) -> bool:
        """Count an operation; whether it is the one to die at."""
        kind = f"{event} {self._blanked(path)}"
        self.counts[kind] += 1
        if self.record is not None:
            os.write(self.record, f"{kind}\n".encode(errors="replace"))
        return self.kill_at in (self.counts.total(), (kind, self.counts[kind]))

    def _path(self, path: Any, folder: Any) -> str:
        if isinstance(path, int):
            return _opened(path)
        text = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0 and not text.startswith("/"):
            text = f"{_opened(folder)}/{text}"
        return text if text.startswith("/") else f"{Path.cwd()}/{text}"

    def _below(self, path: str) -> bool:
        return any(path == folder or path.startswith(folder + "/") for folder in self.folders)

    def _blanked(self, path: str) -> str:
        short = next((path[len(f) :] for f in self.folders if path == f or path.startswith(f + "/")), path)
        for pattern, instead in VARYING:
            short = pattern.sub(instead, short)
        return short


def _opened(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return ""


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What a child does -------------------------------------------------------------------------------------------------


def run_train(**arguments: Any) -> Json:
    from helpers import train_tiny

    return train_tiny(Path(arguments.pop("data")), Path(arguments.pop("out")), **arguments)


def run_augment(run: str, out: str, **options: Any) -> Json:
    import torch

    from balancegan.commands.augment import AugmentOptions, augment
    from balancegan.runs.directory import RunDir

    settings = {"fill": "generated", "filter": "none", "report": False, **options}
    return augment(RunDir(run), AugmentOptions(out=Path(out), **settings), device=torch.device("cpu"))


def run_compare(data: str, out: str, **changes: Any) -> Json:
    from balancegan.commands.compare.request import CompareRequest
    from balancegan.commands.compare.run import compare

    usual: Json = {
        "methods": ("dcgan", "bagan-gp"),
        "seeds": (0,),
        "preset": "tiny",
        "flags": {"image_size": 16, "steps": 2, "pretrain_steps": 1, "batch_size": 4},
        "settings": {"width": "16", "latent_dim": "8", "n_critic": "1", "save_every": "1", "keep_checkpoints": "2"},
        "images": 10,
        "device": "cpu",
    }
    return compare(CompareRequest(data=Path(data), out=Path(out), **{**usual, **changes}))


def run_store(
    data: str, workers: int | None = None, processes: bool = False, chunk: int = 4, flag: str | None = None
) -> Json:
    """Build or open a store; `flag` appears when the first images are decoded."""
    from balancegan.data import build, pool
    from balancegan.data.decode import DecodeSettings
    from balancegan.data.scan import scan
    from balancegan.data.store import open_store

    build.chunk_size = lambda mean_bytes: chunk  # type: ignore[assignment]
    if processes:
        pool.PROCESSES_FROM = 1

    def progress(stage: str, done: int, total: int) -> None:
        if flag and stage == "decode" and done:
            Path(flag).touch()
            time.sleep(0.05)  # so that there is time to do something to it

    store = open_store(scan(data), DecodeSettings(image_size=16), workers=workers, progress=progress)
    return {"path": str(store.path), "fingerprint": store.fingerprint, "sum": int(store.images.sum())}


def run_cli(arguments: list[str]) -> None:
    from balancegan.cli.app import main

    sys.argv = ["balancegan", *arguments]
    main()


def run_create(out: str, times: int) -> Json:
    from balancegan.runs.directory import RunDir

    return {"names": [RunDir.create(Path(out), "m", "d").name for _ in range(times)]}


def run_reading(run: str, seconds: float) -> Json:
    """Restore a run and make a few images of it, over and over."""
    import torch

    from balancegan.runs.directory import RunDir
    from balancegan.runs.restore import restore
    from balancegan.sampling.samplers import Sampler

    end, steps = time.monotonic() + seconds, []
    while time.monotonic() < end:
        restored = restore(RunDir(run), torch.device("cpu"))
        if len(steps) % 4 == 0:
            Sampler(restored.method, restored.device).chunk(0, 0)
        RunDir(run).read_metrics()
        steps.append(restored.checkpoint.step)
    return {"steps": steps}


ACTIONS: dict[str, Callable[..., Json | None]] = {
    "train": run_train,
    "augment": run_augment,
    "compare": run_compare,
    "store": run_store,
    "cli": run_cli,
    "create": run_create,
    "reading": run_reading,
}


# How a child differs from the real thing ---------------------------------------------------------------------------


def quicken() -> None:
    """What costs seconds and plays no part here: drawings, well-trained classifiers, waiting for the disk."""
    from functools import partial

    from helpers import tiny_network

    import balancegan.commands.compare.run
    import balancegan.commands.train
    import balancegan.report.write
    from balancegan.core.files import write_atomic
    from balancegan.evaluation import assembly as judge
    from balancegan.evaluation import measures
    from balancegan.folder.quality_filter import QualityFilter
    from balancegan.metrics.classifier_features import OwnExtractor
    from balancegan.verdict.utility import measure_utility

    def plot(history: list[Json], path: Path) -> bool:
        write_atomic(path, json.dumps([row["step"] for row in history]))
        return True

    def page(document: Json, sheets: Any, out: Path) -> None:
        from balancegan.core.files import write_json
        from balancegan.report.comparison import cells_csv

        write_json(out / "compare.json", document)
        write_atomic(out / "compare.csv", cells_csv(document))
        write_atomic(out / "compare.html", "-")

    network = tiny_network()

    def measure(material: Any, **options: Any) -> Json:
        return measure_utility(material, **{**options, "seeds": 1, "network": network}, updates=2)

    balancegan.commands.train.plot_losses = plot
    balancegan.commands.compare.run.write_comparison = page  # type: ignore[assignment]
    judge.measure_utility = measure  # type: ignore[assignment]
    OwnExtractor.fit = partial(OwnExtractor.fit, steps=3)  # type: ignore[method-assign]
    QualityFilter.fit = partial(QualityFilter.fit, steps=3)  # type: ignore[method-assign]
    for name in ("mean_ssim", "within_ssim"):
        original = getattr(measures, name)
        setattr(measures, name, lambda *a, f=original, **options: f(*a, **{**options, "pairs": 20}))
    balancegan.report.write.write_figures = lambda *_: []
    os.fsync = lambda fd: None  # type: ignore[assignment]  # what the kernel has survives the death of a process


def tear(operations: Operations) -> None:
    """Writes that no audit event announces become operations; dying at one leaves the file written in part."""
    import safetensors.torch
    import torch

    from balancegan.runs.directory import RunDir

    def torn(owner: Any, name: str, path_of: Callable[..., Any]) -> None:
        write = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            path = path_of(*args, **kwargs)
            if not isinstance(path, str | Path) or not operations._below(str(path)):  # not in memory
                return write(*args, **kwargs)
            path = Path(path)
            if not operations.due("write", str(path)):
                return write(*args, **kwargs)
            operations.busy = True  # this one file's own operations do not count any more
            before = path.stat().st_size if path.exists() else 0
            write(*args, **kwargs)
            os.truncate(path, (before + path.stat().st_size) // 2)
            return kill_myself()

        setattr(owner, name, wrapped)

    torn(safetensors.torch, "save_file", lambda tensors, path, *_: path)
    torn(torch, "save", lambda state, path, *_: path)
    torn(Path, "write_bytes", lambda path, data: path)
    torn(RunDir, "append_metrics", lambda run, row: run.path / "metrics.jsonl")


SLOW = {
    "checkpoint": ("balancegan.runs.directory", "RunDir.save_checkpoint"),
    "image": ("balancegan.folder.export", "BalancedFolder.add_synthetic"),
    "measure": ("balancegan.commands.compare.measure", "Ruler.measure"),
    "decode": ("balancegan.data.build", "_decode_rows"),
}


def slow_down(what: str, flag: str, seconds: float) -> None:
    """Make one thing of `SLOW` take that much longer; `flag` appears when it happens. Not the checkpoint of step 0."""
    module, name = SLOW[what]
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def slowly(*args: Any, **kwargs: Any) -> Any:
        if what != "checkpoint" or args[1]:
            Path(flag).touch()
            time.sleep(seconds)
        return original(*args, **kwargs)

    setattr(owner, name, slowly)


# The zygote itself -------------------------------------------------------------------------------------------------


def serve() -> Json:
    """Answer requests until this process is a child with something to do; returns what that is."""
    answer(os.getpid())
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer(os.waitstatus_to_exitcode(status))
            continue
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            return request
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here too: the answer must not come before the group is there
        answer(pid)
    sys.exit()


def answer(value: int) -> None:
    print(value, flush=True)


def child(request: Json) -> None:
    """Do what is asked for; the result or the error becomes a file, and ends this process as it would end a command."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits it ignored
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["quick"]:
        quicken()
    if request["slow"]:
        slow_down(*request["slow"])
    if request["below"]:
        kill_at = request["kill_at"]
        kill_at = tuple(kill_at) if isinstance(kill_at, list) else kill_at
        tear(Operations(request["below"], kill_at, request["record"]))
    result: Json = {"document": None, "error": None}
    try:
        result["document"] = ACTIONS[request["action"]](**request["args"])
    except Exception as error:
        import traceback

        traceback.print_exc()
        result["error"] = f"{type(error).__name__}: {error}"
    Path(request["result"]).write_text(json.dumps(result, default=str))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if result["error"] else 0)  # taking the interpreter down would cost a second; `run_cli` does it


def warm_up() -> None:
    """Everything that is imported or computed at first use is there before the first fork."""
    import torch
    from helpers import train_tiny, write_images

    import balancegan.cli.app
    import balancegan.cli.console
    import balancegan.cli.results
    import balancegan.commands.augment
    import balancegan.commands.compare.run
    import balancegan.commands.train

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BALANCEGAN_CACHE_DIR"] = f"{folder}/cache"
        data = write_images(Path(folder) / "data", {"a": 9, "b": 5})
        plot, balancegan.commands.train.plot_losses = balancegan.commands.train.plot_losses, lambda *_: False
        document = train_tiny(data, Path(folder) / "runs", pretrain_steps=1, steps=1)
        balancegan.commands.train.plot_losses = plot
        run_augment(document["run"], f"{folder}/out")
    gc.collect()
    gc.freeze()  # collections in the children would touch, and so copy, every page


# What tests use ----------------------------------------------------------------------------------------------------


class Child:
    """A process that the zygote forked."""

    def __init__(self, zygote: Zygote, pid: int, request: Json) -> None:
        self.zygote, self.pid, self.request = zygote, pid, request
        self._fd = os.pidfd_open(pid)
        self.status: int | None = None

    def send(self, signum: int) -> None:
        """A signal for it alone."""
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """SIGKILL for it and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status, or minus the signal that ended it."""
        if self.status is None:
            hangs = not self.ended(seconds)
            if hangs:
                self.kill()
            self.status = self.zygote.ask({"wait": self.pid})
            os.close(self._fd)
            assert not hangs, f"hangs after {seconds:.0f} s:\n{self.output}"
        return self.status

    @property
    def output(self) -> str:
        """What it printed, to stdout and stderr."""
        return Path(self.request["log"]).read_text(errors="replace")

    def document(self) -> Json:
        """What it returned; an assertion when it did not end well."""
        status = self.wait()
        assert status == 0, f"ended with {status}:\n{self.output}"
        return json.loads(Path(self.request["result"]).read_text())["document"]


class Zygote:
    """Starts children; `folder` is for their output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=folder
        )
        self._answer()

    def ask(self, request: Json) -> int:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def start(
        self,
        action: str,
        *,
        below: Sequence[Path] = (),
        kill_at: int | tuple[str, int] | None = None,
        record: Path | None = None,
        quick: bool = True,
        slow: tuple[str, Path, float] | None = None,
        cwd: Path | None = None,
        **args: Any,
    ) -> Child:
        """Begin an action of `ACTIONS`; with `below`, count file operations in those folders and die at the n-th."""
        self.number += 1
        request = {
            "action": action,
            "args": {k: str(v) if isinstance(v, Path) else v for k, v in args.items()},
            "log": str(self.folder / f"{self.number}.log"),
            "result": str(self.folder / f"{self.number}.json"),
            "env": {name: os.environ[name] for name in ("BALANCEGAN_CACHE_DIR", "TORCH_HOME")},
            "cwd": str(cwd or self.folder),
            "below": [str(path) for path in below],
            "kill_at": kill_at,
            "record": str(record) if record else None,
            "quick": quick,
            "slow": [str(part) if isinstance(part, Path) else part for part in slow or ()],
        }
        return Child(self, self.ask(request), request)

    def run(self, action: str, **args: Any) -> Json:
        """Do an action to its end and return its document."""
        return self.start(action, **args).document()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


if __name__ == "__main__":
    warm_up()
    child(serve())
