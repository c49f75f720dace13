"""Explains the report's numbers in plain sentences, worst first."""

from __future__ import annotations

from balancegan.core.documents import REFERENCES, Json

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

NARROW = (0.8, 0.5)
"""Low diversity: precision is at least the first value and recall is below the second."""


def findings(document: Json) -> list[Json]:
    """The findings that a reader should see before the numbers, worst first."""
    found = [*_delivery(document), *(finding for row in document["classes"] for finding in _class_findings(row))]
    found += [_finding("warning", None, text) for text in document["warnings"]]
    if not document["extractor"]["comparable"]:
        found.append(_finding("note", None, document["extractor"]["note"]))
    if not document["utility"]["measured"]:
        found.append(_finding("note", None, document["utility"]["note"]))
    return sorted(found, key=lambda finding: ("warning", "note", "good").index(finding["level"]))


def _delivery(document: Json) -> list[Json]:
    short = [row for row in document["classes"] if row["synthetic"] < row["requested"]]
    found = [_finding("warning", row["name"], _shortfall(row)) for row in short]
    for row in document["classes"]:
        samples = max(1, row["rejected"] + row["synthetic"])
        copies = (row["rejected"] - row["refused"]) / samples
        if row["synthetic"] and copies > MANY_REJECTED:
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


def _shortfall(row: Json) -> str:
    many = row["rejected"] > row["synthetic"]
    why = f"{row['rejected']:,} samples were rejected" if many else "too few samples were of this class"
    delivered = f"{row['synthetic']:,} of {row['requested']:,} synthetic images were delivered"
    return f"{delivered}: {why} before the attempts ran out."


def _class_findings(row: Json) -> list[Json]:
    if not row["n_fake"]:
        return []
    return [*_size_findings(row), *_diversity_findings(row), *_copy_findings(row)]


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
        sentences.append(f"FID is rough with only {size} {what}; compare it with real against real.")
    if row["fid_floor"] is not None and row["fid"] < row["fid_floor"]:
        sentences.append("FID is below that of two halves of the real images: too few images to tell them apart.")
    if row["reference"] == "train":
        sentences.append(
            f"The reference is the training images, because only {row['n_holdout']} images were held out and "
            f"{MIN_REFERENCE} are needed. Copies of training images would therefore score well in FID and SSIM."
        )
    return [_finding("note", row["name"], " ".join(sentences))] if sentences else []


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
    if not row["copy_rate"]:
        return []
    usual = f"{_percent(row['near_rate_real'])} of {REFERENCES[row['near_rate_real_of']]} images do"
    text = (
        f"Copies: {_percent(row['near_rate'])} of the synthetic images are very close to a training image ({usual}), "
        f"so about {_percent(row['copy_rate'])} are copies. Look at the closest pairs below."
    )
    return [_finding("warning", row["name"], text)]


def _finding(level: str, name: str | None, text: str) -> Json:
    return {"level": level, "class": name, "text": text}


def _percent(share: float) -> str:
    return "under 0.1%" if 0.0 < share < 0.001 else f"{share:.1%}"
