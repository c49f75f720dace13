"""The Python functions: what they give, what they raise, and that no option of a command is missing."""

import dataclasses
import difflib
import inspect
import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import typer
from helpers import call_json, write_images

import balancegan
from balancegan.cli.app import app
from balancegan.commands.api.arguments import HowToRead
from balancegan.commands.api.progress_line import ProgressLine
from balancegan.commands.api.results import Result
from balancegan.commands.api.train import OF_TRAIN
from balancegan.core.errors import BalanceGANError
from balancegan.methods import METHODS, load_method

pytestmark = pytest.mark.usefixtures("quick_reports", "plain_search")

ROOT = Path(balancegan.__file__).parents[1]
SMALL = {
    "preset": "tiny",
    "group_by": "none",
    "image_size": 16,
    "steps": 4,
    "pretrain_steps": 2,
    "batch_size": 8,
    "device": "cpu",
    "width": 16,
    "latent_dim": 8,
}
GENERATED = {"fill": "generated", "filter": "none"}
WORDS = ("--fill", "generated", "--filter", "none")


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on 24 + 8 + 6 images."""
    root = tmp_path_factory.mktemp("trained")
    data = write_images(root / "discs", {"ant": 24, "bee": 8, "cat": 6})
    return balancegan.train(data, out=root / "runs", progress=False, **SMALL)


# Loading ---------------------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_before_it_is_needed(discs):
    code = (
        "import sys, balancegan\n"
        "heavy = lambda *names: [name for name in names if name in sys.modules]\n"
        "print(heavy('torch', 'numpy', 'PIL', 'rich', 'typer', 'yaml'))\n"
        f"balancegan.inspect({str(discs)!r}); print(heavy('torch', 'rich', 'typer'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n[]\n"


def test_everything_public_is_there_and_found_by_dir():
    for name in balancegan.__all__:
        assert name in dir(balancegan) and getattr(balancegan, name) is not None
    family = {kind.__name__ for kind in BalanceGANError.__subclasses__() if kind.__module__ == "balancegan.core.errors"}
    assert family <= set(balancegan.__all__)
    with pytest.raises(AttributeError, match="trian"):
        balancegan.trian  # noqa: B018


# Keywords --------------------------------------------------------------------------------------------------------

OF_THE_CONSOLE = {"json", "quiet", "verbose", "no_color"}
ELSEWHERE = {  # options that a function has in another form
    "inspect": set(),
    "train": {"set", *HowToRead.__annotations__},  # any keyword
    "augment": {"no_report"},  # report
    "evaluate": set(),
    "compare": {"set", *HowToRead.__annotations__},
    "sample": {"run", "runs", "out"},  # the run itself; arrays instead of files
}
BESIDES = {"train": {"settings"}, "compare": {"settings"}, "augment": {"report"}, "sample": {"self"}}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_option_of_a_command_is_a_keyword(name):
    command = typer.main.get_command(app).commands[name]
    options = {
        (param.opts[0] if param.opts[0].startswith("--") else param.name).lstrip("-").replace("-", "_")
        for param in command.params
        if param.name != "help"
    }
    function = balancegan.Run.sample if name == "sample" else getattr(balancegan, name)
    keywords = set(inspect.signature(function).parameters)
    if "how" in keywords:
        keywords = keywords - {"how"} | {*HowToRead.__annotations__} & options
    wanted = options - OF_THE_CONSOLE - ELSEWHERE[name] | BESIDES.get(name, set())
    assert {keyword.rstrip("_") for keyword in keywords} - {"progress"} == wanted  # `from` is a word of Python's own
    for keyword in keywords - {"self"}:
        assert f"{keyword}:" in function.__doc__ or f"`{keyword}`" in function.__doc__, keyword


def test_no_field_of_a_configuration_is_taken_for_a_misspelt_keyword():
    fields = {field.name for name in METHODS for field in dataclasses.fields(load_method(name).Config)}
    assert not [f for f in fields if difflib.get_close_matches(f, OF_TRAIN, n=1, cutoff=0.85)]


# Results ---------------------------------------------------------------------------------------------------------


def test_inspect_gives_the_commands_document(discs):
    (discs / "bee" / "broken.png").write_bytes(b"nothing")
    found = balancegan.inspect(str(discs), target_ir=2, progress=False)
    assert found.to_json() == call_json("inspect", discs, "--target-ir", 2)
    assert found.imbalance_rate == 4 and found.classes[0].name == "ant" == found["classes"][0]["name"]
    assert found.bad_files[0].path == "bee/broken.png" and "<td>ant</td>" in found._repr_html_()
    with pytest.raises(balancegan.DatasetError, match="broken"):
        balancegan.inspect(discs, strict=True, progress=False)


def test_a_run_has_the_commands_fields(trained):
    arguments = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}") if key[0] in "wl"]
    arguments += [w for k, v in SMALL.items() if k[0] not in "wl" for w in (f"--{k.replace('_', '-')}", v)]
    document = call_json("train", trained.path.parents[1] / "discs", "--out", trained.path.parent, *arguments)
    changing = {"images_per_second", "resumed_from", "seconds"}
    assert document.keys() == trained.keys() and document["seconds"] == pytest.approx(trained.seconds, abs=0.02)
    for run in (trained, balancegan.load_run(trained.path), balancegan.load_run("0", runs=trained.path.parent)):
        assert {k: run[k] for k in run if k not in changing} == {k: document[k] for k in document if k not in changing}
    assert trained.path == Path(document["run"]) and trained.steps == 4 and trained.classes == ["ant", "bee", "cat"]


def test_a_dry_run_is_a_plan(discs):
    plan = balancegan.train(discs, dry_run=True, progress=False, **SMALL)
    assert isinstance(plan, balancegan.TrainingPlan) and plan.config.width == 16 and not Path("runs").exists()


def test_samples_are_arrays_by_seed(trained):
    images = trained.sample("bee", n=5)
    assert images.shape == (5, 16, 16, 3) and images.dtype == np.uint8
    assert (trained.sample("bee", seeds=[4, 1]) == images[[4, 1]]).all()
    assert (balancegan.load_run(trained.path).sample("bee", 5) == images).all()
    both = trained.sample(["cat", "bee"], n=2)
    assert list(both) == ["bee", "cat"] and (both["bee"] == images[:2]).all() and len(trained.sample(n=1)) == 3
    with pytest.raises(balancegan.UsageError, match="wasp"):
        trained.sample("wasp")


def test_augment_and_evaluate(trained):
    balanced = balancegan.augment(trained, out="made", progress=False, report=False, **GENERATED)
    again = call_json("augment", trained.path, *WORDS, "--no-report", "--out", "made")
    assert balanced.to_json() | {"gate": None} == again | {"gate": None}
    assert balanced.path == Path("made").absolute() and balanced.imbalance_rate_after == 1
    written = balanced.path / "bee" / "syn_00000_3.png"
    from PIL import Image

    assert (np.asarray(Image.open(written)) == trained.sample("bee", seeds=[3])[0]).all()
    measured = balancegan.evaluate(trained, utility=False, metrics=["ssim"], images=4, out="one", progress=False)
    arguments = ("--no-utility", "--metrics", "ssim", "--images", 4, "--out", "one")
    assert measured.to_json() == call_json("evaluate", trained.path, *arguments)
    data = trained.path.parents[1] / "discs"
    assert balancegan.evaluate(data, "made", utility=False, metrics="ssim", progress=False).classes[1].ssim > 0


def test_a_result_cannot_be_changed_and_travels():
    import copy
    import pickle

    result = Result({"schema_version": 1, "a": {"b": [1, {"c": 2}]}})
    assert result.a.b[1].c == 2 and dict(result) and "a=" in repr(result)
    for twin in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert twin == result == result.to_json()
    with pytest.raises(AttributeError, match="is read-only"):
        result.a = 3
    with pytest.raises(AttributeError, match="schema_version"):
        result.schema_versoin  # noqa: B018
    result.to_json()["a"]["b"].clear()
    assert len(result.a.b) == 2


# Errors, progress ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda data, run: balancegan.inspect("absent"), "absent"),
        (lambda data, run: balancegan.inspect(data, duplicates="some"), "near"),
        (lambda data, run: balancegan.train(data, lamda_gp=3), "lambda_gp"),
        (lambda data, run: balancegan.train(data, max_tme=3), "max_time"),
        (lambda data, run: balancegan.train(data, max_time="soon"), "1h30m"),
        (lambda data, run: balancegan.train(data, preset="huge"), "tiny"),
        (lambda data, run: balancegan.load_run("nope"), "nope"),
        (lambda data, run: balancegan.augment(run, real="steal"), "hardlink"),
        (lambda data, run: balancegan.augment(run, seed=-1), "seed"),
        (lambda data, run: balancegan.augment(run, fill="half"), "transformed"),
        (lambda data, run: balancegan.augment(run, share=0.5, fill="transformed"), "--fill transformed"),
        (lambda data, run: balancegan.augment(run, fail_under="use", report=False), "verdict"),
        (lambda data, run: balancegan.evaluate(run, seeds=0), "seeds"),
        (lambda data, run: balancegan.evaluate(data), "is not a run"),
        (lambda data, run: balancegan.compare(data, wdth=3), "width"),
        (lambda data, run: run.sample("ant", n=0), "n = 0"),
        (lambda data, run: run.sample("ant", device="banana"), "cpu"),
    ],
)
def test_mistakes_are_usage_errors(discs, trained, capsys, work, words):
    with pytest.raises(balancegan.UsageError) as caught:
        work(discs, trained)
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert capsys.readouterr().out == ""


def test_below_the_gate_is_an_error_with_the_result(trained):
    with pytest.raises(balancegan.QualityGateError) as caught:
        balancegan.augment(trained, fail_under=99, progress=False, **GENERATED)
    assert caught.value.result.path.is_dir() and not caught.value.result.gate.passed


def test_environment_variables_do_not_count(discs, monkeypatch):
    monkeypatch.setenv("BALANCEGAN_SEED", "7")
    assert balancegan.train(discs, dry_run=True, progress=False, **SMALL).config.seed == 0


def test_an_interrupt_saves_and_the_same_call_goes_on(discs, monkeypatch):
    import signal

    more = {**SMALL, "steps": 6, "progress": False}
    from balancegan.training.loop import one_step

    def interrupted(method, batches, state, steps):
        one_step(method, batches, state, steps)
        if state.step == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(balancegan.StoppedError):
        patch.setattr("balancegan.training.loop.one_step", interrupted)
        balancegan.train(discs, **more)
    run = balancegan.train(discs, **more)
    assert run.resumed_from and run.finished and run.steps == 6


def test_it_works_in_a_thread_without_real_streams(discs, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    results = []
    worker = threading.Thread(target=lambda: results.append(balancegan.train(discs, **SMALL)))
    worker.start()
    worker.join()
    assert results[0].steps == 4 and sys.stdout.getvalue() == "" and "adversarial" in sys.stderr.getvalue()


def test_progress_is_one_line_where_it_can_be_written_over(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    clock = iter(range(1000))
    monkeypatch.setattr("balancegan.commands.api.progress_line.time.monotonic", lambda: next(clock))
    line = ProgressLine(Terminal())
    line("decode", 0, 40)
    line("decode", 20, 40)
    line.note("a remark")
    line.step("adversarial", 3, 10)
    line.close()
    shown = line.stream.getvalue()
    assert "decode: 20 of 40" in shown and "a remark\n" in shown and shown.endswith("\r") and shown.count("\n") == 1
    log = ProgressLine(io.StringIO())
    for step in range(1, 101):
        log.step("adversarial", step, 100)
    assert 8 <= len(log.stream.getvalue().splitlines()) <= 12


# Documentation ---------------------------------------------------------------------------------------------------


def blocks(page: str) -> str:
    """The Python blocks of a page, in their order."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_the_pages_examples_run(page, monkeypatch, capsys):
    """As they stand, but with fewer steps of narrower networks."""
    code = blocks(page)
    if not code:
        pytest.skip("no Python on this page")
    counts = {"red": 24, "ring": 8, "schizont": 6}
    for folder in ("data", "cells"):
        write_images(Path(folder) / "train", counts)
        write_images(Path(folder) / "test", dict.fromkeys(counts, 5), seed=1)

    def shorter(function, most):
        narrow = ("steps", "pretrain_steps", "batch_size", "width", "latent_dim", "device")
        return lambda *args, **options: function(*args, **{**options, **{n: SMALL[n] for n in narrow}, **most})

    monkeypatch.setattr(balancegan, "train", shorter(balancegan.train, {}))
    monkeypatch.setattr(balancegan, "compare", shorter(balancegan.compare, {"images": 8}))
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    assert json.dumps(capsys.readouterr().out)
