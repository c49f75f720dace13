"""balancegan: balance imbalanced image data sets with GANs, and see honestly what you got.

Every command is a function here, with its options as keywords. They are loaded when they are first used: `import
balancegan` takes milliseconds.
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
    """Load a function or a result type when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'balancegan' has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    """Everything public, loaded or not."""
    return sorted({*globals(), *__all__})
