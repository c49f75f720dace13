"""Options that commands share, and what every command does around its own work."""

import contextlib
import errno
import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.errors import BalanceGANError, OutOfMemoryError, StoppedError
from balancegan.signals import STOPPING


def option(*flags: str, help: str, **more: Any) -> Any:
    """An option that `BALANCEGAN_<NAME>` sets too."""
    name = next(f for f in flags if f.startswith("--")).split("/")[0].removeprefix("--").replace("-", "_")
    return typer.Option(*flags, help=help, envvar=f"BALANCEGAN_{name.upper()}", show_envvar=False, **more)


Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with one sub-folder per class, or train/val/test of such.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show more.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR).")]
Seed = Annotated[int, option("--seed", help="Seed of all random choices.", min=0)]
Device = Annotated[str, option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Runs = Annotated[Path, option("--runs", help="Folder that holds the runs.")]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder, name or number; default: newest.")]
Preset = Annotated[
    str | None, option("--preset", help="default (for a GPU), paper, or tiny (for a CPU). [default: default]")
]
ImageSize = Annotated[
    int | None, option("--image-size", help="Side in pixels: 16, 32, 64, 128 or 256. [default: the preset's]")
]
BatchSize = Annotated[int | None, option("--batch-size", help="Images per update. [default: the preset's]")]
PretrainSteps = Annotated[
    int | None,
    option("--pretrain-steps", help="Autoencoder updates before the GAN's. [default: the preset's]"),
]
Holdout = Annotated[
    float | None,
    option(
        "--holdout", help="Share of each class set aside for the report where there is no val or test. [default: 0.2]"
    ),
]
GroupBy = Annotated[
    str | None,
    option("--group-by", help="Regex on paths; images with equal matches stay on one side, e.g. 'patient(\\d+)'."),
]
Fit = Annotated[str | None, option("--fit", help="How images become square: stretch, crop or pad. [default: stretch]")]
Sampler = Annotated[
    str,
    option(
        "--sampler",
        help="Where a generator knows no classes: rejection, langevin, or auto: langevin for what rejection lacks.",
    ),
]
Extractor = Annotated[
    str,
    option("--extractor", help="Features of the measures: inception, resnet50, own, or auto: inception if it is here."),
]
Weights = Annotated[Path | None, option("--weights", help="Weights file of the extractor.")]
Utility = Annotated[
    bool,
    typer.Option("--utility/--no-utility", help="Train classifiers to see whether the synthetic images help."),
]
FailUnder = Annotated[
    str | None,
    option(
        "--fail-under",
        help="Exit with 9 below this verdict: use, no-difference, or a least gain in points of balanced accuracy.",
    ),
]
Checkpoint = Annotated[
    str,
    option(
        "--checkpoint",
        help="newest, a step (pre-training counted), or auto: the newest, or the last one before classes collapsed.",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set lambda_gp=10.")]
Strict = Annotated[bool, option("--strict", help="Unreadable files are an error.")]
MOST_AUGMENT_SEED = 900_000_000_000
NO_MEMORY = ("memory ran out", "close other programs, or ask for smaller images or batches")
UNFINISHED = "before the end; nothing half-written is taken for whole"
COMMON = {"as_json": Json, "quiet": Quiet, "verbose": Verbose, "no_color": NoColor}


def registrar(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that makes a function a command of `app`.

    It adds the common options, gives the function a console, and turns errors into lines and exit codes.
    """

    def command(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            from balancegan.console import Console

            console = Console(**{name: arguments.pop(name) for name in COMMON})
            try:
                with signals_stop(), failures_in_words():
                    function(console, **arguments)
            except BalanceGANError as error:
                console.fail(error)
                raise typer.Exit(error.exit_code) from None
            except KeyboardInterrupt as stop:
                signum = stop.signum if isinstance(stop, _StopNow) else signal.SIGINT
                stopped = StoppedError(UNFINISHED, "the same command goes on", signum=signum)
                console.fail(stopped)
                raise typer.Exit(stopped.exit_code) from None
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(0) from None

        own = list(inspect.signature(function).parameters.values())[1:]
        common = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for name, kind in COMMON.items()
        ]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
        app.command(function.__name__.rstrip("_").replace("_", "-"))(run)
        return run

    return command


@contextlib.contextmanager
def failures_in_words() -> Iterator[None]:
    """The net under everything: a disk or a memory that fails where nobody expected it is no bug of ours."""
    try:
        yield
    except BrokenPipeError:  # an OSError that says that nobody reads the output any more
        raise
    except OSError as error:
        from balancegan.files import DISK_ERRNOS, disk_errors

        if error.errno == errno.ENOMEM:
            raise OutOfMemoryError(*NO_MEMORY) from None
        if error.errno not in DISK_ERRNOS:
            raise
        with disk_errors("go on"):
            raise
    except (MemoryError, RuntimeError) as error:
        from balancegan.device import out_of_memory

        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(*NO_MEMORY) from None


class _StopNow(KeyboardInterrupt):
    """A signal ends the command. No `Exception`, so that no handler of those takes it for a damaged file."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """The first of `STOPPING` ends a command with a line, its exit code, and nothing half-written.

    A second one, while that is being done, ends the process at once. Signals that are ignored (nohup, background
    jobs) or handled already stay so.
    """
    before: dict[int, Any] = {}

    def stop(signum: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise _StopNow(signum)

    if threading.current_thread() is threading.main_thread():
        for signum in STOPPING:
            if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
                before[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
