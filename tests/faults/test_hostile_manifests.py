"""Tables, records and configurations that mean harm: refused in one line, never followed out of their folder."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
import yaml
from documents import make_document, make_input
from helpers import train_tiny, write_images
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from balancegan.cli import parse
from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.evaluate import EvaluateOptions
from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.core.config import MOST_YAML, MethodConfig, load_yaml, resolve
from balancegan.core.errors import BalanceGANError, CheckpointError, DatasetError, DiskError, UsageError
from balancegan.core.text import parse_time
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.data.tables import read_table
from balancegan.data.training_set import open_training_set, reopen_training_set
from balancegan.evaluation.assembly import Judging
from balancegan.folder.card import REMOVAL, Card, dataset_card
from balancegan.folder.destination import MARKER
from balancegan.folder.metadata import COLUMNS, stays_inside, table_bytes
from balancegan.folder.real_files import plan_real
from balancegan.inspection.inspect import inspect_folder
from balancegan.methods import load_method
from balancegan.metrics.extractors import choose
from balancegan.report.inspection import render_html
from balancegan.report.pictures import draw_pictures
from balancegan.report.render import render_html as render_report
from balancegan.runs.checkpoint import read_checkpoint
from balancegan.runs.directory import RunDir, find_run
from balancegan.runs.restore import read_config, restore

CPU = torch.device("cpu")
CONFIG = load_method("sgbgan").Config
DEEP = "[" * 50_000
quick = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
text = st.one_of(st.sampled_from(hostile.NAMES), st.text(max_size=20), st.binary(max_size=20).map(os.fsdecode))
names = text.filter(lambda n: n and "\0" not in n and _storable(n))


def _storable(name: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(name)) == name
    except UnicodeEncodeError:
        return False


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny trained run and its data."""
    base = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BALANCEGAN_CACHE_DIR", str(base / "cache"))
        data = write_images(base / "data", {"ant": 8, "bee": 5})
        return RunDir(train_tiny(data, base / "runs", method="dcgan", steps=1)["run"])


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to be harmed."""
    import shutil

    return RunDir(shutil.copytree(trained.path, tmp_path / "runs" / trained.name))


# metadata.csv --------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(names, max_size=6))
@example(["a\rb", "a\r\nb", "a\nb", 'a"b', '"', "a,b", " a ", "=a", "\ufeffa", "\udcff"])
def test_names_come_back_from_the_table(tmp_path_factory, found):
    table = tmp_path_factory.getbasetemp() / "metadata.csv"
    table.write_bytes(table_bytes([{"file_name": name, "label": name} for name in found]))
    assert [(row["file_name"], row["label"]) for row in read_table(table)] == [(name, name) for name in found]
    assert b"\r\n" not in table_bytes([{"file_name": "a"}])


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\0b", "../../outside.png"])
def test_what_leads_out_of_a_folder(name):
    assert not stays_inside(name)


@given(names)
@settings(quick)
def test_names_without_steps_stay_inside(name):
    assert stays_inside(f"class/{name}") or ".." in name.split("/")


def evaluated(real, fake, out):
    judging = Judging(choose("own"), CPU, utility=False)
    return evaluate_folders(real, fake, EvaluateOptions(out=out), judging)


@pytest.mark.usefixtures("quick_reports")
def test_evaluate_opens_nothing_that_a_table_names(tmp_path, monkeypatch):
    real, fake = (write_images(tmp_path / n, {"ant": 6, "bee": 6}, seed=k) for k, n in enumerate(("real", "fake")))
    secret = tmp_path / "outside.png"
    secret.write_bytes(hostile.pictures()["png"])
    rows = [{"file_name": n, "synthetic": "true"} for n in ("../outside.png", str(secret), "../../outside.png")]
    rows += [{"file_name": f"ant/{i:03d}.png", "synthetic": "true"} for i in range(6)]
    rows += [{"file_name": f"bee/{i:03d}.png", "synthetic": "false"} for i in range(6)]
    (fake / "metadata.csv").write_bytes(table_bytes(rows))
    opened = []
    plain = os.open
    monkeypatch.setattr(os, "open", lambda path, *args, **more: opened.append(str(path)) or plain(path, *args, **more))
    document = evaluated(real, fake, tmp_path / "report")
    assert {c["name"]: c["n_fake"] for c in document["classes"]} == {"ant": 6, "bee": 0}
    assert opened and not any("outside" in path for path in opened)


@pytest.mark.parametrize(
    "content", [b'file_name,synthetic\n"' + b"x" * 200_000 + b'",true\n', b"file_name,synthetic\na\rb\rc,true\n", b""]
)
def test_damaged_tables(tmp_path, content):
    real, fake = (write_images(tmp_path / n, {"ant": 6, "bee": 6}) for n in ("real", "fake"))
    (fake / "metadata.csv").write_bytes(content)
    with contextlib.suppress(BalanceGANError):
        from balancegan.folder.metadata import synthetic_images

        folder = scan(fake)
        assert synthetic_images(folder, folder.files, none=True).all()
    if b"x" * 1000 in content:
        with pytest.raises(DatasetError, match="cannot be read: field larger"):
            evaluated(real, fake, tmp_path / "report")


def test_a_table_that_is_a_pipe_or_a_device_is_not_read(tmp_path):
    for kind, make in hostile.special_files().items():
        make(tmp_path / kind)
        with pytest.raises(DatasetError):
            list(read_table(tmp_path / kind))


def test_removal_does_not_leave_the_folder(tmp_path):
    inside = tmp_path / "balanced"
    (inside / "ant").mkdir(parents=True)
    for path in (tmp_path / "outside.png", inside / "ant" / "syn_1.png", inside / "ant" / "a\rb.png"):
        path.write_bytes(b"x")
    out = ["../outside.png", str(tmp_path / "outside.png"), "ant/../../outside.png", "ant/syn_1.png"]
    rows = [{"file_name": name, "synthetic": "true"} for name in out]
    (inside / "metadata.csv").write_bytes(table_bytes([*rows, {"file_name": "ant/a\rb.png", "synthetic": "false"}]))
    subprocess.run([sys.executable, "-c", REMOVAL], cwd=inside, check=True)
    assert (tmp_path / "outside.png").exists() and not (inside / "ant" / "syn_1.png").exists()
    assert [row["file_name"] for row in read_table(inside / "metadata.csv")] == ["ant/a\rb.png"]


# .balancegan.json ----------------------------------------------------------------------------------------------------


def go(run, out):
    return augment(run, AugmentOptions(out=out, fill="generated", report=False, filter="none"), device=CPU)


MARKERS = {
    "nested": DEEP,
    "null": "null",
    "list": "[]",
    "text": '"x"',
    "cut": '{"key": "',
    "no key": "{}",
    "other key": '{"key": ["x"]}',
    "bytes": "\udcff",
}


@pytest.mark.parametrize("kind", MARKERS)
def test_hostile_markers_are_refused(trained, tmp_path, kind):
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).write_bytes(MARKERS[kind].encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"not empty|another command"):
        go(trained, out)
    assert [p.name for p in out.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    "result", [None, {}, [], {"classes": "x"}, {"classes": [{"name": 1}]}, {"card": [1], "extractor": 5, "utility": 1}]
)
def test_a_marker_with_the_right_key_and_a_wrong_result(trained, tmp_path, result):
    out = tmp_path / "out"
    whole = go(trained, out)
    marker = json.loads((out / MARKER).read_text())
    (out / MARKER).write_text(json.dumps({**marker, "result": result}))
    again = go(trained, out)
    assert again["classes"] == whole["classes"] and again["complete"]
    assert json.loads((out / MARKER).read_text())["result"]["classes"] == whole["classes"]


@pytest.mark.parametrize("name", ["../../outside.png", "/dev/null", "x" * 5000, "../data/ant/000.png"])
def test_a_finished_folder_whose_table_leads_out_is_not_whole(trained, tmp_path, name):
    """Files elsewhere do not count as the folder's."""
    out = tmp_path / "out"
    go(trained, out)
    (tmp_path.parent / "outside.png").write_bytes(b"x")
    table = (out / "metadata.csv").read_text()
    (out / "metadata.csv").write_text(table + f"{name},ant,generated,true,-,-,-,-,train\n")
    go(trained, out)
    assert (out / "metadata.csv").read_text() == table


def test_links_left_in_an_unfinished_folder_are_not_written_through(trained, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    go(trained, out)
    marker = json.loads((out / MARKER).read_text())
    (out / MARKER).write_text(json.dumps({**marker, "finished": False}))
    elsewhere.mkdir()
    (out / "bee").rename(tmp_path / "away")
    (out / "bee").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(DiskError, match="leads out"):
        go(trained, out)
    assert list(elsewhere.iterdir()) == []


# Runs ----------------------------------------------------------------------------------------------------------------


def harmed(document, path, value):
    """The document with another value at a path of keys."""
    if not path:
        return value
    return {**document, path[0]: harmed(document.get(path[0], {}), path[1:], value)}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("train_counts",), {"ant": 1e400, "bee": 1}),
        (("train_counts",), {"ant": "8", "bee": 5}),
        (("train_counts", "ant"), -1),
        (("train_counts", "ant"), 10**400),
        (("train_counts",), []),
        (("trained_classes",), "ab"),
        (("trained_classes",), ["ant", ["bee"]]),
        (("trained_classes",), ["ant", "ant"]),
        (("channels",), 10**9),
        (("channels",), True),
        (("image_size",), 10**9),
        (("image_size",), "16"),
        (("data",), None),
        ((), []),
    ],
)
def test_hostile_datasets(run, path, value):
    whole = run.read_json("dataset.json")
    (run.path / "dataset.json").write_text(json.dumps(harmed(whole, path, value)))
    with pytest.raises(CheckpointError) as caught:
        restore(run, CPU)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [(("data",), "x" * 5000), (("data",), "a\0\nb"), (("holdout",), 3), (("counts",), {"train": {"a": "x"}})],
)
def test_hostile_places_of_the_data(run, path, value):
    recorded = harmed(run.read_json("dataset.json"), path, value)
    with pytest.raises((CheckpointError, DatasetError)) as caught:
        reopen_training_set(recorded, read_config(run)[1])
    assert caught.value.message.isprintable() and len(caught.value.message) < 1000


@pytest.mark.parametrize("name", ["dataset.json", "config.yaml"])
@pytest.mark.parametrize("content", [DEEP, "", "\0", "\udcff", "- 1", "2001-99-99", "a: !!int ''", "a: &x [*x]"])
def test_hostile_records(run, name, content):
    (run.path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError) as caught:
        restore(run, CPU)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["dataset.json", "config.yaml", "MANIFEST.json", "weights.safetensors", "state.pt"])
def test_records_that_are_no_files(run, name):
    folder = run.path if name in ("dataset.json", "config.yaml") else run.checkpoint_dirs()[0]
    for make in hostile.special_files().values():
        (folder / name).unlink()
        make(folder / name)
        with pytest.raises(CheckpointError):
            restore(run, CPU) if folder == run.path else read_checkpoint(folder)


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace a part of a checkpoint, and its hash: who sends one sends the other."""
    import hashlib

    (path / name).write_bytes(data)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    (path / "MANIFEST.json").write_text(json.dumps(manifest))


def tensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        tensors(b"{}")[:-1],
        tensors(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        tensors(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        tensors(b'{"a":{"dtype":"F8_E8M0","shape":[0],"data_offsets":[0,0]}}'),
        tensors(DEEP.encode()),
    ],
)
def test_hostile_weights(run, data):
    path = run.checkpoint_dirs()[0]
    rewrite(path, "weights.safetensors", data)
    with contextlib.suppress(CheckpointError):  # a type that this torch knows is no harm
        read_checkpoint(path)


def pickled(state: object, **options: object) -> bytes:
    out = io.BytesIO()
    torch.save(state, out, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02.",  # an empty stack
        b"\x80\x020.",
        b"\x80\x02]q\x00(h\x01e.",
        b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        pickled([1, 2]),
        pickled("text"),
        pickled({"a": torch.zeros(3)})[:-100],
        pickled({"a": 1}, _use_new_zipfile_serialization=False)[:40],
    ],
)
def test_hostile_states(run, data):
    path = run.checkpoint_dirs()[0]
    rewrite(path, "state.pt", data)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert caught.value.message.isprintable()


def test_states_run_no_code(run, tmp_path):
    path, harm = run.checkpoint_dirs()[0], tmp_path / "harm"

    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(harm),))

    rewrite(path, "state.pt", pickled({"a": Harm()}))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not harm.exists()


@pytest.mark.parametrize(
    "manifest", [DEEP, "null", "[]", '{"schema_version": 1}', '{"schema_version": {"a": "\\u001b"}}']
)
def test_hostile_manifests(run, manifest):
    path = run.checkpoint_dirs()[0]
    (path / "MANIFEST.json").write_text(manifest)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert caught.value.message.isprintable() and caught.value.hint.isprintable()


@pytest.mark.parametrize("kind", ["deep", "pipe", "dangling link", "file"])
def test_a_checkpoint_beside_good_ones(run, kind):
    """What only looks like a checkpoint, or has a manifest that is none, costs nothing but itself."""
    import shutil

    good = run.checkpoint_dirs()[0]
    other = good.with_name("step-009999")
    if kind == "dangling link":
        other.symlink_to("/nowhere/at/all")
    elif kind == "file":
        other.write_text("no")
    else:
        shutil.copytree(good, other)
        (other / "MANIFEST.json").unlink()
        if kind == "deep":
            (other / "MANIFEST.json").write_text(DEEP)
        else:
            os.mkfifo(other / "MANIFEST.json")
    for choice in ("auto", "newest"):
        assert run.load_checkpoint(choice=choice).path == good


def test_an_endless_step(run):
    path = run.checkpoint_dirs()[0]
    manifest = (path / "MANIFEST.json").read_text()
    (path / "MANIFEST.json").write_text(re.sub(r'"step": \d+', '"step": 1e999', manifest))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_hostile_metrics(run):
    rows = ['{"step": 1, "loss/g": 1.0}', DEEP, '{"step": "x"}', '{"step": 1' + "0" * 400 + "}", "[]", "NaN", '{"step"']
    (run.path / "metrics.jsonl").write_text("\n".join([*rows, '{"step": 2, "loss/g": 1' + "0" * 400 + "}"]))
    assert run.read_metrics() == [{"step": 1, "loss/g": 1.0}]


@pytest.mark.parametrize("name", ["²", "٣", "9" * 5000, "x" * 5000, "a\0b", "a\nb\x1b", "../..", "\udcff"])
def test_odd_names_of_runs(trained, name):
    with pytest.raises(UsageError) as caught:
        find_run(name, trained.path.parent)
    assert caught.value.message.isprintable() and len(caught.value.message) < 1000


# Configurations ------------------------------------------------------------------------------------------------------

LAUGHS = (
    "steps: [&a [x, x], " + ", ".join(f"&{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(12)) + "]"
)
MERGES = "\n".join(
    [
        "a: &a {steps: 3}",
        *(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 9)}]}}" for i in range(9)),
    ]
)


@pytest.mark.parametrize(
    "content",
    [
        *(
            DEEP,
            LAUGHS,
            MERGES,
            "{" * 3000,
            "steps: 2001-99-99",
            "amp: !!bool maybe",
            "a: !!timestamp x",
            'a: !!int ""',
        ),
        *("steps: 0x" + "f" * 5000, "steps: " + "9" * 5000, "steps: 9223372036854775808", "lr_g: 0x" + "f" * 500),
        *(
            "group_by: '" + "(" * 5000 + ")" * 5000 + "'",
            "group_by: 'a{99999999999999}'",
            "steps: " + "1:" * 30_000 + "1",
        ),
        *("? " + "[" * 1200 + "? {a!:2", "? [\n" * 10_000, "[" + "a," * 30_000),
        *(
            "amp: 0x" + "f" * 5000,
            "holdout_seed: " + "9" * 100,
            "? [1]\n: 2",
            "steps: [1]",
            "\0",
            "a: \x1b",
            "x" * 70_000,
        ),
    ],
)
def test_hostile_configurations(tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    started = time.monotonic()
    with pytest.raises(UsageError) as caught:
        resolve(CONFIG, {}, file=load_yaml(tmp_path / "c.yaml"), env={})
    assert time.monotonic() - started < 60  # on a busy machine; without the limits it is minutes
    assert caught.value.message.isprintable() and len(caught.value.message) < 1000


def test_a_configuration_without_end():
    if not Path("/dev/zero").exists():
        pytest.skip("no such device")
    with pytest.raises(UsageError, match=f"{MOST_YAML:,} bytes"):
        load_yaml(Path("/dev/zero"))
    with pytest.raises(UsageError):
        load_yaml(Path("a\0b"))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    text,
    st.integers(5000, 5003).map(lambda n: 10**n),
    st.binary(max_size=5),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


@quick
@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(CONFIG)]) | text, values, max_size=4))
def test_any_value_is_taken_or_refused(found):
    try:
        made = resolve(CONFIG, {}, file=found, env={})
    except UsageError as refused:
        assert len(refused.message) < 1000 and "\n" not in refused.message
    else:
        assert resolve(CONFIG, {}, file=dataclasses.asdict(made), env={}) == made


@quick
@given(st.one_of(text, st.text("0123456789-,.=eE hms\"'", max_size=40)))
@example("9" * 5000)
@example("9" * 5000 + "s")
@example("0-" + "9" * 18)
def test_the_options_languages(said):
    for parser in (parse_time, parse.parse_counts, parse.parse_names, parse.parse_seeds, parse.parse_rates):
        with contextlib.suppress(UsageError):
            parser(said)
    with contextlib.suppress(UsageError):
        parse.parse_seed_count(said)


# The cache -----------------------------------------------------------------------------------------------------------


def test_a_hostile_cache_is_built_anew(tmp_path):
    folder = scan(write_images(tmp_path / "data", {"ant": 3, "bee": 2}))
    wanted = DecodeSettings(image_size=8)
    store = open_store(folder, wanted, cache_dir=tmp_path / "cache")
    before = np.array(store.images)
    whole = json.loads((store.path / "meta.json").read_text())
    for meta in (
        DEEP,
        "null",
        {**whole, "window": [1]},
        {**whole, "bad_files": [["../../x", "y"]]},
        {**whole, "settings": 3},
    ):
        (store.path / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
        again = open_store(folder, wanted, cache_dir=tmp_path / "cache")
        assert (np.array(again.images) == before).all() and not again.bad_files
    for rows in ([-1, 0, 1, 2, 3], [0, 0, 1, 2, 3], [0.5] * 5, [4, 3, 2, 1, 0]):
        np.savez(store.path / "rows.npz", rows=rows, sizes=np.ones((5, 2), np.int32), modes=["RGB"] * 5)
        again = open_store(folder, wanted, cache_dir=tmp_path / "cache")
        assert [f.rel for f in again.files] == [f.rel for f in folder.files]


# Pages and cards -----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Elements and attributes of a page, and whether it calls any script by an attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def skeleton(page: str) -> tuple[list[str], set[str]]:
    """The page's markup without its text: names must not change it."""
    found = Tags(page)
    return [tag for tag in found.tags if tag not in ("code", "wbr")], found.attributes


@settings(quick, max_examples=6)
@given(st.lists(names, min_size=3, max_size=3, unique=True))
@example(["<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", '" onmouseover="alert(1)'])
def test_names_are_no_markup_on_the_report(found):
    plain = ["ant", "bee", "cat"]
    pages = [
        render_report(doc, draw_pictures(make_input(ns), doc)) for ns in (plain, found) for doc in [make_document(ns)]
    ]
    assert skeleton(pages[1]) == skeleton(pages[0])
    pages[1].encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", pages[1])


@settings(quick, max_examples=25)
@given(st.lists(names.filter(lambda n: "/" not in n), min_size=2, max_size=2, unique=True), names)
@example(["<script>alert(1)<", "</title><b>".replace("/", "")], "<img src=x onerror=alert(1)>`a`")
def test_names_are_no_markup_when_inspected(tmp_path_factory, classes, note):
    folder = scan(write_images(tmp_path_factory.mktemp("d") / "data", {"ant": 2, "bee": 1}))
    found = inspect_folder(folder)
    renamed = dataclasses.replace(folder, classes=tuple(classes), notes=(note,))
    odd = dataclasses.replace(
        found,
        root=note,
        classes=tuple(dataclasses.replace(c, name=n) for c, n in zip(found.classes, classes, strict=True)),
        notes=(note,),
        advice=(note, *found.advice[1:]),
    )
    plain = render_html(dataclasses.replace(found, notes=("x",), advice=("x", *found.advice[1:])), folder)
    page = render_html(odd, renamed)
    page.encode()
    assert skeleton(page) == skeleton(plain)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page)


@quick
@given(names, st.lists(names, min_size=1, max_size=3, unique=True), names)
@example("a\n---\nlicense: mit", ["| a |\n|--|", "<script>", "[x](javascript:alert(1))"], "&lt; ![](http://e)")
def test_names_are_neither_yaml_nor_markdown_in_the_card(source, classes, note):
    counts = dict.fromkeys(classes, (3, 4, 5))
    card = Card(
        source, "SGBGAN", "a paper", "00003-x", "00003", "0" * 64, counts, (2.0, 1.0), "64x64", 64, notes=(note,)
    )
    made = dataset_card(dataclasses.replace(card, short=tuple(classes)))
    made.encode()
    front, body = made.removeprefix("---\n").split("\n---\n", 1)
    assert set(yaml.safe_load(front)) == {"pretty_name", "license", "task_categories", "tags", "size_categories"}
    prose = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    prose = re.sub(r"(?<!\\)`[^`\n]*`", "", prose)
    assert "<" not in prose and not re.search(r"(?<!\\)\]\(", prose)
    rows = [line for line in prose.splitlines() if line.startswith("|")]
    assert len(rows) == len(classes) + 3 and all(len(re.split(r"(?<!\\)\|", row)) == 7 for row in rows)
    plain = dataclasses.replace(card, source="s", counts=dict.fromkeys("abc"[: len(classes)], (3, 4, 5)), notes=("n",))
    assert body.count("\n") == dataset_card(dataclasses.replace(plain, short=("a",))).split("\n---\n", 1)[1].count("\n")


# Many classes --------------------------------------------------------------------------------------------------------


def many(root: Path, classes: int) -> Path:
    """One to three tiny images a class, under names that need sorting."""
    for k in range(classes):
        (root / f"class {k}").mkdir(parents=True)
        for i in range(1 + k % 3):
            data = hostile.encoded(hostile.picture(3 * k + i, size=(16, 16)), "BMP")
            (root / f"class {k}" / f"{i}.bmp").write_bytes(data)
    return root


def test_a_thousand_classes(tmp_path):
    root = many(tmp_path / "data", 1000)
    before = {p.name for p in root.iterdir()}
    folder = scan(root)
    assert len(folder.classes) == 1000 and list(folder.classes) == sorted(folder.classes)
    found = inspect_folder(folder)
    assert len(json.dumps(found.to_json(), allow_nan=False)) > 1000 and found.imbalance_rate == 3
    assert render_html(found, folder).count("<tr>") >= 1000
    data = open_training_set(root, MethodConfig(image_size=8))
    assert len(data.class_names) == 1000 and len(data.store) == 1999
    planned, _ = plan_real(data, "copy")
    assert len({file.target for file in planned}) == 1999
    assert {p.name for p in root.iterdir()} == before


@pytest.mark.slow
def test_a_thousand_classes_are_trained_and_filled(tmp_path):
    run = RunDir(train_tiny(many(tmp_path / "data", 1000), tmp_path / "runs", steps=2, pretrain_steps=2)["run"])
    document = go(run, tmp_path / "out")
    assert document["complete"] and len(document["classes"]) == 1000 and document["imbalance_rate_after"] == 1
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 3000
    assert COLUMNS[0] == "file_name"
