"""What each command prints; the JSON document has everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balancegan.cli.console import Console
from balancegan.cli.tables import bar, shown, table
from balancegan.core.text import human_time, plural, significant


def show_inspect(console: Console, doc: dict[str, Any]) -> None:
    """Print counts with bars, what is wrong, and what to do."""
    counts = table("class", "images", "share", "", "to add", right=("images", "share", "to add"))
    top = max((c["count"] for c in doc["classes"]), default=1) or 1
    for c in sorted(doc["classes"], key=lambda c: -c["count"]):
        counts.add_row(
            shown(c["name"]),
            f"{c['count']:,}",
            f"{c['share']:.1%}",
            f"[cyan]{bar(c['count'] / top)}[/]",
            f"{c['to_add']:,}" if c["count"] else "–",
        )
    rate = "unknown" if doc["imbalance_rate"] is None else f"{doc['imbalance_rate']:.4g}"
    console.print(f"[bold]{doc['num_images']:,} images, {doc['num_classes']} classes, imbalance rate {rate}[/]")
    console.print(counts)
    console.print("")
    if doc.get("normalised_entropy") is not None:
        console.print(f"normalised entropy {doc['normalised_entropy']:.3f} (1 is balanced)")
    for title, key in (
        ("unreadable files", "bad_files"),
        ("groups of exact duplicates", "duplicates"),
        ("label conflicts (equal images in several classes)", "conflicts"),
        ("leaks (equal images in several splits)", "leaks"),
        ("groups of siblings", "siblings"),
        ("groups of siblings in several splits", "sibling_leaks"),
    ):
        if doc.get(key):
            console.print(f"[yellow]{len(doc[key]):,} {title}[/]")
            for item in doc[key][: 20 if console.verbose else 3]:
                console.print(f"  {shown(_found(item, '~' if 'siblings' in title else '='))}")
            if not console.verbose and len(doc[key]) > 3:
                console.print(f"  … and {len(doc[key]) - 3:,} more (-v shows 20, --json all)")
    for note in doc.get("notes", []) if console.verbose else []:
        console.print(f"note: {shown(note)}")
    console.print("")
    for line in doc["advice"]:
        console.print(f"• {shown(line)}")


def _found(item: dict[str, Any], sign: str) -> str:
    """Format a bad file, or some paths of a group; the last is in another split than the first if there are several."""
    if "path" in item:
        return f"{item['path']}: {item['reason']}"
    paths = item["paths"]
    some = paths if len(paths) <= SHOWN_PATHS else [*paths[: SHOWN_PATHS - 1], "…", paths[-1]]
    return f"  {sign}  ".join(some) + (f"  ({len(paths):,} images)" if len(some) > SHOWN_PATHS else "")


def show_imbalance(console: Console, doc: dict[str, Any]) -> None:
    """Print counts before and after."""
    rows = table("class", "before", "after", right=("before", "after"))
    for name, before in doc["counts_before"].items():
        rows.add_row(shown(name), f"{before:,}", f"{doc['counts_after'].get(name, 0):,}")
    console.print(rows)
    console.print(f"imbalance rate {doc['imbalance_rate']:.4g}; written to {shown(doc['dst'])}")
    for note in doc["notes"]:
        console.print(f"• {shown(note)}")


def show_train(console: Console, doc: dict[str, Any]) -> None:
    """Print where the run is and how fast it was."""
    state = "finished" if doc["finished"] else "stopped; run the same command again to continue"
    console.print(f"[bold]{shown(doc['run'])}[/]")
    console.print(
        f"{state}: {doc['steps']:,} steps, {doc['images_seen']:,} images in {human_time(doc['seconds'])}"
        f" ({doc['images_per_second']:.0f} images/s) on {doc['device']}"
    )
    if doc["collapsed"]:
        names = ", ".join(shown(name) for name in doc["collapsed"])
        console.print(
            f"[yellow]mode collapse: the images of {names} now look alike;[/] augment compares the checkpoints and "
            "takes the best"
        )
    here, run = Path.cwd(), Path(doc["run"])
    name = shown(str(run.relative_to(here) if run.is_relative_to(here) else run))
    console.print(f"look at {name}/samples" + (f", then: balancegan augment {name}" if doc["steps"] else ""))


def show_dry_run(console: Console, doc: dict[str, Any]) -> None:
    """Print configuration and cost."""
    rows = table("setting", "value")
    for key in ("method", "preset", "device"):
        rows.add_row(key, str(doc[key]))
    for key, value in doc["config"].items():
        rows.add_row(key, shown(str(value)))
    console.print(rows)
    networks = ", ".join(f"{name} {n:,}" for name, n in doc["parameters"].items())
    console.print(f"parameters: {networks}")
    console.print(f"images: {doc['images']:,}")
    console.print(
        f"estimate for this machine: {human_time(doc['seconds_estimated'])}, {doc['memory_gib']:.2g} GiB; "
        "nothing was trained"
    )
    for note in doc["notes"]:
        console.print(f"• {shown(note)}")


def show_augment(console: Console, doc: dict[str, Any]) -> None:
    """Print counts, classes that fell short, findings, verdict, and where the folder and the report are."""
    numbers = ("real", "generated", "transformed", "total")
    rows = table("class", *numbers, right=numbers)
    for c in doc["classes"]:
        counts = (c["real"], c["generated"], c["transformed"], c["real"] + c["synthetic"])
        rows.add_row(shown(c["name"]), *(f"{n:,}" for n in counts))
    console.print(rows)
    console.print(f"imbalance rate {doc['imbalance_rate_before']:.4g} -> {doc['imbalance_rate_after']:.4g}")
    if not doc["complete"]:
        names = ", ".join(shown(n) for n in doc["short"])
        why, do = "without copies", "Train longer, or use --filter none."
        short = [c for c in doc["classes"] if c["name"] in doc["short"]]
        if doc["fill"] != "generated":
            why, do = "with different images", "Their real images are too much alike: gather more."
        elif any(c.get("refused") for c in short):
            why, do = "with images that pass the quality filter", "Train longer, or use --filter copies."
        elif doc["assignment"]:
            why, do = "with images of the class", "Train longer, or choose a conditional method."
        console.print(f"[yellow]incomplete: {names} could not be filled {why}.[/] {do}")
    _recipe(console, doc["recipe"], doc["in_words"])
    _findings(console, doc.get("findings", []))
    for note in doc["notes"]:
        console.print(f"• {shown(note)}")
    _verdict(console, doc.get("utility"))
    _next_steps(console, doc.get("next", []))
    console.print(f"folder: [bold]{shown(doc['out'])}[/]")
    if doc["report"]:
        console.print(f"report: [bold]{shown(doc['report'])}[/]")


def _recipe(console: Console, searched: list[dict[str, Any]], sentences: list[str]) -> None:
    """Print the search for the share, and in words what came of it."""
    if searched:
        rows = table("generated share", "classes", "gain (log loss)", "95% bounds", "", right=("gain (log loss)",))
        every = max(len(row["group"]) for row in searched)
        for row in searched:
            share = "by class size" if row["share"] is None else f"{row['share']:.0%}"
            group = "all to fill" if len(row["group"]) == every else ", ".join(row["group"])
            known = row["score_low"] is not None
            few = f"dropped after {plural(row['repeats'], 'repeat')}"
            bounds = f"{row['score_low']:+.3f} to {row['score_high']:+.3f}" if known else few
            rows.add_row(share, shown(group), f"{row['score']:+.3f}", bounds, "chosen" if row["chosen"] else "")
        console.print("")
        console.print(rows)
    for line in sentences:
        console.print(f"• {shown(line)}")


def _findings(console: Console, findings: list[dict[str, Any]]) -> None:
    """Print the report's first warnings; with --verbose all findings."""
    warnings = [f for f in findings if f["level"] == "warning"]
    first = findings if console.verbose else warnings[:SHOWN_WARNINGS]
    for finding in first:
        name = f"{finding['class']}: " if finding["class"] else ""
        console.print(f"• {finding['level']}: {shown(name + finding['text'])}")
    if not console.verbose:
        more, notes = len(warnings) - len(first), sum(f["level"] == "note" for f in findings)
        rest = [f"{n} more {what}{'s' if n > 1 else ''}" for n, what in ((more, "warning"), (notes, "note")) if n]
        if rest:
            console.print(f"• {' and '.join(rest)} in the report")


SHOWN_WARNINGS = 6
SHOWN_PATHS = 4
_REFERENCES = {"holdout": "held-out images", "train": "training images", "real": "images of the real folder"}
_COLOURS = {"use": "green", "no difference": "yellow", "do not use": "red"}


def _verdict(console: Console, utility: dict[str, Any] | None) -> None:
    """Print whether the images help, in a line or two."""
    if not utility:
        return
    if utility["verdict"] is None:
        reason = utility.get("headline") or utility.get("note") or ""
        console.print(f"verdict: none. {shown(reason)}")
        return
    console.print(f"verdict: [bold {_COLOURS[utility['verdict']]}]{utility['verdict']}[/]. {utility['headline']}")
    for text in utility.get("warnings", ()):
        console.print(f"• warning: {shown(text)}")
    if utility.get("unfiltered_verdict"):
        console.print(f"without the quality filter: {utility['unfiltered_verdict']}")


def _next_steps(console: Console, steps: list[str]) -> None:
    """Print what to do next, in order."""
    for number, text in enumerate(steps, 1):
        console.print(f"{'next: ' if number == 1 else '      '}{number}. {shown(text)}")


def show_evaluate(console: Console, doc: dict[str, Any]) -> None:
    """Print the measures per class and overall, the classifiers' arms, findings, verdict, and the report's path."""
    titles = ("FID (floor)", "KID x1000", "precision", "recall", "copies")
    rows = table("class", "real", "fake", *titles, right=("real", "fake", *titles))
    for row in doc["classes"]:
        fid = _number(row["fid"]) + (f" ({_number(row['fid_floor'])})" if row["fid_floor"] is not None else "")
        kid = _number(None if row["kid"] is None else 1000 * row["kid"])
        copies = "–" if row["copy_rate"] is None else f"{row['copy_rate']:.1%}"
        counts = (f"{row['n_real']:,}", f"{row['n_fake']:,}")
        measures = (fid, kid, _number(row["precision"]), _number(row["recall"]), copies)
        rows.add_row(shown(row["name"]), *counts, *measures)
    console.print(rows)
    overall = doc["overall"]
    references = {_REFERENCES[row["reference"]] for row in doc["classes"] if row["n_fake"]}
    console.print(
        f"[dim]features: {doc['extractor']}; real: {' or '.join(sorted(references))}; in brackets: two random halves "
        "of the real images against each other[/]"
    )
    if overall["fid"] is not None:
        floor = "" if overall["fid_floor"] is None else f" ({_number(overall['fid_floor'])})"
        console.print(
            f"all classes: FID {_number(overall['fid'])}{floor}, {overall['n_fake']:,} synthetic against "
            f"{overall['n_real']:,} real images"
        )
    if overall["inception_score"] is not None:
        score, std = overall["inception_score"], overall["inception_score_std"]
        console.print(f"Inception Score {significant(score)} ± {significant(std)}")
    if doc["utility"]["arms"]:
        scores = ("balanced accuracy", "macro F1", "log loss")
        arms = table("classifier trained on", *scores, right=scores)
        for arm in doc["utility"]["arms"]:
            f1 = f"{arm['macro_f1']['value']:.1%}"
            arms.add_row(shown(arm["name"]), _share(arm["balanced_accuracy"]), f1, _number(arm["log_loss"]))
        console.print("")
        console.print(arms)
    if doc["recipe"]:
        _recipe(console, doc["recipe"]["rows"], [doc["recipe"]["why"]])
    console.print("")
    _findings(console, doc["findings"])
    _verdict(console, doc["utility"])
    _next_steps(console, doc["next"])
    console.print(f"report: [bold]{shown(doc['report'])}[/]")


def _number(value: float | None) -> str:
    return "–" if value is None else significant(value)


def _share(value: dict[str, float]) -> str:
    return f"{value['value']:.1%} [dim]({value['low']:.1%} to {value['high']:.1%})[/]"


def show_sample(console: Console, doc: dict[str, Any]) -> None:
    """Print where the pictures are."""
    console.print(f"{doc['images']} images in {shown(doc['out'])}")


def show_methods(console: Console, doc: dict[str, Any]) -> None:
    """Print one row per method."""
    rows = table("method", "paper", "classes", "image sizes")
    for m in doc["methods"]:
        sizes = " ".join(map(str, m["image_sizes"]))
        rows.add_row(m["name"], shown(m["paper"]), "conditional" if m["conditional"] else "unconditional", sizes)
    console.print(rows)
