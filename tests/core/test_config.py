"""Merging of sources, types of values, messages."""

import dataclasses

import pytest

from balancegan.core.config import dump_yaml, load_yaml, parse_set, resolve
from balancegan.core.errors import UsageError
from balancegan.methods.gan import GANConfig


def test_precedence(tmp_path):
    preset, file = {"steps": 1, "batch_size": 1, "lr_g": 1e-3, "seed": 1}, {"batch_size": 2, "lr_g": 2e-3, "seed": 2}
    env = {"BALANCEGAN_LR_G": "3e-3", "BALANCEGAN_SEED": "3"}
    cfg = resolve(GANConfig, preset, file=file, env=env, flags={"seed": 4, "steps": None})
    assert (cfg.steps, cfg.batch_size, cfg.lr_g, cfg.seed) == (1, 2, 3e-3, 4)


def test_yaml_round_trip(tmp_path):
    cfg = resolve(GANConfig, {"group_by": r"^(\w+)_", "lr_g": 5e-5}, env={})
    path = tmp_path / "c.yaml"
    path.write_text(dump_yaml(cfg, method="sgbgan"))
    data = load_yaml(path)
    assert data.pop("method") == "sgbgan" and resolve(GANConfig, {}, file=data, env={}) == cfg


@pytest.mark.parametrize(("text", "value"), [("1_000", 1000), ("1e3", 1000), (" 7 ", 7)])
def test_whole_numbers(text, value):
    assert resolve(GANConfig, {}, flags={"steps": text}, env={}).steps == value


@pytest.mark.parametrize(
    "flags",
    [
        {"steps": "many"},
        {"steps": "1.5"},
        {"steps": -1},
        {"batch_size": 0},
        {"lr_g": 2},
        {"beta1": 1.0},
        {"fit": "squash"},
        {"sampling": "fair"},
        {"holdout": 1.0},
        {"channels": 2},
        {"background": "white"},
        {"group_by": "("},
        {"amp": "perhaps"},
        {"steps": float("inf")},
    ],
)
def test_impossible_values_are_refused_in_one_line(flags):
    with pytest.raises(UsageError) as caught:
        resolve(GANConfig, {}, flags=flags, env={})
    assert next(iter(flags)) in caught.value.message and "\n" not in caught.value.message


def test_unknown_fields_name_the_nearest():
    with pytest.raises(UsageError) as caught:
        resolve(GANConfig, {}, flags={"batchsize": 3}, env={})
    assert "batch_size" in caught.value.hint


def test_set_and_files(tmp_path):
    assert parse_set(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    for bad in ("a", "=3"):
        with pytest.raises(UsageError):
            parse_set([bad])
    path = tmp_path / "bad.yaml"
    for text in ("- 1", "a: [", "!!python/object/apply:os.system ['true']"):
        path.write_text(text)
        with pytest.raises(UsageError):
            load_yaml(path)
    with pytest.raises(UsageError):
        load_yaml(tmp_path / "absent.yaml")


def test_identity_leaves_out_what_may_change():
    cfg = resolve(GANConfig, {}, env={})
    assert cfg.identity() == dataclasses.replace(cfg, steps=5, save_every=7).identity()
    assert cfg.identity() != dataclasses.replace(cfg, seed=1).identity()
