"""The commands as users and scripts call them: options, JSON, exit codes, messages."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import call, call_json, write_images

from balancegan.cli.parse import parse_counts, parse_seed_count, parse_seeds
from balancegan.core.errors import UsageError
from balancegan.core.text import parse_time
from balancegan.core.version import __version__

pytestmark = pytest.mark.usefixtures("quick_reports")

SMALL = [
    *("--preset", "tiny", "--image-size", "16", "--steps", "4", "--pretrain-steps", "2", "--batch-size", "8"),
    *("--device", "cpu", "--set", "width=16", "--set", "latent_dim=8"),
]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_process(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "balancegan", *map(str, args)], capture_output=True, text=True, **kwargs
    )


def test_help_and_version_are_fast_and_without_torch():
    code = (
        "import sys; from balancegan.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'rich.console') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "augment" in out and out.strip().splitlines()[-1] == "[]"
    assert __version__ in call("--version").stdout
    for command in ("inspect", "imbalance", "train", "augment", "evaluate", "sample", "methods", "doctor", "demo"):
        assert "--json" in call(command, "--help").stdout


def test_inspect_does_not_import_torch(discs):
    code = (
        "import sys; from balancegan.cli.app import app\n"
        f"try: app(['inspect', {str(discs)!r}])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "imbalance rate 4" in out and out.strip().endswith("False")


def test_inspect_for_people_and_scripts(discs):
    shown = call("inspect", discs).stdout
    assert "imbalance rate 4" in shown and "█" in shown and "ant" in shown
    document = call_json("inspect", discs, "--target-ir", 2)
    keys = "num_images num_classes imbalance_rate majority minority classes bad_files duplicates conflicts leaks advice"
    assert set(keys.split()) <= document.keys()
    assert document["imbalance_rate"] == 4 and document["minority"] == {"name": "cat", "count": 6}
    assert {c["name"]: c["to_add"] for c in document["classes"]} == {"ant": 0, "bee": 4, "cat": 6}


def test_inspect_page_and_strict(discs):
    (discs / "bee" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    call("inspect", discs, "--html", "page.html")
    assert "ant" in Path("page.html").read_text()
    call("inspect", discs, "--html", discs / "page.html", code=2)
    call("inspect", discs, "--html", "page.html")  # ours: renewed
    Path("mine.html").write_text("mine")
    call("inspect", discs, "--html", "mine.html", code=2)
    assert Path("mine.html").read_text() == "mine"
    assert len(call_json("inspect", discs)["bad_files"]) == 1
    assert "broken.png" in call("inspect", discs, "--strict", code=3).stderr
    assert call_json("inspect", discs, "--strict", code=3)["error"]["exit_code"] == 3


def test_imbalance(discs):
    document = call_json("imbalance", discs, "thin", "--ir", 4)
    assert document["counts_after"] == {"ant": 24, "bee": 6, "cat": 6}
    call("imbalance", discs, "thin", code=2)
    assert call_json("imbalance", discs, "own", "--counts", "ant=3,bee=2")["counts_after"]["ant"] == 3


def test_the_three_commands(discs):
    trained = call_json("train", discs, *SMALL)
    keys = {"run", "method", "device", "steps", "images_seen", "seconds", "images_per_second", "resumed_from"}
    assert keys <= trained.keys() and trained["steps"] == 4 and Path(trained["run"]).is_absolute()
    assert (Path(trained["run"]) / "losses.png").stat().st_size > 1000
    looked = call_json("sample", "--n", 3)
    assert looked["images"] == 9 and Path(looked["out"]).is_file()
    document = call_json("augment", "--fill", "generated", "--filter", "none")
    keys = {"out", "complete", "imbalance_rate_before", "imbalance_rate_after", "classes", "report"}
    assert keys <= document.keys() and document["imbalance_rate_after"] == 1
    fields = {"name", "real", "synthetic", "generated", "transformed", "beside", "rejected", "refused"}
    assert set(document["classes"][0]) == fields
    for name in ("metadata.csv", "report.html", "report.json"):
        assert (Path("balanced") / name).is_file()
    assert Path(document["out"]) == Path("balanced").absolute()
    shown = call("augment", "--fill", "generated", "--filter", "none").stdout
    assert "imbalance rate 4 -> 1" in shown


def test_augment_below_the_gate_is_9_and_the_folder_is_there(split_discs, plain_search):
    call("train", split_discs, *SMALL)
    words = ("augment", "--fill", "generated", "--filter", "none")
    document = call_json(*words, "--fail-under", "99", code=9)
    assert document["gate"]["passed"] is False and "99" in document["gate"]["reason"]
    assert document["utility"]["verdict"] and Path("balanced/train/metadata.csv").is_file()
    assert "below --fail-under" in call(*words, "--fail-under", "99", code=9).stderr
    assert call_json(*words)["gate"] is None
    assert call_json("evaluate", "--no-utility", "--metrics", "ssim", "--images", 4)["run"].endswith("-sgbgan-split")


def test_sample_gives_augments_images(discs):
    call("train", discs, *SMALL)
    call("augment", "--fill", "generated", "--filter", "none", "--no-report")
    call("sample", "0", "--classes", "bee", "--seeds", "0-2,5", "--out", "look")
    for seed in (0, 1, 2, 5):
        made = Path(f"balanced/bee/syn_00000_{seed}.png")
        assert made.read_bytes() == Path(f"look/bee/{seed}.png").read_bytes()
    call("sample", "--classes", "wasp", code=2)
    call("sample", "--out", "look", code=2)  # not empty
    before = {p: p.read_bytes() for p in discs.rglob("*.png")}
    call("sample", "--out", discs, code=2)
    call("sample", "--out", discs / "bee" / "000.png", code=2)
    assert before == {p: p.read_bytes() for p in discs.rglob("*.png")}
    call("sample", "--seeds", "5-2", code=2)


def test_dry_run_trains_and_writes_nothing(discs):
    document = call_json("train", discs, *SMALL, "-n")
    assert document["parameters"]["G"] > 1000 and document["memory_gib"] > 0 and document["seconds_estimated"] > 0
    assert document["config"]["steps"] == 4 and not Path("runs").exists()
    assert "nothing was trained" in call("train", discs, *SMALL, "--dry-run").stdout


def test_precedence_of_sources(discs, monkeypatch):
    Path("c.yaml").write_text("preset: tiny\nimage_size: 16\nwidth: 16\nbatch_size: 4\nseed: 5\nn_critic: 3\n")
    monkeypatch.setenv("BALANCEGAN_SEED", "6")
    monkeypatch.setenv("BALANCEGAN_LAMBDA_GP", "7")
    config = call_json("train", discs, "--config", "c.yaml", "-n", "--batch-size", 6, "--device", "cpu")["config"]
    assert (config["batch_size"], config["seed"], config["n_critic"], config["lambda_gp"]) == (6, 6, 3, 7.0)


def test_methods():
    (first,) = (m for m in call_json("methods")["methods"] if m["name"] == "sgbgan")
    assert set(first) == {"name", "paper", "conditional", "image_sizes"}
    assert "sgbgan" in call("methods").stdout


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["inspect", "absent"], 2, "absent"),
        (["train", "absent"], 2, "absent"),
        (["train", "DATA", "--method", "sgbgn"], 2, "sgbgan"),
        (["train", "DATA", "--preset", "huge"], 2, "tiny"),
        (["train", "DATA", "--set", "lamda_gp=3"], 2, "lambda_gp"),
        (["train", "DATA", "--set", "oops"], 2, "key=value"),
        (["train", "DATA", "--set", "lambda_gp=nan"], 2, "lambda_gp"),
        (["train", "DATA", "--set", "lambda_gp=-1"], 2, "lambda_gp"),
        (["train", "DATA", "--seed", "99999999999999999999"], 2, "seed"),
        (["train", "DATA", "--out", "DATA/runs"], 2, "source"),
        (["augment", "--seed", "99999999999999"], 2, "seed"),
        (["train", "DATA", "--image-size", "100"], 2, "64"),
        (["train", "DATA", "--device", "cuda:9"], 2, "--device"),
        (["train", "DATA", "--device", "banana"], 2, "cpu"),
        (["train", "DATA", "--max-time", "soon"], 2, "1h30m"),
        (["train", "DATA", "--config", "absent.yaml"], 2, "absent.yaml"),
        (["train", "DATA", "--resume", "77"], 2, "77"),
        (["train", "flat"], 3, "class"),
        (["train", "lonely"], 3, "class"),
        (["augment"], 2, "balancegan train"),
        (["augment", "nope"], 2, "nope"),
        (["augment", "--target-ir", "0.5"], 2, "2"),
        (["augment", "--real", "steal"], 2, "hardlink"),
        (["augment", "--sampler", "fast"], 2, "langevin"),
        (["augment", "--filter", "good"], 2, "quality"),
        (["augment", "--fill", "half"], 2, "transformed"),
        (["augment", "--share", "1.5"], 2, "share"),
        (["augment", "--share", "0.5", "--fill", "generated"], 2, "--fill generated"),
        (["augment", "--fail-under", "maybe"], 2, "no-difference"),
        (["augment", "--fail-under", "use", "--no-report"], 2, "--no-report"),
        (["augment", "--fail-under", "use", "--no-utility"], 2, "--no-utility"),
        (["augment", "--sampler", "langevin"], 2, "leave it out"),
        (["augment", "--counts", "bee"], 2, "class=number"),
        (["sample"], 2, "balancegan train"),
        (["inspect", "DATA", "--duplicates", "some"], 2, "exact"),
        (["imbalance", "DATA", "DATA/in"], 2, "DATA"),
        (["imbalance", "DATA", "new", "--counts", "ant=1000"], 2, "24"),
    ],
)
def test_mistakes_get_a_line_and_the_right_exit_code(discs, args, code, words):
    write_images(Path("lonely"), {"only": 3})
    write_images(Path("shapes"), {"flat": 3})
    Path("shapes/flat").rename("flat")
    if args[0] == "augment" and {"--target-ir", "langevin"} & set(args):
        call("train", discs, *SMALL)
    result = call(*[a.replace("DATA", str(discs)) for a in args], code=code)
    assert words.replace("DATA", str(discs)) in result.stderr.replace("\n", "")
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) <= 1


def test_errors_are_json_too():
    document = call_json("inspect", "absent", code=2)
    assert document["error"]["exit_code"] == 2 and "absent" in document["error"]["message"]


def test_quiet_says_nothing_but_the_result(discs):
    result = call("inspect", discs, "-q")
    assert result.stderr == "" and "imbalance rate" in result.stdout


def test_no_colour(discs):
    out = run_process("inspect", discs, "--no-color", env={**os.environ, "FORCE_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.stdout)


def test_sigterm_in_a_real_process_saves_and_resumes(discs, tmp_path):
    command = [sys.executable, "-m", "balancegan", "train", str(discs), *SMALL, "--steps", "100000", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in stderr
    assert json.loads(stdout)["error"]["exit_code"] == 143
    resumed = call_json("train", discs, *SMALL, "--steps", "100000", "--max-time", "0.1s")
    assert resumed["resumed_from"] and "step-" in resumed["resumed_from"]


def test_parsers():
    assert [parse_time(t) for t in ("90s", "60m", "1h30m", "1.5h")] == [90, 3600, 5400, 5400]
    assert parse_counts("a=1, b c=2,") == {"a": 1, "b c": 2} and parse_counts(None) == {}
    assert parse_seeds("0-2,7") == [0, 1, 2, 7]
    assert [parse_seed_count(text) for text in ("3", "5,", "0,7", "1-2")] == [(0, 1, 2), (5,), (0, 7), (1, 2)]
    assert parse_counts('"x,y=3",z=4') == {"x,y": 3, "z": 4}
    for bad in ("a", "a=", "a=²", "a=1,a=2", "a=-1"):
        with pytest.raises(UsageError):
            parse_counts(bad)
    for bad in ("0-99999999999", "9" * 30, "x"):
        with pytest.raises(UsageError):
            parse_seeds(bad)
    for bad in ("", "h", "5x", "1h30"):
        with pytest.raises(UsageError):
            parse_time(bad)
    with pytest.raises(UsageError) as error:
        parse_time("12")
    assert error.value.hint == "write 12s or 12m"


def test_a_narrow_encoding_does_not_break_the_output(discs):
    out = run_process("inspect", discs, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert out.returncode == 0 and "imbalance rate 4" in out.stdout


def test_sigterm_in_augment_is_a_line_and_143(discs, monkeypatch):
    call("train", discs, *SMALL)
    monkeypatch.setattr("balancegan.commands.augment.restore", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM))
    result = call("augment", "--no-report", code=143)
    assert "run the same command again" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_inspect_does_not_wait_for_a_pipe_in_the_pages_place(discs):
    os.mkfifo("page.html")
    assert "not a regular file" in call("inspect", discs, "--html", "page.html", code=6).stderr


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    write_images(tmp_path / "many", {f"class {k:03d}": 1 for k in range(200)})
    command = (
        f"{sys.executable} -m balancegan inspect many -v 2>/dev/null | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize(
    "words", [("inspect", "x", "--duplicates", "some"), ("augment", "--real", "no"), ("train", "--nope", "1")]
)
def test_a_usage_error_is_a_document_too(words):
    document = call_json(*words, code=2)
    assert (
        document["error"]["exit_code"] == 2 and document["error"]["message"] and "--help" in document["error"]["hint"]
    )
