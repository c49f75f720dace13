"""Explains the report's numbers in plain sentences, worst first."""

from __future__ import annotations

from balancegan.core.documents import REFERENCES, Json
from balancegan.evaluation.copies import MARGIN

NOT_ASKED = "Not requested."
"""The reason given for a measure that `--metrics` left out."""

MIN_REFERENCE = 10
"""A class is compared with its held-out images if there are at least this many, otherwise with its training images.
FID is not computed with fewer images than this on either side."""

MIN_HALF = 25
"""Two halves of the reference are compared only if each has this many images; smaller ones give unreliable values."""

FEW_IMAGES = 100
"""An FID with fewer images than this on either side is reported as rough."""

LOW_DIVERSITY = 0.6
"""Low diversity: synthetic pairs differ (in 1 - SSIM or in spread) by less than this fraction of what real pairs do."""

NOISY = 1.35
"""Noise: synthetic pairs differ by more than this multiple of what real pairs do."""

MANY_REJECTED = 0.5
"""The report warns when a filter drops more than this share of a class's samples."""

COLLAPSED = 0.25
"""Mode collapse: synthetic pairs differ by less than this fraction of what real pairs do."""

OFTEN = 0.1
"""Another class is named if a classifier takes at least this share of a class's synthetic images for it."""

NARROW = (0.8, 0.5)
"""Low diversity: precision is at least the first value and recall is below the second."""


def findings(document: Json) -> list[Json]:
    """The findings that a reader should see before the numbers, worst first."""
    of_classes = [finding for row in document["classes"] for finding in _class_findings(row)]
    recipe = document.get("recipe")
    if recipe and not recipe["share"]:  # the folder holds none of the images that these are about
        of_classes = [{**finding, "level": "note"} for finding in of_classes]
    found = [*_delivery(document), *of_classes]
    leak = document["leak_probe"]
    found += [_finding("warning", None, text) for text in [*document["warnings"], *_leak(leak)]]
    if not document["extractor"]["comparable"]:
        found.append(_finding("note", None, document["extractor"]["note"]))
    if not document["utility"]["measured"]:
        found.append(_finding("note", None, document["utility"]["note"]))
    return sorted(found, key=lambda finding: ("warning", "note", "good").index(finding["level"]))


def _leak(probe: Json | None) -> list[str]:
    return [probe["text"]] if probe and probe["leak"] else []


def _delivery(document: Json) -> list[Json]:
    short = [row for row in document["classes"] if row["synthetic"] < row["requested"]]
    topped_up = (document.get("recipe") or {}).get("fill") in ("auto", "transformed")
    found = [_finding("warning", row["name"], _shortfall(row, topped_up=topped_up)) for row in short]
    for row in document["classes"]:
        samples = max(1, row["rejected"] + (row["generated"] or row["n_fake"]))
        copies = (row["rejected"] - row["refused"]) / samples
        if row["generated"] and copies > MANY_REJECTED:
            text = (
                f"{_percent(copies)} of the samples were dropped as near-copies of training images or of one another: "
                "the generator has memorised much of this class."
            )
            found.append(_finding("warning", row["name"], text))
        if row["refused"]:
            level = "warning" if row["refused"] / samples > MANY_REJECTED else "note"
            text = f"The quality filter dropped {_percent(row['refused'] / samples)} of the samples."
            found.append(_finding(level, row["name"], text))
    if not document["complete"] and not short:
        found.append(_finding("warning", None, "The balanced folder is incomplete."))
    if document["complete"] and document["num_synthetic"] and document["delivered"]:
        text = "Every class has the requested number of images. This says nothing about their quality."
        found.append(_finding("good", None, text))
    return found


def _shortfall(row: Json, *, topped_up: bool) -> str:
    delivered = f"{row['synthetic']:,} of {row['requested']:,} synthetic images were delivered"
    if topped_up:
        return f"{delivered}: its real images have no more variations that differ."
    many = row["rejected"] > row["synthetic"]
    why = f"{row['rejected']:,} samples were rejected" if many else "too few samples were of this class"
    return f"{delivered}: {why} before the attempts ran out."


def _class_findings(row: Json) -> list[Json]:
    if not row["n_fake"]:
        return []
    return [*_size_findings(row), *_appearance_findings(row), *_diversity_findings(row), *_copy_findings(row)]


def _size_findings(row: Json) -> list[Json]:
    """Findings on whether there are enough images for a meaningful FID."""
    kind = REFERENCES[row["reference"]]
    if row["fid"] is None and row["reasons"].get("fid") == NOT_ASKED:
        return []
    if row["fid"] is None:
        sizes = f"{row['n_real']} {kind} and {row['n_fake']} synthetic images"
        return [_finding("note", row["name"], f"FID was not computed: {sizes} are too few for a meaningful value.")]
    sentences = []
    if min(row["n_real"], row["n_fake"]) < FEW_IMAGES:
        size, what = min((row["n_real"], f"{kind} images"), (row["n_fake"], "synthetic images"))
        sentences.append(f"FID is only approximate with {size} {what}; compare it with real against real.")
    if row["fid_floor"] is not None and row["fid"] < row["fid_floor"]:
        why = "its features do not show the difference" if _appearance(row) else "too few images to tell them apart"
        sentences.append(f"FID is below that of two halves of the real images: {why}.")
    if row["reference"] == "train":
        sentences.append(
            f"The reference is the training images, because only {row['n_holdout']} images were held out and "
            f"{MIN_REFERENCE} are needed. Copies of training images would therefore score well in FID and SSIM."
        )
    return [_finding("note", row["name"], " ".join(sentences))] if sentences else []


def _appearance_findings(row: Json) -> list[Json]:
    """One warning on missing detail or noise, and on how many images a classifier recognises."""
    found = _appearance(row)
    return [_finding("warning", row["name"], f"The synthetic images {'; they '.join(found)}.")] if found else []


def _appearance(row: Json) -> list[str]:
    return [text for text in (_detail(row["detail"], row["swd"]), _recognition(row)) if text]


def _detail(judged: Json | None, levels: Json | None) -> str | None:
    if not judged or not levels:
        return None
    if len(levels) > 1 and list(levels) in judged.values():
        return f"have {'less' if judged['lacking'] else 'more'} contrast than real ones, in details of every size"
    lacking, noisy = judged["lacking"], judged["noisy"]
    parts = [f"lack detail {_sizes(lacking)}"] if lacking else []
    parts += [f"have too much detail {_sizes(noisy)}, such as noise"] if noisy else []
    return " and ".join(parts) or None


def _sizes(levels: list[str]) -> str:
    """Names of levels in words: "below 8 pixels" for 2-4 and 4-8."""
    low, high = levels[0].strip("+").split("-")[0], levels[-1].split("-")[-1]
    if high.endswith("+"):
        return f"above {low} pixels"
    return f"below {high} pixels" if low == "2" else f"of {low} to {high} pixels"


def _recognition(row: Json) -> str | None:
    if not row["recognised_less"]:
        return None
    other = row["taken_for"]
    text = (
        f"often do not show their class: {row['recognised']:.0%} are recognised as {row['name']}, but "
        f"{row['recognised_real']:.0%} of unseen real images are"
    )
    return text + (f"; {other['share']:.0%} are taken for {other['name']}" if other and other["share"] >= OFTEN else "")


def _diversity_findings(row: Json) -> list[Json]:
    found = [_finding("warning", row["name"], text) for text in (_within(row), _manifold(row)) if text]
    return found[:1]  # both say the same


def _within(row: Json) -> str | None:
    """A diversity warning based on pairs of images within each set, or None."""
    real, fake = row["ssim_within_real"], row["ssim_within_fake"]
    if real is None or fake is None or real >= 1.0:
        return None
    ratio = (1.0 - fake) / (1.0 - real)
    ssim = f"SSIM within the synthetic images is {fake:.2f}, within the real ones {real:.2f}"
    spread = f"spread {row['spread_fake']:.2f} against {row['spread_real']:.2f}"
    narrow = row["spread_fake"] < LOW_DIVERSITY * row["spread_real"]
    if ratio < COLLAPSED:
        return f"Mode collapse: the synthetic images are nearly all alike ({ssim})."
    if ratio < LOW_DIVERSITY:
        return f"Low diversity: the synthetic images resemble each other far more than real ones do ({ssim})."
    if narrow and fake < real:
        return f"The synthetic images are alike overall but noisy in detail ({spread}; {ssim}): train longer."
    if narrow:
        return f"Low diversity: the synthetic images differ far less than real ones do ({spread})."
    if ratio > NOISY:
        return f"The synthetic images resemble each other far less than real ones do ({ssim}): look for noise."
    return None


def _manifold(row: Json) -> str | None:
    """A diversity warning based on precision and recall, or None."""
    precision, recall = row["precision"], row["recall"]
    if precision is None or row["prdc_n"] < FEW_IMAGES or precision < NARROW[0] or recall >= NARROW[1]:
        return None
    return (
        f"Low diversity: {_percent(precision)} of the synthetic images lie among the real ones, but only "
        f"{_percent(recall)} of the real images lie among the synthetic ones."
    )


def _copy_findings(row: Json) -> list[Json]:
    return [_finding("warning", row["name"], text) for text in (_copies(row), _just_above(row)) if text]


def _copies(row: Json) -> str | None:
    if not row["copy_rate"]:
        return None
    usual = f"{_percent(row['near_rate_real'])} of {REFERENCES[row['near_rate_real_of']]} images do"
    return (
        f"Copies: {_percent(row['near_rate'])} of the synthetic images are very close to a training image ({usual}), "
        f"so about {_percent(row['copy_rate'])} are copies. Look at the closest pairs below."
    )


def _just_above(row: Json) -> str | None:
    """A warning about more images just above the copy threshold than among real images, or None."""
    if not row["just_above_unusual"]:
        return None
    low, kind = row["copy_threshold"], REFERENCES[row["near_rate_real_of"]]
    share = row["just_above"] / row["nearest_fake"]["n"]
    return (
        f"Perhaps copies: {row['just_above']:,} {'more ' if row['near_rate'] else ''}synthetic images "
        f"({_percent(share)}) lie just above the copy threshold, at distances from {low:.3f} to "
        f"{MARGIN * low:.3f}; of {kind} images, {_percent(row['just_above_rate_real'])} do. Look at the closest pairs "
        "below."
    )


def _finding(level: str, name: str | None, text: str) -> Json:
    return {"level": level, "class": name, "text": text}


def _percent(share: float) -> str:
    return "under 0.1%" if 0.0 < share < 0.001 else f"{share:.1%}"
