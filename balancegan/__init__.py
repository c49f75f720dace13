"""balancegan: balance imbalanced image data sets with GANs, and measure whether it helps.

Every command is a function here, with its options as keyword arguments. Functions are loaded on first use, so
`import balancegan` takes milliseconds.
"""

from typing import TYPE_CHECKING, Any

from balancegan.core.errors import (
    BalanceGANError,
    CheckpointError,
    DatasetError,
    DiskError,
    OutOfMemoryError,
    QualityGateError,
    RankLostError,
    StoppedError,
    TrainingDivergedError,
    UsageError,
    WeightsMissingError,
)
from balancegan.core.version import __version__

if TYPE_CHECKING:
    from balancegan.commands.api.augment import augment
    from balancegan.commands.api.compare import compare
    from balancegan.commands.api.evaluate import evaluate
    from balancegan.commands.api.inspect import inspect
    from balancegan.commands.api.results import Balanced, Comparison, Evaluation, Inspection, Run, TrainingPlan
    from balancegan.commands.api.sample_weights import sample_weights
    from balancegan.commands.api.train import load_run, train

__all__ = [
    "BalanceGANError",
    "Balanced",
    "CheckpointError",
    "Comparison",
    "DatasetError",
    "DiskError",
    "Evaluation",
    "Inspection",
    "OutOfMemoryError",
    "QualityGateError",
    "RankLostError",
    "Run",
    "StoppedError",
    "TrainingDivergedError",
    "TrainingPlan",
    "UsageError",
    "WeightsMissingError",
    "__version__",
    "augment",
    "compare",
    "evaluate",
    "inspect",
    "load_run",
    "sample_weights",
    "train",
]

_API = "balancegan.commands.api"
_LAZY = {
    **{name: f"{_API}.{name}" for name in ("augment", "compare", "evaluate", "inspect", "sample_weights", "train")},
    "load_run": f"{_API}.train",
    **dict.fromkeys(("Balanced", "Comparison", "Evaluation", "Inspection", "Run", "TrainingPlan"), f"{_API}.results"),
}


def __getattr__(name: str) -> Any:
    """Load a function or a result type on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'balancegan' has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    """Return all public names, loaded or not."""
    return sorted({*globals(), *__all__})
