"""What the Python functions return: the commands' JSON documents, with their fields as attributes."""

from __future__ import annotations

import copy
import difflib
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from balancegan.core.documents import Json
from balancegan.core.options import Sampler, SamplingOptions, Start

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Result(Mapping[str, Any]):
    """A read-only JSON document: `found.classes[0].name` is `found["classes"][0]["name"]`.

    A field named like a mapping's method (`values`) is reached only by its key.
    """

    __slots__ = ("_document",)

    def __init__(self, document: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_document", document)

    def __getitem__(self, key: str) -> Any:
        return _wrapped(self._document[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._document:
            near = [] if name.startswith("_") else difflib.get_close_matches(name, self._document, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttributeError(f"{type(self).__name__} has no field {name!r}{hint}")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._document,)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._document]

    def __repr__(self) -> str:
        fields = (f"{key}={_brief(value)}" for key, value in self._document.items() if key != "schema_version")
        return f"{type(self).__name__}({', '.join(fields)})"

    def to_json(self) -> Json:
        """Return the document that the command prints with `--json`, as a new dict."""
        return copy.deepcopy(dict(self._document))


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Result(value)
    return [_wrapped(item) for item in value] if isinstance(value, list | tuple) else value


def _brief(value: Any) -> str:
    if isinstance(value, list | dict) and len(repr(value)) > 60:
        return f"<{len(value)} items>"
    return repr(value)


class ClassCount(Result):
    """A class and its count in `inspect`."""

    __slots__ = ()
    name: str
    count: int
    share: float
    to_add: int


class Inspection(Result):
    """What `inspect` found; the fields are those of `balancegan inspect --json`."""

    __slots__ = ()
    root: str
    split: str
    num_images: int
    num_classes: int
    imbalance_rate: float | None
    target_ir: float
    majority: Any
    minority: Any
    normalised_entropy: float | None
    classes: list[ClassCount]
    bad_files: list[Any]
    duplicates: list[Any]
    conflicts: list[Any]
    leaks: list[Any]
    siblings: list[Any]
    sibling_leaks: list[Any]
    near_duplicates: list[Any]
    of_one_group: list[str]
    group_by: str | None
    notes: list[str]
    advice: list[str]

    def _repr_html_(self) -> str:
        """Return a table of the classes and the advice, for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(c.name)}</td><td>{c.count:,}</td><td>{c.share:.1%}</td><td>{c.to_add:,}</td></tr>"
            for c in self.classes
        )
        advice = "".join(f"<li>{html.escape(line)}</li>" for line in self.advice)
        rate = "unknown" if self.imbalance_rate is None else f"{self.imbalance_rate:.4g}"
        return (
            f"<p>{self.num_images:,} images, {self.num_classes} classes, imbalance rate {rate}</p>"
            "<table><tr><th>class</th><th>images</th><th>share</th><th>to add</th></tr>"
            f"{rows}</table><ul>{advice}</ul>"
        )


class TrainingPlan(Result):
    """What `train(…, dry_run=True)` would do and what it would cost; the fields of `train --dry-run --json`."""

    __slots__ = ()
    method: str
    preset: str
    device: str
    config: Any
    parameters: Any
    images: int
    seconds_estimated: float
    memory_gib: float
    notes: list[str]


class Run(Result):
    """A training run; the fields are those of `balancegan train --json`."""

    __slots__ = ()
    run: str
    method: str
    device: str
    steps: int
    images_seen: int
    seconds: float
    images_per_second: float
    resumed_from: str | None
    finished: bool
    collapsed: list[str]

    @property
    def path(self) -> Path:
        """The run's folder."""
        return Path(self.run)

    @property
    def classes(self) -> list[str]:
        """The names of the classes that the run was trained on."""
        from balancegan.runs.directory import RunDir

        return [str(name) for name in RunDir(self.path).read_json("dataset.json")["trained_classes"]]

    @overload
    def sample(
        self,
        classes: str,
        n: int = 16,
        seeds: Sequence[int] | None = None,
        *,
        sampler: Sampler = "auto",
        from_: Start = "noise",
        strength: float | None = None,
        guidance: float | None = None,
        data: str | Path | None = None,
        checkpoint: str | int = "auto",
        device: str = "auto",
    ) -> NDArray[np.uint8]: ...
    @overload
    def sample(
        self,
        classes: list[str] | tuple[str, ...] | None = None,
        n: int = 16,
        seeds: Sequence[int] | None = None,
        *,
        sampler: Sampler = "auto",
        from_: Start = "noise",
        strength: float | None = None,
        guidance: float | None = None,
        data: str | Path | None = None,
        checkpoint: str | int = "auto",
        device: str = "auto",
    ) -> dict[str, NDArray[np.uint8]]: ...
    def sample(
        self,
        classes: str | Sequence[str] | None = None,
        n: int = 16,
        seeds: Sequence[int] | None = None,
        *,
        sampler: Sampler = "auto",
        from_: Start = "noise",
        strength: float | None = None,
        guidance: float | None = None,
        data: str | Path | None = None,
        checkpoint: str | int = "auto",
        device: str = "auto",
    ) -> Any:
        """Generate images. The same seeds and checkpoint give the same images, as in `augment`.

        Args:
            classes: one class name, several, or None for all classes.
            n: number of images per class.
            seeds: seeds of the images, instead of the first `n`.
            sampler: for unconditional methods: `rejection`, `langevin` or `auto`.
            from_: what images start from: `noise`, a real image of their `own` class, or of an `other` class (`edm`).
            strength: of the noise added to that image: 0 keeps it, 1 ignores it; by default 0.6.
            guidance: pushes images towards their class: above 1, more typical but less diverse (`edm`).
            data: where the real images to start from are now, if they have moved.
            checkpoint: `newest`, a step, or `auto`: the newest, or the last before classes collapsed.
            device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

        Returns:
            For one class name a uint8 array (n, H, W, C) with C = 1 (grey) or 3 (RGB), otherwise a dict of them by
            name. Unconditional methods may give fewer images; the logger `balancegan` says so.

        Raises:
            UsageError: the class, checkpoint or device does not exist.
            CheckpointError: the run has no checkpoint, or it is damaged.

        Example:
            >>> run = balancegan.load_run("runs/00003-sgbgan-cells")  # doctest: +SKIP
            >>> run.sample("ring", n=4).shape  # doctest: +SKIP
            (4, 64, 64, 3)
        """
        from balancegan.commands.api.progress_line import QuietBoard
        from balancegan.commands.sample import draw
        from balancegan.core.options import require_range
        from balancegan.runs.directory import RunDir

        require_range("n", n, 1)
        found = draw(
            RunDir(self.path),
            [classes] if isinstance(classes, str) else list(classes or ()),
            None if seeds is None else [int(seed) for seed in seeds],
            n,
            device=device,
            note=QuietBoard().note,
            sampler=sampler,
            checkpoint=str(checkpoint),
            sampling=SamplingOptions(from_, strength, guidance),
            data=None if data is None else Path(data),
        )
        arrays = {name: images.transpose(0, 2, 3, 1).copy() for name, (_, images) in found.items()}  # NCHW -> NHWC
        return arrays[classes] if isinstance(classes, str) else arrays


class Balanced(Result):
    """What `augment` wrote; the fields are those of `balancegan augment --json`."""

    __slots__ = ()
    out: str
    complete: bool
    imbalance_rate_before: float
    imbalance_rate_after: float
    share: float
    recipe: list[Any]
    in_words: list[str]
    generated_folder: str | None
    classes: list[Any]
    short: list[str]
    sampling: Any
    notes: list[str]
    report: str | None

    @property
    def path(self) -> Path:
        """The balanced folder."""
        return Path(self.out)


class Evaluation(Result):
    """What `evaluate` measured; the fields are those of `balancegan evaluate --json`."""

    __slots__ = ()
    out: str
    report: str
    extractor: str
    classes: list[Any]
    overall: Any
    utility: Any
    findings: list[Any]
    notes: list[str]


class Comparison(Result):
    """What `compare` found; the fields are those of `balancegan compare --json`."""

    __slots__ = ()
    out: str
    page: str
    methods: list[str]
    seeds: list[int]
    cells: list[Any]
    table: list[Any]
    findings: list[Any]
