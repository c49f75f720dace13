"""Registration of commands: common options, one-line errors, signals."""

import contextlib
import errno
import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from balancegan.cli.options import AsJson, NoColor, Quiet, Verbose
from balancegan.core.errors import BalanceGANError, OutOfMemoryError, StoppedError, UsageError
from balancegan.core.signals import STOPPING

NO_MEMORY = ("out of memory", "close other programs, or use smaller images or batches")
UNFINISHED = "before finishing; incomplete files will not be used"
_USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]  # click's, which newer versions of Typer bring along
COMMON = {"as_json": AsJson, "quiet": Quiet, "verbose": Verbose, "no_color": NoColor}


def registrar(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that registers a function as a command of `app`.

    It adds the common options, gives the function a console, and turns errors into lines and exit codes.
    """

    def command(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            from balancegan.cli.console import Console

            console = Console(**{name: arguments.pop(name) for name in COMMON})
            try:
                with signals_stop(), failures_in_words():
                    function(console, **arguments)
                    _flush_stdout()
            except BalanceGANError as error:
                console.fail(error)
                _give_up_stdout()
                raise typer.Exit(error.exit_code) from None
            except KeyboardInterrupt as stop:
                signum = stop.signum if isinstance(stop, _StopNow) else signal.SIGINT
                stopped = StoppedError(UNFINISHED, "run the same command again", signum=signum)
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
        app.command(function.__name__.rstrip("_").replace("_", "-"), cls=_Command)(run)
        return run

    return command


def _flush_stdout() -> None:
    """Write what is buffered, so that a full disk behind it is an error of the command, not of Python's end."""
    from balancegan.core.files import disk_errors

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        with disk_errors("write the result to standard output", "another file"):
            raise


def _give_up_stdout() -> None:
    """Drop what standard output cannot take; the error was told on standard error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Command(TyperCommand):
    """A command whose usage errors are a JSON document too, where the caller asks for JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual; before a usage error goes on to Typer, print it as a document with --json."""
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except _USAGE_ERROR as error:
            error.message = error.message.replace("Value error, ", "")
            if as_json:
                from balancegan.cli.console import print_error

                print_error(UsageError(error.format_message(), f"see {ctx.command_path} --help"))
            raise


@contextlib.contextmanager
def failures_in_words() -> Iterator[None]:
    """Turn unexpected disk and memory failures, which are not our bugs, into one-line errors."""
    try:
        yield
    except BrokenPipeError:  # also an OSError: the reader of the output is gone
        raise
    except OSError as error:
        from balancegan.core.files import DISK_ERRNOS, disk_errors

        if error.errno == errno.ENOMEM:
            raise OutOfMemoryError(*NO_MEMORY) from None
        if error.errno not in DISK_ERRNOS:
            raise
        with disk_errors("continue"):
            raise
    except (MemoryError, RuntimeError) as error:
        from balancegan.compute.memory import out_of_memory

        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(*NO_MEMORY) from None


class _StopNow(KeyboardInterrupt):
    """A signal that ends the command; not an `Exception`, so no handler mistakes it for a damaged file."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """Make the first signal of `STOPPING` end the command cleanly: one line, its exit code, no incomplete files.

    A second one during the clean-up ends the process at once. Signals that are ignored (nohup, background jobs) or
    already handled stay that way.
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
