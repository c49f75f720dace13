"""Summary of a run on disk, as `train` returns it."""

from __future__ import annotations

from balancegan.core.documents import Json
from balancegan.core.errors import CheckpointError
from balancegan.runs.checkpoint import collapsed_classes, step_of
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import read_config


def summary(run: RunDir) -> Json:
    """Return the JSON document of `train`, from the newest checkpoint and metrics.jsonl; loads no network.

    Raises `CheckpointError` if the run's files are damaged.
    """
    _, cfg = read_config(run)
    newest = next(iter(run.checkpoint_dirs()), None)
    step = step_of(newest) if newest else 0
    rows = [row for row in run.read_metrics() if row.get("step", 0) <= step]
    try:
        images, seconds = (int(rows[-1]["images_seen"]), float(rows[-1]["seconds"])) if rows else (0, 0.0)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"the metrics.jsonl of {run.name} is damaged", "choose another run") from None
    return {
        "schema_version": 1,
        "run": str(run.path),
        "method": run.read_yaml()["method"],
        "device": run.read_json("env.json").get("device", ""),
        "steps": max(0, step - cfg.pretrain_steps),
        "images_seen": images,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "resumed_from": None,
        "finished": step >= cfg.pretrain_steps + cfg.steps,
        "collapsed": (collapsed_classes(newest) if newest else None) or [],
        "signum": None,
    }
