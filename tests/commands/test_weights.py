"""Fetching and checking weights files, against a server on this machine; and the command around it."""

import dataclasses
import errno
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet50
from typer.testing import CliRunner

from balancegan.cli.app import app
from balancegan.commands import weights
from balancegan.commands.weights import fetch, status, verify
from balancegan.core.errors import CheckpointError, DiskError, UsageError, WeightsMissingError
from balancegan.metrics.weights import PUBLISHED, WEIGHTS_VARIABLE, find_weights

CONTENT = bytes(range(256)) * 10_000  # two blocks and a half


@pytest.fixture(autouse=True)
def no_files_by_chance(monkeypatch):
    for published in PUBLISHED.values():
        monkeypatch.delenv(published.variable, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    """Answers every path with `answer`: (status, announced length, bytes)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            code, length, body = self.server.answer
            self.server.asked += 1
            self.send_response(code)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.answer, served.asked = (200, len(CONTENT), CONTENT), 0
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def published(server, monkeypatch):
    """Inception's entry, with the server's content as its file."""
    port = server.server_address[1]
    digest = hashlib.sha256(CONTENT).hexdigest()
    entry = dataclasses.replace(PUBLISHED["inception"], url=f"http://127.0.0.1:{port}/w.pth", sha256=digest)
    monkeypatch.setitem(PUBLISHED, "inception", entry)
    return entry


@pytest.fixture
def place():
    """Where the file ends up; conftest gives every test its own cache of torch's."""
    return Path(torch.hub.get_dir()) / "checkpoints" / PUBLISHED["inception"].names[0]


def nothing_left(place):
    return not place.parent.exists() or list(place.parent.iterdir()) == []


def test_the_registry():
    assert list(PUBLISHED) == ["inception", "resnet50", "resnet18"]
    for published in PUBLISHED.values():
        assert re.fullmatch("[0-9a-f]{64}", published.sha256) and published.url.startswith("https://")
        # torch names files by the head of their hash.
        assert published.url.endswith(published.names[0]) and published.sha256[:8] in published.names[0]


def test_lookup_of_every_network(tmp_path, monkeypatch):
    for name, published in PUBLISHED.items():
        assert find_weights(name) is None
        monkeypatch.setenv(published.variable, str(tmp_path / name))
        with pytest.raises(WeightsMissingError, match=published.variable) as caught:
            find_weights(name)
        assert f"weights fetch {name}" in caught.value.hint
        (tmp_path / name).touch()
        assert find_weights(name) == tmp_path / name
    with pytest.raises(UsageError, match="vgg") as caught:
        find_weights("vgg")
    assert "resnet50" in caught.value.hint


def test_download(published, place, server):
    calls = []
    done = fetch("inception", progress=lambda *call: calls.append(call))
    assert (done.path, done.action, done.replaced) == (place, "downloaded", False)
    assert place.read_bytes() == CONTENT and list(place.parent.iterdir()) == [place]
    assert calls[0] == ("inception weights", 1 << 20, len(CONTENT))
    assert calls[-1] == ("inception weights", len(CONTENT), len(CONTENT))
    assert find_weights("inception") == place
    assert fetch("inception").action == "kept" and server.asked == 1


def test_an_unknown_length_is_no_hindrance(published, place, server):
    server.answer = (200, None, CONTENT)
    assert fetch("inception").action == "downloaded" and place.read_bytes() == CONTENT


def test_a_damaged_file_is_replaced_and_kept_until_then(published, place, server):
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:100])
    server.answer = (200, 3, b"abc")
    with pytest.raises(CheckpointError):
        fetch("inception")
    assert place.read_bytes() == CONTENT[:100]
    server.answer = (200, len(CONTENT), CONTENT)
    assert fetch("inception").replaced and place.read_bytes() == CONTENT


def test_another_content_is_refused(published, place, server):
    other = CONTENT[:-1] + b"?"
    server.answer = (200, len(other), other)
    with pytest.raises(CheckpointError, match="not the published file") as caught:
        fetch("inception")
    for content in (other, CONTENT):
        assert hashlib.sha256(content).hexdigest()[:16] in caught.value.message
    assert nothing_left(place)


def test_a_connection_that_ends_early(published, place, server):
    server.answer = (200, len(CONTENT), CONTENT[:1_500_000])
    with pytest.raises(WeightsMissingError, match="could not be downloaded") as caught:
        fetch("inception")
    assert "--from FILE" in caught.value.hint and nothing_left(place)


def test_an_endless_answer_is_cut_off(published, place, server, monkeypatch):
    monkeypatch.setattr(weights, "_MOST_BYTES", 1_500_000)
    with pytest.raises(WeightsMissingError, match="far more bytes"):
        fetch("inception")
    assert nothing_left(place)


def test_no_network(published, place, server, monkeypatch):
    server.answer = (404, 0, b"")
    with pytest.raises(WeightsMissingError, match="HTTP 404"):
        fetch("inception")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pth"
        monkeypatch.setitem(PUBLISHED, "inception", dataclasses.replace(published, url=url))
        with pytest.raises(WeightsMissingError, match="refused") as caught:
            fetch("inception")
    assert url in caught.value.message and "\n" not in caught.value.message
    for words in (published.sha256, "balancegan weights fetch inception --from FILE", "--weights", "--extractor own"):
        assert words in caught.value.hint
    assert nothing_left(place)


def test_a_server_that_says_nothing(published, place, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.pth"
        monkeypatch.setitem(PUBLISHED, "inception", dataclasses.replace(published, url=url))
        with pytest.raises(WeightsMissingError, match="timed out"):
            fetch("inception")
    assert nothing_left(place)


def test_from_a_file(published, place, server, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(CONTENT[1:])
    with pytest.raises(CheckpointError, match=re.escape(str(copy))) as caught:
        fetch("inception", source=copy)
    assert "--weights" in caught.value.hint and nothing_left(place) and copy.exists()
    copy.write_bytes(CONTENT)
    assert fetch("inception", source=copy).action == "copied" and place.read_bytes() == CONTENT
    assert fetch("inception", source=copy).action == "kept"
    place.unlink()
    with pytest.raises(UsageError, match="absent"):
        fetch("inception", source=tmp_path / "absent")
    assert server.asked == 0


def test_the_disk_refuses(published, place, monkeypatch, tmp_path):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(weights.os, "fsync", full)
        with pytest.raises(DiskError, match="No space left"):
            fetch("inception")
    assert nothing_left(place)
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="write"):
        fetch("inception")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    """A ResNet-50 that nobody published."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


def test_verify_tells_published_usable_and_damaged(published, network_file, tmp_path):
    (tmp_path / "published.pth").write_bytes(CONTENT)
    found = verify(tmp_path / "published.pth")
    assert (found.name, found.state, found.sha256) == ("inception", "published", published.sha256)
    found = verify(network_file)
    assert (found.name, found.state) == ("resnet50", "usable")
    (tmp_path / "broken.pth").write_bytes(CONTENT[:99])
    found = verify(tmp_path / "broken.pth")
    assert (found.name, found.state) == (None, "damaged") and "damaged" in found.reason
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    assert "none of the networks inception, resnet50, resnet18" in verify(tmp_path / "other.pth").reason
    with pytest.raises(UsageError, match="absent"):
        verify(tmp_path / "absent")


def test_status_of_all(published, place, network_file, monkeypatch):
    assert [(s.name, s.state) for s in status()] == [(name, "missing") for name in PUBLISHED]
    fetch("inception")
    monkeypatch.setenv("BALANCEGAN_RESNET50_WEIGHTS", str(network_file))
    assert [s.state for s in status()] == ["published", "other", "missing"]
    assert [s.state for s in status(load=True)] == ["published", "usable", "missing"]
    place.write_bytes(b"half")
    assert [s.state for s in status(load=True)] == ["damaged", "usable", "missing"]
    monkeypatch.setenv(WEIGHTS_VARIABLE, "/absent/file")
    assert WEIGHTS_VARIABLE in status()[0].reason


def call(*args, code=0):
    result = CliRunner().invoke(app, ["weights", *map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def call_json(*args, code=0):
    document = json.loads(call(*args, "--json", code=code).stdout)
    assert document["schema_version"] == 1
    return document


def test_command_fetch(published, place, server, tmp_path):
    document = call_json("fetch")
    assert document == {
        "schema_version": 1,
        "name": "inception",
        "path": str(place),
        "action": "downloaded",
        "replaced": False,
        "sha256": published.sha256,
    }
    result = call("fetch", "inception", "--quiet")
    assert "already installed" in result.stdout and result.stderr == ""
    place.write_bytes(b"half")
    (tmp_path / "copy.pth").write_bytes(CONTENT)
    assert "replacing a wrong file" in call("fetch", "inception", "--from", tmp_path / "copy.pth").stdout
    assert server.asked == 1
    assert "resnet50" in call("fetch", "vgg", code=2).stderr
    assert "copy" in call("fetch", "resnet50", "--from", tmp_path / "absent", code=2).stderr
    assert "not the published" in call("fetch", "resnet50", "--from", tmp_path / "copy.pth", code=8).stderr
    place.unlink()
    server.answer = (503, 0, b"")
    assert "HTTP 503" in call("fetch", code=7).stderr
    assert call_json("fetch", code=7)["error"]["exit_code"] == 7


def test_command_list_and_verify(published, place, network_file, tmp_path):
    rows = call_json("list")["weights"]
    assert [row["state"] for row in rows] == ["missing"] * 3
    assert set(rows[0]) == {"name", "state", "path", "sha256", "reason", "published"}
    assert "balancegan weights fetch resnet50" in call("list").stdout
    assert [row["state"] for row in call_json("verify")["weights"]] == ["missing"] * 3
    fetch("inception")
    assert "inception: the published file" in call("verify").stdout
    assert "not the published file, but it loads" in call("verify", network_file).stdout
    (row,) = call_json("verify", network_file)["weights"]
    assert (row["name"], row["state"], row["path"]) == ("resnet50", "usable", str(network_file))
    place.write_bytes(b"half")
    result = call("verify", code=8)
    assert "damaged" in result.stdout and "weights fetch inception" in result.stderr
    assert call_json("verify", code=8)["error"]["exit_code"] == 8
    assert "absent" in call("verify", tmp_path / "absent", code=2).stderr
