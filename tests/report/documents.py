"""Whole report documents for tests of the page and the figures: every key of the schema has a value or null."""

import numpy as np

from balancegan.evaluation.document import ReportInput
from balancegan.evaluation.run_pictures import Extras
from balancegan.verdict.arms import ARMS
from balancegan.verdict.material import ClassImages
from balancegan.verdict.rule import RULE

VERDICTS = ("use", "no difference", "do not use", None)


def images(n, side=16, seed=0):
    """uint8 (n, 3, side, side): smooth random images."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    return coarse.repeat(side // 4, axis=2).repeat(side // 4, axis=3)


def spread(value, half=0.06):
    return {"value": value, "low": value - half, "high": value + half}


def make_row(k, name, n, classes):
    """The measures of one class; the last one of several is too small for most."""
    small = 1 < classes == k + 1
    why = "Too few images: 6 real, 30 synthetic."
    big = {
        "fid": 21.0 + 9 * k, "fid_floor": 8.0 + k, "fid_floor_size": 120, "kid": 0.0123 * (k + 1), "kid_std": 0.0011,
        "kid_size": 50, "kid_floor": -0.0004, "kid_floor_std": 0.0009, "precision": 0.81, "recall": 0.42,
        "density": 1.07, "coverage": 0.63, "prdc_k": 5,
    }  # fmt: skip
    nearest = {"n": 30, "min": 0.01, "p5": 0.02, "median": 0.11, "mean": 0.12}
    return {
        "name": name, "real": n, "synthetic": 30, "generated": 12, "transformed": 18, "requested": 30,
        "rejected": 3, "n_train": 40, "n_holdout": 12,
        "n_real": 6 if small else 12, "n_fake": 30, "reference": "train" if small else "holdout",
        "reasons": dict.fromkeys(("fid", "fid_floor", "kid", "prdc"), why) if small else {},
        **(dict.fromkeys(big) if small else big), "ssim": 0.31, "ssim_pairs": 100, "ssim_within_real": 0.3,
        "ssim_within_fake": 0.45, "spread_real": 0.3, "spread_fake": 0.21, "copy_rate": 0.25 * (k == 1),
        "copy_rate_holdout": 0.0, "near_rate": 0.02 + 0.25 * (k == 1), "near_rate_real": 0.01,
        "near_rate_real_of": "train" if small else "holdout", "copy_threshold": 0.03, "nearest_fake": nearest,
        "nearest_train": nearest, "nearest_holdout": None if small else nearest,
        "just_above": 3, "just_above_rate_real": 0.02, "just_above_unusual": k == 1,
        "swd": None if small else {"2-4": 0.2 + 0.1 * k, "4-8": 0.05, "8+": 0.04}, "swd_n": 12,
        "swd_floor": None if small else {"2-4": 0.04, "4-8": 0.05, "8+": 0.06}, "swd_floor_of": "train",
        "detail_energy": None if small else {"2-4": 0.3, "4-8": 0.8, "8+": 1.1},
        "detail": None if small else {"lacking": ["2-4"], "noisy": []}, "recognised": 0.29, "recognised_n": 30,
        "recognised_real": None if small else 0.97, "recognised_real_n": 12, "recognised_less": not small,
        "taken_for": {"name": name, "share": 0.5},
        "pairs": [{"fake": i, "train": i, "distance": 0.01 * i, "chosen": "closest" if i < 4 else "random"}
                  for i in range(8)],
    }  # fmt: skip


HEADLINES = {
    "use": "A classifier trained with the synthetic images is better: ",
    "no difference": "No clear difference between training with and without the synthetic images: ",
    "do not use": "A classifier trained with the synthetic images is worse: ",
    None: "Too few test images to tell whether the synthetic images help: ",
}


def make_utility(names, verdict="use"):
    """An experiment in which the synthetic images help the rare classes."""
    rng = np.random.default_rng(0)
    recalls = {arm.name: {n: float(rng.uniform(0.4, 0.9)) for n in names} for arm in ARMS}
    arms = []
    for arm in ARMS:
        matrix = rng.dirichlet(np.ones(len(names)), len(names)) * 0.4 + 0.6 * np.eye(len(names))
        arms.append({
            "name": arm.name, "title": arm.name[0].upper() + arm.name[1:], "description": arm.description,
            "balanced_accuracy": spread(0.7, 0.03), "macro_f1": spread(0.68, 0.03),
            "recall": {n: spread(v) for n, v in recalls[arm.name].items()},
            "confusion": matrix.tolist(), "train_images": dict.fromkeys(names, 100),
            "log_loss": float(rng.uniform(0.5, 1.2)), "calibration_error": 0.083, "training_accuracy": 0.97,
            "auroc": dict.fromkeys(names, 0.953), "auprc": dict.fromkeys(names, 0.712),
        })  # fmt: skip
    trials = [("oversampling", "no augmentation", 0.92), ("oversampling", "crops", 0.71), ("Mixup", "crops", 0.8)]
    delta = {n: spread(recalls["real + synthetic"][n] - recalls["oversampling"][n]) for n in names}
    beyond = {n: spread(recalls["real + synthetic"][n] - recalls["real + transformed"][n]) for n in names}
    words = ("use", "no difference", "do not use")
    return {
        "measured": True, "verdict": verdict, "headline": HEADLINES[verdict] + "+4.1 points of balanced accuracy.",
        "rule": RULE, "note": "These results are for a small classifier.",
        "warnings": ["The smallest class has 7 test images."], "baseline": "oversampling",
        "candidate": "real + synthetic",
        "test": {"kind": "test", "n": dict.fromkeys(names, 9), "total": 9 * len(names)},
        "seeds": 3, "updates": 1500, "batch_size": 128, "network": "WRN-16-1", "image_size": 32, "pools": 3,
        "augmentation": "flips and crops", "augmentation_note": "All arms use flips and crops: it had the lowest loss.",
        "first_pass": [{"arm": arm, "augmentation": a, "log_loss": loss, "balanced_accuracy": 0.7}
                       for arm, a, loss in trials],
        "learned": True, "learned_note": "The classifiers know the real training images (97% of them).",
        "to_settle": {"points": 2.0, "images": {names[-1]: 1234}}, "arms": arms,
        "differences": [{"arm": "real + synthetic", "against": "oversampling", "balanced_accuracy": spread(0.041, 0.02),
                         "macro_f1": spread(0.03, 0.02), "p_better": 0.001, "p_worse": 0.999, "recall": delta},
                        {"arm": "real + synthetic", "against": "real + transformed",
                         "balanced_accuracy": spread(0.013, 0.02), "macro_f1": spread(0.011, 0.02), "p_better": 0.1,
                         "p_worse": 0.9, "recall": beyond}],
        "classes": [{"name": n, "verdict": words[k % 3], "n_test": 9 + k, "weak": k == len(names) - 1,
                     "difference": delta[n]} for k, n in enumerate(names)],
        "unfiltered_verdict": "no difference",
    }  # fmt: skip


def make_recipe(names, groups=()):
    """A search over all classes to fill, and over groups of them with shares of their own."""
    score = {0.1: 0.021, 0.25: 0.043, 0.5: 0.03, 0.75: -0.05}
    rows = [{"share": share, "group": list(group), "score": value / (1 + k), "score_low": value / (1 + k) - 0.03,
             "score_high": value / (1 + k) + 0.03, "chosen": share == 0.25 and (k > 0 or not groups)}
            for share, value in score.items() for k, group in enumerate((names, *groups))]  # fmt: skip
    if groups:
        rows.append({"share": None, "group": list(names), "score": 0.05, "score_low": 0.02, "score_high": 0.08,
                     "chosen": True})  # fmt: skip
    return {
        "share": 0.4, "why": "25% of the synthetic images are generated: better than none (95% confidence).",
        "how": "training images that the classifiers had not seen (cross-validation; near-copies of them were left "
        "out)", "rows": rows,
    }  # fmt: skip


def make_embedding(which, classes, points=20):
    rng = np.random.default_rng(1)
    label = np.arange(points * classes) % classes
    xy = rng.normal(size=(2, points * classes)) + 4 * np.stack([np.cos(label * 2.0), np.sin(label * 2.0)])
    return {
        "id": which, "title": f"The {which}", "caption": "t-SNE, perplexity 30.", "x": xy[0].tolist(),
        "y": xy[1].tolist(), "label": label.tolist(), "fake": (rng.random(points * classes) < 0.5).tolist(),
    }  # fmt: skip


def make_shortcuts():
    check = {"check": "image size", "accuracy": 0.98, "telling": True, "explained": False, "sentence": "Size tells.",
             "n_real": 60, "n_fake": 50}  # fmt: skip
    return [check, {**check, "check": "file size", "accuracy": None, "telling": False, "sentence": ""}]


def make_document(names=("ant", "bee", "cat"), *, verdict="use", origin="run"):
    """A document with everything in it, for the input of `make_input`."""
    n = len(names)
    return {
        "schema_version": 1, "balancegan_version": "0.1.0", "created": "2026-11-21T23:00:00+00:00",
        "title": "Balanced insects", "method": "SGBGAN" if origin == "run" else "",
        "run": "00000-sgbgan" if origin == "run" else "", "data": "data/insects", "complete": True,
        "origin": origin, "delivered": origin == "run",
        "imbalance_rate_before": 50.0, "imbalance_rate_after": 1.0, "num_real": 100 * n, "num_synthetic": 30 * n,
        "extractor": {"name": "own", "comparable": False, "dim": 64, "note": "These numbers compare within this page."},
        "limits": {"max_images": 2000, "min_reference": 10, "few_images": 100, "copy_side": 16, "copy_margin": 1.25,
                   "seed": 0},
        "classes": [make_row(k, name, 200 // (k + 1), n) for k, name in enumerate(names)],
        "overall": {
            "fid": 25.0, "fid_floor": 6.0, "fid_floor_size": 60, "kid": 0.02, "kid_std": 0.001, "kid_size": 50,
            "kid_floor": 0.0001, "kid_floor_std": 0.0008, "precision": 0.8, "recall": 0.5, "density": 1.0,
            "coverage": 0.6, "n_real": 90, "n_fake": 90, "num_classes": n, "reference": "mixed", "reason": None,
            "inception_score": None, "inception_score_std": None, "inception_score_splits": None,
            "inception_score_n": None, "inception_score_reason": "These features have no classifier of ImageNet.",
        },
        "recipe": make_recipe(names), "utility": make_utility(names, verdict),
        "findings": [{"level": "warning", "class": names[0], "text": "Look with `balancegan sample`."},
                     {"level": "note", "class": None, "text": "A note."}],
        "next": ["Train your classifier on the real images, with flips and crops: 71.2% balanced accuracy.",
                 "Train longer: `balancegan train data/insects --method sgbgan --resume 00000-sgbgan --steps 20000`."],
        "leak_probe": None, "warnings": [], "notes": ["Nothing else."], "settings": {"lr": 2e-4, "net": {"width": 64}},
        "history": [{"step": s, "stage": "gan", "loss/g/adv": 1.0 + s, "loss/d/adv": 0.5} for s in range(9)],
        "distribution": None, "shortcuts": make_shortcuts(),
        "embeddings": [make_embedding(i, n) for i in ("features", "latents", "plain_latents")],
    }  # fmt: skip


def make_extras(classes, frames=()):
    return Extras(interpolation=images(classes * 6).reshape(classes, 6, 3, 16, 16), frames=tuple(frames))


def make_input(names=("ant", "bee", "cat"), *, extras=None):
    rows = tuple(
        ClassImages(name, images(40, seed=3 * k), images(12, seed=3 * k + 1), images(30, seed=3 * k + 2), 40, 30, 3, 30)
        for k, name in enumerate(names)
    )
    about = ("Balanced insects", "SGBGAN", "00000-sgbgan", "data/insects")
    return ReportInput(*about, rows, 50.0, 1.0, True, extras=extras)
