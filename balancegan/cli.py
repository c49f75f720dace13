"""The command line: parse, call, render. What takes long to import is imported inside the commands."""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan import __version__, cli_machine, cli_weights
from balancegan.errors import UsageError
from balancegan.methods import PAPER_TABLE
from balancegan.options import (
    MOST_AUGMENT_SEED,
    BatchSize,
    Checkpoint,
    Data,
    Device,
    Extractor,
    FailUnder,
    Fit,
    GroupBy,
    Holdout,
    ImageSize,
    Preset,
    PretrainSteps,
    RunArgument,
    Runs,
    Sampler,
    Seed,
    Set,
    Strict,
    Utility,
    Weights,
    option,
    registrar,
)
from balancegan.parse import parse_counts, parse_names, parse_rates, parse_seed_count, parse_seeds, parse_time
from balancegan.processes import processes

app = typer.Typer(
    name="balancegan",
    help="Balance imbalanced image data sets with GANs, and see honestly what you got.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_weights.app)
command = registrar(app)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Balance imbalanced image data sets with GANs, and see honestly what you got.

    Options with a value, but for --out, can also be set by the environment: BALANCEGAN_DEVICE=cpu is --device cpu.
    """
    if version:
        typer.echo(f"balancegan {__version__}")
        raise typer.Exit


@command
def inspect_(
    console: Any,
    data: Data,
    split: Annotated[str, option("--split", help="train, val or test.")] = "train",
    target_ir: Annotated[float, option("--target-ir", help="Imbalance rate to reach, for the column 'to add'.")] = 1.0,
    duplicates: Annotated[str, option("--duplicates", help="exact, near or off.")] = "exact",
    html: Annotated[Path | None, option("--html", help="Also write a page with example images.")] = None,
    strict: Strict = False,
) -> None:
    """How imbalanced is the data, what is broken?"""
    from balancegan.data.inspect import inspect_folder, render_html
    from balancegan.data.scan import scan
    from balancegan.errors import DatasetError
    from balancegan.show import show_inspect

    with console.progress() as progress:
        folder = scan(data, progress=progress)
        found = inspect_folder(folder, split=split, target_ir=target_ir, duplicates=duplicates, progress=progress)
        if html:
            from balancegan.data.page import write_page

            write_page(html, render_html(found, folder), folder)
    document = found.to_json()
    refused = strict and document["bad_files"]
    if not (refused and console.as_json):  # a script gets one document: the error
        console.result(document, show_inspect)
    if html:
        console.note(f"page: {html}")
    if refused:
        first = document["bad_files"][0]
        raise DatasetError(f"{len(document['bad_files'])} unreadable files, first {first['path']}: {first['reason']}")


@command
def imbalance(
    console: Any,
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Image folder to copy from.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="New folder.")],
    ir: Annotated[float, option("--ir", help="Imbalance rate: majority / minority.")] = 100.0,
    scheme: Annotated[str, option("--scheme", help="step: first class full, others 1/IR; exp: exponential.")] = "step",
    counts: Annotated[str | None, option("--counts", help="Images to keep, e.g. frog=4500,cat=208.")] = None,
    majority: Annotated[str | None, option("--majority", help="The class that stays full.")] = None,
    seed: Seed = 0,
) -> None:
    """Make a reproducible imbalanced copy of a data set."""
    from balancegan.data.imbalance import make_imbalanced
    from balancegan.show import show_imbalance

    with console.progress() as progress:
        made = make_imbalanced(
            src,
            dst,
            scheme=scheme,
            ir=ir,
            counts=parse_counts(counts) or None,
            majority=majority,
            seed=seed,
            progress=progress,
        )
    console.result(made.to_json(), show_imbalance)


@command
def train(
    console: Any,
    data: Data,
    method: Annotated[str | None, option("--method", help="See: balancegan methods. [default: sgbgan]")] = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    steps: Annotated[int | None, option("--steps", help="Generator updates. [default: the preset's]")] = None,
    batch_size: BatchSize = None,
    pretrain_steps: PretrainSteps = None,
    max_time: Annotated[str | None, option("--max-time", help="Stop cleanly after e.g. 90s, 60m, 1h30m.")] = None,
    holdout: Holdout = None,
    group_by: GroupBy = None,
    fit: Fit = None,
    device: Device = "auto",
    seed: Annotated[int | None, option("--seed", help="Seed of the training's random choices. [default: 0]")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for run directories.")] = Path("runs"),
    resume: Annotated[
        str, option("--resume", help="auto: go on with this command's unfinished run; never; or a run to go on with.")
    ] = "auto",
    config: Annotated[Path | None, option("--config", help="YAML file of settings.")] = None,
    set_: Set = None,
    strict: Strict = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show settings and cost, train nothing.")] = False,
) -> None:
    """Train a generator for every class of the data."""
    from balancegan import launch
    from balancegan.config import parse_set
    from balancegan.show import show_dry_run, show_train

    flags = {
        "image_size": image_size,
        "steps": steps,
        "batch_size": batch_size,
        "pretrain_steps": pretrain_steps,
        "holdout": holdout,
        "group_by": group_by,
        "fit": fit,
        "seed": seed,
        **parse_set(set_ or []),
    }
    request = launch.TrainRequest(
        data=data,
        method=method,
        preset=preset,
        flags=flags,
        config_file=config,
        device=device,
        out=out,
        resume=resume,
        max_seconds=parse_time(max_time),
        strict=strict,
    )
    with console.progress() as view:
        document = launch.dry_run(request, view) if dry_run else launch.launch(request, view, view)
    console.result(document, show_dry_run if dry_run else show_train)


@command
def augment(
    console: Any,
    run: RunArgument = None,
    target_ir: Annotated[
        float | None,
        option("--target-ir", help="Imbalance rate to reach. [default: 1, or 3 synthetic images per real one]"),
    ] = None,
    counts: Annotated[
        str | None, option("--counts", help="Totals to reach instead, e.g. ring=500,schizont=300.")
    ] = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    data: Annotated[Path | None, option("--data", help="Where the data is now, if it moved.")] = None,
    out: Annotated[Path, typer.Option("--out", help="New folder for the result.")] = Path("balanced"),
    real: Annotated[str, option("--real", help="copy, hardlink, symlink, convert or none.")] = "copy",
    filter: Annotated[
        str,
        option("--filter", help="none; copies: drop near-copies; quality: also what is not recognised as its class."),
    ] = "copies",
    sampler: Sampler = "auto",
    out_size: Annotated[str, option("--out-size", help="model, or native: the real images' size.")] = "model",
    format: Annotated[str, option("--format", help="png, jpeg, or match: the real images' format.")] = "png",
    seed: Annotated[int, option("--seed", help="Seed of all random choices.", min=0, max=MOST_AUGMENT_SEED)] = 0,
    checkpoint: Checkpoint = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no quality report.")] = False,
    utility: Utility = True,
    fail_under: FailUnder = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Write a balanced folder and its quality report."""
    from balancegan.balance import FILTERS, AugmentOptions
    from balancegan.balance import augment as balance
    from balancegan.data.export import FORMATS, OUT_SIZES, REAL_MODES
    from balancegan.device import prepare, resolve_device
    from balancegan.judge import parse_least
    from balancegan.rundir import find_run
    from balancegan.sample import SAMPLERS
    from balancegan.show import show_augment

    for name, value, allowed in (
        ("--real", real, REAL_MODES),
        ("--filter", filter, FILTERS),
        ("--sampler", sampler, SAMPLERS),
        ("--out-size", out_size, OUT_SIZES),
        ("--format", format, FORMATS),
    ):
        if value not in allowed:
            raise UsageError(f"{name} {value} is not known", f"choose one of {', '.join(allowed)}")
    options = AugmentOptions(
        out=out,
        target_ir=target_ir,
        counts=parse_counts(counts),
        classes=parse_names(classes),
        data=data,
        real=real,
        filter=filter,
        sampler=sampler,
        out_size=out_size,
        format=format,
        seed=seed,
        report=not no_report,
        extractor=extractor,
        weights=weights,
        utility=utility,
        fail_under=parse_least(fail_under, utility=utility and not no_report),
        checkpoint=checkpoint,
    )
    where = resolve_device(device)
    prepare(where)
    with console.progress() as progress:
        document = balance(find_run(run, runs), options, device=where, progress=progress, note=console.note)
    console.result(document, show_augment)
    console.gate(document.get("gate"))


@command
def evaluate(
    console: Any,
    what: Annotated[
        str | None, typer.Argument(metavar="RUN|REAL", help="A run (default: newest), or a folder of real images.")
    ] = None,
    fake: Annotated[Path | None, typer.Argument(metavar="FAKE", help="A folder of synthetic images.")] = None,
    metrics: Annotated[
        str | None, option("--metrics", help="Only these: fid, kid, is, ssim, prdc, copies. [default: all]")
    ] = None,
    extractor: Extractor = "auto",
    weights: Weights = None,
    utility: Utility = True,
    fail_under: FailUnder = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            help="Images per class, or what it lacks where that is more. [default: 500; 250 for a large network]",
            min=1,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", help="Side at which folders are compared. [default: FAKE's, 8 to 128]", min=8, max=512
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where a run's data is now, if it moved.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the report. [default: the run's report/, or evaluation]")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Classifiers trained per arm.", min=1, max=100)] = 3,
    checkpoint: Checkpoint = "auto",
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Measure a run's generator, or a folder of synthetic images against a real one, and say whether they help."""
    from balancegan.device import prepare, resolve_device
    from balancegan.evaluate import EvaluateOptions, evaluate_folders, evaluate_run
    from balancegan.judge import Judging, parse_least, parse_metrics
    from balancegan.metrics.choose import choose
    from balancegan.rundir import find_run
    from balancegan.show import show_evaluate

    where = resolve_device(device)
    options = EvaluateOptions(
        out=out,
        data=data,
        images=images,
        image_size=image_size,
        fail_under=parse_least(fail_under, utility=utility),
        checkpoint=checkpoint,
    )
    judging = Judging(
        choose(extractor, weights), where, metrics=parse_metrics(parse_names(metrics)), utility=utility, seeds=seeds
    )
    prepare(where)
    with console.progress() as view:
        if fake is None:
            if what and Path(what).is_dir() and not (Path(what) / "config.yaml").is_file():
                raise UsageError(f"{what} is no run", "to evaluate images, give two folders: evaluate REAL FAKE")
            document = evaluate_run(find_run(what, runs), options, judging, progress=view, note=console.note)
        else:
            document = evaluate_folders(Path(what or ""), fake, options, judging, progress=view)
    console.result(document, show_evaluate)
    console.gate(document["gate"])


@command
def sample(
    console: Any,
    run: RunArgument = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    n: Annotated[int, option("--n", help="Images per class.", min=1)] = 16,
    seeds: Annotated[str | None, option("--seeds", help="Which seeds, e.g. 0-15 or 3,7,20-29.")] = None,
    sampler: Sampler = "auto",
    checkpoint: Checkpoint = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new .png for a grid, or a new folder. [default: in the run]"),
    ] = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Look at generated images before thousands are written."""
    from balancegan.device import prepare, resolve_device
    from balancegan.look import look
    from balancegan.rundir import find_run
    from balancegan.show import show_sample

    where = resolve_device(device)
    prepare(where)
    wanted = parse_seeds(seeds) if seeds else None
    names = parse_names(classes)
    document = look(
        find_run(run, runs),
        names,
        wanted,
        n,
        out,
        device=where,
        note=console.note,
        sampler=sampler,
        checkpoint=checkpoint,
    )
    console.result(document, show_sample)


@command
def compare(
    console: Any,
    data: Data,
    methods: Annotated[str, option("--methods", help="Which methods, comma-separated.")] = ",".join(PAPER_TABLE),
    steps: Annotated[int | None, option("--steps", help="Generator updates of each. [default: the preset's]")] = None,
    seeds: Annotated[str, option("--seeds", help="How many seeds, or which: 3, or 0,5,7, or 5, for one.")] = "3",
    ir: Annotated[
        str | None, option("--ir", help="Thin the training part to these imbalance rates, e.g. 1,5,20,50,100.")
    ] = None,
    baseline: Annotated[
        str | None,
        option("--baseline", help="Over which the last method's improvement is shown. [default: the last but one]"),
    ] = None,
    images: Annotated[
        int | None,
        option("--images", help="Samples per class. [default: 1000, or 250 for Inception on a CPU]"),
    ] = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    pretrain_steps: PretrainSteps = None,
    holdout: Holdout = None,
    group_by: GroupBy = None,
    fit: Fit = None,
    device: Device = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs, results and the page.")] = Path("comparison"),
    set_: Set = None,
    strict: Strict = False,
) -> None:
    """Train several methods on the same images and put them in one table."""
    from balancegan.compare.request import CompareRequest
    from balancegan.compare.run import compare as run
    from balancegan.config import parse_set
    from balancegan.show import show_compare

    request = CompareRequest(
        data=data,
        methods=parse_names(methods),
        seeds=parse_seed_count(seeds),
        irs=parse_rates(ir),
        preset=preset,
        flags={
            "image_size": image_size,
            "steps": steps,
            "batch_size": batch_size,
            "pretrain_steps": pretrain_steps,
            "holdout": holdout,
            "group_by": group_by,
            "fit": fit,
        },
        settings=parse_set(set_ or []),
        device=device,
        out=out,
        images=images,
        baseline=baseline,
        extractor=extractor,
        weights=weights,
        strict=strict,
    )
    with console.progress() as view:
        document = run(request, view)
    console.result(document, show_compare)


command(cli_machine.methods)
command(cli_machine.doctor)


@command
def demo(
    console: Any,
    out: Annotated[Path, typer.Option("--out", help="Folder for data, run and result.")] = Path("balancegan-demo"),
    steps: Annotated[int | None, option("--steps", help="Generator updates; fewer are faster and worse.")] = None,
    device: Device = "auto",
) -> None:
    """The whole job on embedded digits, in minutes."""
    from balancegan.demo import run_demo
    from balancegan.show import show_augment, show_inspect

    def inspected(document: dict[str, Any]) -> None:
        if not console.as_json:
            show_inspect(console, document)
            sys.stdout.flush()

    with console.progress() as view:
        document = run_demo(out, device, view, view, steps=steps, inspected=inspected)
    console.result(document, show_augment)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # bars and bullets must not break a narrow encoding
            stream.reconfigure(errors="replace")
    if processes() > 1:
        from balancegan.ranks import run

        run(app)
    else:
        app()
