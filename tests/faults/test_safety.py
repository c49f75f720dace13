"""Nothing of ours can hurt its users: their files stay as they are, nothing is executed, nobody is called."""

import ast
import json
import os
import socket
from pathlib import Path

import pytest
import yaml
from helpers import SHORT, tree, write_images
from PIL import Image
from typer.testing import CliRunner

import balancegan
from balancegan.cli.app import app
from balancegan.core import config
from balancegan.core.errors import UsageError
from balancegan.metrics.weights import PUBLISHED

PACKAGE = Path(balancegan.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to reach another machine, or to look one up, fails the test."""
    tried = []

    def refused(*arguments, **_):
        tried.append(arguments[:2])
        raise AssertionError(f"the network was asked for: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused, raising=False)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refused)
    return tried


@pytest.mark.usefixtures("quick_reports")
def test_the_whole_pipeline_leaves_the_source_alone_and_calls_nobody(tmp_path, monkeypatch, no_network):
    """Bytes, permissions and times of every file and folder are what they were, links are links."""
    source, extra = write_images(tmp_path / "data", {"ant": 24, "bee": 8, "cat": 6}), tmp_path / "elsewhere.png"
    Image.new("RGB", (20, 20), (9, 9, 9)).save(extra)
    (source / "ant" / "link.png").symlink_to(extra)
    (source / "bee" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    (source / "cat" / "notes.txt").write_text("mine")
    (source / ".hidden").write_text("mine")
    (source / "cat" / "000.png").chmod(0o444)
    os.utime(source / "bee" / "001.png", (1, 1))
    monkeypatch.chdir(tmp_path)
    before = tree(source)
    for arguments in (
        ("inspect", source, "--html", "page.html", "--duplicates", "near"),
        ("imbalance", source, "copy", "--ir", "2"),
        ("train", source, *SHORT),
        ("train", source, *SHORT, "--dry-run"),
        ("sample",),
        ("augment", "--fill", "generated", "--filter", "none", "--real", "hardlink"),
        ("augment", "--out", "links", "--real", "symlink", "--filter", "quality", "--share", "0.5", "--no-report"),
        ("evaluate",),
        ("evaluate", source, "balanced"),
        ("compare", source, "--methods", "bagan,dcgan", "--seeds", "1", "--images", "20", *SHORT),
        ("weights", "list"),
        ("weights", "verify"),
    ):
        result = CliRunner().invoke(app, [str(a) for a in (*arguments, "--json")])
        assert result.exit_code == 0, (arguments, result.stdout, result.stderr)
        assert tree(source) == before, arguments
    assert no_network == []


def calls(tree):
    """(name of what is called, its keywords) of every call in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_that_is_read_is_executed(path):
    """Every reader is the safe one: tensors only, arrays only, plain YAML; and no shell anywhere."""
    module = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "subprocess"}
    for name, keywords in calls(module):
        assert name not in {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "pickle.loads"}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        if name in {"np.load", "numpy.load"}:
            assert keywords.get("allow_pickle") == "False"
        if name.endswith("Environment"):  # jinja2's: names of files and classes are text, whatever they hold
            assert keywords.get("autoescape") == "True"


def test_the_one_yaml_reader_is_a_safe_one(tmp_path):
    assert issubclass(config._Loader, yaml.SafeLoader)
    readers = {p.name for p in MODULES for name, _ in calls(ast.parse(p.read_text())) if name.startswith("yaml.load")}
    assert readers == {"config.py"}
    evil = tmp_path / "evil.yaml"
    evil.write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(UsageError, match="YAML"):
        config.load_yaml(evil)
    assert not (tmp_path / "made").exists()


def test_one_module_knows_the_network():
    """`weights fetch` alone downloads, from where `weights list` says, over an encrypted connection."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if name.split(".")[0] in {"urllib", "http", "socket", "requests", "httpx", "ftplib", "smtplib"}
    }
    assert users == {"commands/weights.py"}
    assert all(item.url.startswith("https://") for item in PUBLISHED.values())


def test_a_result_in_json_is_one_document_whatever_the_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", {'a"\n{b': 3, "\u202egnp.c": 2})
    result = CliRunner().invoke(app, ["inspect", "data", "--json"])
    assert [c["name"] for c in json.loads(result.stdout)["classes"]] == ['a"\n{b', "\u202egnp.c"]
