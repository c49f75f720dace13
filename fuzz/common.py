"""What the fuzzers share: seeds written by themselves, limits, and one way to start.

A finding is any exception outside the documented family, an input that takes more than 5 seconds, or one that takes
more than 2 GB of memory. The package's own bytecode is instrumented, and that of the libraries that read for it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

HERE = Path(__file__).resolve().parent
for _place in (HERE.parent, HERE.parent / "tests"):
    sys.path.insert(0, str(_place))
os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    import atheris
except ImportError:  # pragma: no cover - the fuzzers are no part of the test run
    sys.exit("these fuzzers need atheris: pip install atheris")

SECONDS, MEGABYTES, LONGEST = 5, 2048, 8192
WATCHED = ["balancegan", "PIL", "tifffile", "yaml", "json", "csv", "safetensors"]


def instrumented() -> AbstractContextManager[object]:
    """Imports within are watched for new branches, if they are of `WATCHED`: all of torch would take minutes."""
    return atheris.instrument_imports(include=WATCHED, enable_loader_override=False)


def scratch(name: str) -> Path:
    """A folder for the inputs that are tried, in memory where the system has such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=f"balancegan-{name}-", dir=shared if shared.is_dir() else None))


def start(name: str, seeds: Iterable[bytes], one: Callable[[bytes], None]) -> None:
    """Write the seeds into a corpus of their own unless one was named, and run until told to stop.

    Arguments are libFuzzer's: a folder that keeps the corpus, `-max_total_time=240`, or a file to try again.
    """
    given = [a for a in sys.argv[1:] if not a.startswith("-")]
    arguments = [sys.argv[0], *(a for a in sys.argv[1:] if a.startswith("-"))]
    if all(Path(a).is_file() for a in given):
        corpus = given or [str(_corpus(scratch(f"{name}-corpus"), seeds))]
    else:
        corpus = [str(_corpus(Path(given[0]), seeds)), *given[1:]]
    defaults = {"-timeout": SECONDS, "-rss_limit_mb": MEGABYTES, "-max_len": LONGEST}
    set_ = {a.split("=")[0] for a in arguments}
    arguments += [f"{key}={value}" for key, value in defaults.items() if key not in set_]
    if "-artifact_prefix" not in set_:
        arguments.append(f"-artifact_prefix={scratch(f'{name}-findings')}/")
    atheris.Setup([*arguments, *corpus], one)
    atheris.Fuzz()


def _corpus(folder: Path, seeds: Iterable[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    return folder
