"""Frozen configurations and the one place where flags, environment, YAML and presets are merged.

Precedence: flag or `--set` > `BALANCEGAN_<FIELD>` > `--config FILE.yaml` > method preset > field default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml

from balancegan.core.errors import UsageError
from balancegan.core.options import AUTO, MAX_PIXELS, NONE, DataOptions, Fit, Layout, is_table
from balancegan.core.text import printable

ENV_PREFIX = "BALANCEGAN_"
SAMPLING = {"natural": 1.0, "sqrt": 0.5, "balanced": 0.0}
"""The probability of drawing a class is proportional to this power of its count."""
FITS = get_args(Fit)
LAYOUTS = get_args(Layout)
MOST_YAML = 64 * 1024
"""Most bytes of a configuration file, which has only a few lines."""
MOST_DEPTH = 20
LARGEST = 2**63
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


def class_weights(counts: Sequence[int], sampling: str) -> list[float]:
    """Return how often each class is drawn, not normalised; 0 for a class without images."""
    return [float(n) ** SAMPLING[sampling] if n else 0.0 for n in counts]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Training settings of every method; a method's own `Config` adds its fields.

    Fields are grouped by subject: data, budget, averaging and memory, records. `steps` counts the updates of a
    method's last stage, `pretrain_steps` those of the first if there are several.
    """

    RESUMABLE: ClassVar[frozenset[str]] = frozenset(
        {"steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "micro_batch"}
        | {"max_pixels", "decoding"}
    )
    """Fields that may differ between a run and the command that continues it. Images that are read differently change
    the data's fingerprint, which is compared, too."""

    seed: int = 0
    image_size: int = 64
    channels: int = 0  # 0: 1 when every image is grey, otherwise 3
    fit: str = "stretch"
    background: str = "#ffffff"  # transparent pixels are composited on this colour
    labels: str = ""  # table with the class of every image, see `DataOptions`, as of the next four
    layout: str = AUTO
    synthetic: bool = False
    page: int = 1
    max_pixels: int = MAX_PIXELS
    decoding: int = 1  # rules by which files become pixels; runs that record none are of the first
    holdout: float = 0.2
    holdout_seed: int = 0  # which images are held out; separate from `seed`, so that seeds compare
    group_by: str = AUTO  # images that stay together: siblings, none, a regex on paths, or a CSV file
    train_ir: float = 0.0  # thin the training split to this imbalance rate (SGBGAN's step scheme); 0: off
    sampling: str = "natural"  # draw classes in proportion to their count, its square root, or equally

    steps: int = 10_000
    pretrain_steps: int = 0
    batch_size: int = 128

    ema_halflife: float = 0.0  # thousands of images; 0 disables averaging
    amp: bool = True  # bf16 autocast on CUDA
    micro_batch: int = 0  # images per pass, with gradients accumulated; 0: as many as fit in memory

    log_every: int = 10
    sample_every: int = 250
    save_every: int = 250
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        self.require_least(
            1, "page", "max_pixels", "batch_size", "log_every", "sample_every", "save_every", "keep_checkpoints"
        )
        self.require_least(0, "steps", "pretrain_steps", "ema_halflife", "seed", "holdout_seed", "micro_batch")
        require(self.seed < 2**63, "seed", self.seed, "a value below 2**63")
        require(self.train_ir == 0 or self.train_ir >= 1, "train_ir", self.train_ir, "1 or more, or 0 for all images")
        require(0 <= self.holdout < 1, "holdout", self.holdout, "at least 0 and below 1")
        require(self.channels in (0, 1, 3), "channels", self.channels, "0 (auto), 1 or 3")
        self.require_choice("sampling", SAMPLING)
        self.require_choice("fit", FITS)
        self.require_choice("layout", LAYOUTS)
        require(re.fullmatch(r"#[0-9a-fA-F]{6}", self.background) is not None, "background", self.background, "#rrggbb")
        object.__setattr__(self, "group_by", self.group_by or NONE)  # earlier versions wrote an empty text
        require_group_rule(self.group_by)

    def require_choice(self, name: str, allowed: Iterable[object]) -> None:
        """Raise `UsageError` unless the field has one of the allowed values."""
        choices = tuple(allowed)
        require(getattr(self, name) in choices, name, getattr(self, name), " or ".join(map(str, choices)))

    def require_least(self, least: float, *names: str) -> None:
        """Raise `UsageError` for a field below `least`."""
        for name in names:
            require(getattr(self, name) >= least, name, getattr(self, name), f"{least:g} or more")

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background colour as three bytes."""
        r, g, b = bytes.fromhex(self.background[1:])
        return r, g, b

    @property
    def data_options(self) -> DataOptions:
        """How the data set's folder is read."""
        return DataOptions(self.labels, self.layout, self.synthetic, self.page, self.max_pixels, self.decoding)  # type: ignore[arg-type]

    def identity(self) -> dict[str, Any]:
        """The fields that must be equal for one run to continue another."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in self.RESUMABLE}


C = TypeVar("C", bound=MethodConfig)


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Raise `UsageError` for a field's value unless it is `ok`; `expected` completes "set <name> to …"."""
    if not ok:
        raise UsageError(f"{name} = {brief(value)} is invalid", f"set {name} to {expected}")


def require_group_rule(rule: str) -> None:
    """Raise `UsageError` for a value of `--group-by` that is neither a table nor a regular expression."""
    try:
        re.compile("" if is_table(rule) else rule)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"group_by: {brief(rule)} is not a regular expression ({error})"
        raise UsageError(what, r"write e.g. --group-by 'patient(\d+)'") from None


def brief(value: object) -> str:
    """Shorten an untrusted value for a message; values that print far larger than they are stored are not printed."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # a number with more digits than Python prints
        return f"a very large {type(value).__name__}"


def resolve(
    config: type[C],
    preset: Mapping[str, Any],
    *,
    file: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> C:
    """Merge the sources by precedence into a validated `config`; a flag of `None` was not given."""
    env = os.environ if env is None else env
    names = {f.name for f in dataclasses.fields(config)}
    merged: dict[str, Any] = dict(preset)
    merged.update(file or {})
    merged.update({n: env[ENV_PREFIX + n.upper()] for n in names if ENV_PREFIX + n.upper() in env})
    merged.update({k: v for k, v in (flags or {}).items() if v is not None})
    return config(**{name: coerce(config, name, value) for name, value in merged.items()})


def coerce(config: type[MethodConfig], name: str, value: Any) -> Any:
    """Convert `value` (text from a flag, or a YAML scalar) to the type of the field `name`."""
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    if name not in defaults:
        near = difflib.get_close_matches(name, defaults, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Known fields: " + ", ".join(sorted(defaults)) + "."
        raise UsageError(f"unknown configuration field {brief(name)}", hint)
    kind = type(defaults[name])
    if kind is bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        word = str(value).lower() if isinstance(value, bool | str) or value in (0, 1) else ""
        if word in words:
            return words[word]
    elif kind is int and isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = value if isinstance(value, int) else _integer(str(value).strip().replace("_", ""))
            if abs(number) < LARGEST:
                return number
            raise UsageError(f"{name} = {brief(value)} is invalid", f"set {name} to a value below 2**63")
    elif kind is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if math.isfinite(float(value)):
                return float(value)
    elif kind is str and isinstance(value, str | int | float | os.PathLike):
        return str(value)
    raise UsageError(f"{name} = {brief(value)} is not {'a' if kind is not int else 'an'} {kind.__name__}")


def _integer(text: str) -> int:
    """Parse `1000`, `1e3` or `2.0`; plain digits go through int(), which keeps all digits of a large seed."""
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    number = float(text)
    if number != int(number):
        raise ValueError
    return int(number)


def parse_set(pairs: list[str]) -> dict[str, str]:
    """Parse `["lambda_gp=5", …]` into a dict; the last of two equal keys wins."""
    result = {}
    for pair in pairs:
        key, eq, value = pair.partition("=")
        if not eq or not key.strip():
            raise UsageError(f"--set {brief(pair)} has no value", "write --set key=value, e.g. --set lambda_gp=5")
        result[key.strip()] = value.strip()
    return result


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML mapping of configuration fields (`method` and `preset` may be among them)."""
    where = printable(str(path))
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - reads no more than a configuration can hold
            data = parse_yaml(file.read(MOST_YAML + 1))
    except OSError as error:
        raise UsageError(f"cannot read {where}: {error.strerror}", "check the path") from None
    except ValueError as error:
        raise UsageError(f"{where} is not valid YAML: {error}", "see a run's config.yaml for an example") from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise UsageError(f"{where} must contain 'field: value' lines", "see a run's config.yaml for an example")
    return data


class _Loader(yaml.SafeLoader):
    """A loader that rejects aliases, which let a few lines exhaust any memory, and deep nesting.

    The library's run time grows with the square of the depth.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not allowed")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(raw: bytes) -> Any:
    """Parse plain YAML of at most `MOST_YAML` bytes; raises a ValueError with one line for anything else."""
    if len(raw) > MOST_YAML:
        raise ValueError(f"it has more than {MOST_YAML:,} bytes")
    try:
        return yaml.load(raw.decode("utf-8"), _Loader)
    except Exception as error:  # the YAML library raises all kinds of exceptions for bad values
        raise ValueError(printable((str(error).splitlines() or [type(error).__name__])[0])) from None


def dump_yaml(config: MethodConfig, **extra: object) -> str:
    """Return the configuration as YAML that `--config` can read; `extra` (method, preset) comes first."""
    return yaml.safe_dump({**extra, **dataclasses.asdict(config)}, sort_keys=False)
