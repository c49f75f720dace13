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
    from balancegan.commands.api import augment, compare, evaluate, inspect, load_run, train
    from balancegan.commands.results import Balanced, Comparison, Evaluation, Inspection, Run, TrainingPlan

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
    "train",
]

_API, _RESULTS = "balancegan.commands.api", "balancegan.commands.results"
_LAZY = {
    **dict.fromkeys(("augment", "compare", "evaluate", "inspect", "load_run", "train"), _API),
    **dict.fromkeys(("Balanced", "Comparison", "Evaluation", "Inspection", "Run", "TrainingPlan"), _RESULTS),
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
