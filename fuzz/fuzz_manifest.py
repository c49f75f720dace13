"""Fuzz what stands beside images and networks: a folder's tables, the cache's, a run's records and checkpoints.

    python fuzz/fuzz_manifest.py -max_total_time=240 [CORPUS]

A finding is any exception outside the documented family (of the cache's reader and the metrics' any at all), a path
that leads out of its folder, more than 5 seconds, or more than 2 GB. Hashes in a checkpoint's manifest are made right
first: who sends a hostile checkpoint sends its hashes too.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from common import instrumented, scratch, start

with instrumented():
    import csv
    import json.decoder

    import safetensors.torch
    import torch._weights_only_unpickler

    from balancegan.data import store, training_set
    from balancegan.folder import destination, metadata
    from balancegan.runs import checkpoint, restore
    from balancegan.runs import directory as rundir

import contextlib

import hostile
import numpy as np
import torch

from balancegan.core.errors import BalanceGANError, CheckpointError, DatasetError, UsageError
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.tables import read_table
from balancegan.methods import load_method

assert csv and json.decoder and safetensors.torch and torch._weights_only_unpickler
PLACE = scratch("manifest")
TINY = {"image_size": 16, "width": 16, "latent_dim": 8}


def _data() -> Path:
    for k, name in enumerate("ab"):
        (PLACE / "data" / name).mkdir(parents=True)
        for i in range(2):
            image = hostile.encoded(hostile.picture(2 * k + i), "PNG")
            (PLACE / "data" / name / f"{i}.png").write_bytes(image)
    return PLACE / "data"


FOLDER = scan(_data())
STORE = store.open_store(FOLDER, DecodeSettings(image_size=16), cache_dir=PLACE / "cache")
TABLE = FOLDER.root / metadata.NAME
MARKER = PLACE / "out" / destination.MARKER
MARKER.parent.mkdir()
KIND = load_method("dcgan")


def _checkpoint(files: dict[str, bytes]) -> Path:
    """A checkpoint whose manifest has the right hashes, unless it is the manifest that is tried."""
    path = PLACE / "run" / "checkpoints" / "step-000001"
    path.mkdir(parents=True, exist_ok=True)
    whole = {**WHOLE, **files}
    for name in ("weights.safetensors", "state.pt"):
        (path / name).write_bytes(whole[name])
    hashes = {name: hashlib.sha256(whole[name]).hexdigest() for name in ("weights.safetensors", "state.pt")}
    manifest = {"schema_version": checkpoint.SCHEMA_VERSION, "version": "0", "step": 1, "files": hashes}
    (path / "MANIFEST.json").write_bytes(files.get("MANIFEST.json", json.dumps(manifest).encode()))
    return path


def _whole() -> dict[str, bytes]:
    state = io.BytesIO()
    torch.save({"step": 1, "rng": torch.arange(4), "optim": {"lr": 0.1, "names": ["a"]}}, state)
    old = io.BytesIO()
    torch.save({"step": 1, "rng": torch.arange(4)}, old, _use_new_zipfile_serialization=False)
    weights = safetensors.torch.save({"a": torch.zeros(2, 3), "b": torch.zeros(1, dtype=torch.bfloat16)})
    return {"weights.safetensors": weights, "state.pt": state.getvalue(), "old state.pt": old.getvalue()}


WHOLE = _whole()


def _table(data: bytes) -> None:
    TABLE.write_bytes(data)
    try:
        for row in read_table(TABLE):
            inside = metadata.stays_inside(row.get("file_name", ""))
            joined = (TABLE.parent / row.get("file_name", "")) if inside else TABLE
            assert TABLE.parent in joined.parents
        found = metadata.synthetic_images(FOLDER, FOLDER.files, none=True)
        assert found.shape == (len(FOLDER.files),)
    except DatasetError:
        pass
    shutil.copyfile(TABLE, MARKER.parent / metadata.NAME)
    destination._all_there(MARKER.parent)


def _names(data: bytes) -> None:
    """Names that are written come back as they are."""
    names = [name for name in data.decode("utf-8", "surrogateescape").split("\0") if name]
    TABLE.write_bytes(metadata.table_bytes([{"file_name": name, "label": name} for name in names]))
    assert [row["file_name"] for row in read_table(TABLE)] == names


def _marker(data: bytes) -> None:
    MARKER.write_bytes(data)
    try:
        if destination.check_destination(MARKER.parent, FOLDER, "key"):
            destination.finished_result(MARKER.parent)
    except UsageError:
        pass
    assert isinstance(destination.finished_result(MARKER.parent), dict)


def _meta(data: bytes) -> None:
    """A damaged store is no error: it is None."""
    with _instead(STORE.path / "meta.json", data):
        built = store.read_tables(STORE.path, FOLDER)
        if built is not None:
            store._open(STORE.path, FOLDER, built).summary()


def _rows(data: bytes) -> None:
    with _instead(STORE.path / "rows.npz", data):
        built = store.read_tables(STORE.path, FOLDER)
        if built is not None:
            store._open(STORE.path, FOLDER, built).summary()


class _instead:  # noqa: N801
    """Another content of a file, for a while."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.before = path, path.read_bytes()
        path.write_bytes(data)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.path.write_bytes(self.before)


def _part(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        try:
            found = rundir.read_checkpoint(_checkpoint({name: data}))
            assert isinstance(found.state, dict) and isinstance(found.weights, dict)
        except CheckpointError as error:
            assert error.message.isprintable()

    return read


def _dataset(data: bytes) -> None:
    run = rundir.RunDir(PLACE / "run")
    _checkpoint({})
    (run.path / "config.yaml").write_bytes(CONFIG)
    (run.path / "dataset.json").write_bytes(data)
    with contextlib.suppress(BalanceGANError):
        restore.restore(run, torch.device("cpu"))
    with contextlib.suppress(BalanceGANError):
        training_set.reopen_training_set(run.read_json("dataset.json"), restore.read_config(run)[1])


def _config(data: bytes) -> None:
    run = rundir.RunDir(PLACE / "run")
    run.path.mkdir(exist_ok=True)
    (run.path / "config.yaml").write_bytes(data)
    with contextlib.suppress(CheckpointError):
        restore.read_config(run)


def _metrics(data: bytes) -> None:
    from balancegan.report.loss_charts import loss_curves

    run = rundir.RunDir(PLACE / "run")
    run.path.mkdir(exist_ok=True)
    (run.path / "metrics.jsonl").write_bytes(data)
    rows = run.read_metrics()
    loss_curves(rows)
    run.truncate_metrics(3)


READERS: tuple[Callable[[bytes], None], ...] = (
    *(_table, _names, _marker, _meta, _rows, _part("weights.safetensors"), _part("state.pt"), _part("MANIFEST.json")),
    *(_dataset, _config, _metrics),
)


def _described() -> bytes:
    cfg = KIND.Config(**{k: v for k, v in TINY.items() if k in KIND.Config.__dataclass_fields__})
    data = training_set.open_training_set(FOLDER.root, cfg)
    return json.dumps(data.describe(cfg)).encode()


CONFIG = "\n".join(
    ["method: dcgan", *(f"{k}: {v}" for k, v in TINY.items() if k in KIND.Config.__dataclass_fields__)]
).encode()


def one(data: bytes) -> None:
    """The first byte chooses the reader."""
    READERS[(data[0] if data else 0) % len(READERS)](data[1:])


def seeds() -> list[bytes]:
    """What each reader reads when all is well, and the oddities that each format is known for."""
    rows = [
        {"file_name": n, "label": "a", "synthetic": "true"} for n in ("a/1.png", "../../out.png", "/etc/x", 'a"\r,')
    ]
    marker = {"key": "key", "finished": True, "result": {"extractor": "own", "classes": [], "utility": {}}}
    hashes = {name: hashlib.sha256(WHOLE[name]).hexdigest() for name in ("weights.safetensors", "state.pt")}
    manifest = {"schema_version": 1, "version": "0", "step": 1, "files": hashes}
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    deep = b"[" * 3000
    npz = io.BytesIO()
    np.savez(npz, rows=np.array([2**62] * 4), sizes=np.zeros((4, 2)), modes=np.array(["L"] * 4))
    found: dict[int, list[bytes]] = {
        0: [metadata.table_bytes(rows), b"file_name,synthetic\na,\xff\n", b'a,"b\n', b"\xef\xbb\xbffile_name\r\n\r1\n"],
        1: [b'a\0b,c\0\r\n\0"', "n\u00e9\0\u202e".encode()],
        2: [json.dumps(marker).encode(), deep, b"null", b'{"key":"key","finished":true}'],
        3: [(STORE.path / "meta.json").read_bytes(), deep],
        4: [(STORE.path / "rows.npz").read_bytes(), npz.getvalue()],
        5: [WHOLE["weights.safetensors"], len(header).to_bytes(8, "little") + header, b"\xff" * 16],
        6: [
            WHOLE["state.pt"],
            WHOLE["old state.pt"],
            b"\x80\x02].",
            b"\x80\x02cos\nsystem\n(S'true'\ntR.",
            b"\x80\x020.",
        ],
        7: [json.dumps(manifest).encode(), json.dumps({**manifest, "step": 1e400}).encode(), deep],
        8: [_described(), b'{"train_counts":{"a":1e400},"trained_classes":"ab","data":"x"}', deep],
        9: [CONFIG, b"method: dcgan\nsteps: &a [*a]", b"? {a: 1}\n: 2"],
        10: [
            b'{"step": 1, "loss/g": 2.5, "stage": "gan"}\n' * 3,
            b'{"step": 1' + b"0" * 400 + b"}",
            deep,
            b'{"step":"x"}',
        ],
    }
    return [bytes([k]) + seed for k, group in found.items() for seed in group]


if __name__ == "__main__":
    start("manifest", seeds(), one)
