"""Fuzz what people and files say about a training: YAML, --set, environment variables, the options' small languages.

    python fuzz/fuzz_config.py -max_total_time=240 [CORPUS]

A finding is anything but a UsageError, a configuration that is accepted and cannot be written and read back, more than
5 seconds, or more than 2 GB.
"""

from __future__ import annotations

from common import instrumented, scratch, start

with instrumented():
    import yaml
    import yaml.composer
    import yaml.constructor
    import yaml.parser
    import yaml.scanner

    from balancegan.cli import parse
    from balancegan.core import config, text
    from balancegan.methods import METHODS, load_method

from balancegan.core.errors import UsageError

assert yaml
FILE = scratch("config") / "config.yaml"
KINDS = [load_method(name).Config for name in METHODS]
PARSERS = (
    text.parse_time,
    parse.parse_counts,
    parse.parse_names,
    parse.parse_seeds,
    parse.parse_seed_count,
    parse.parse_rates,
)


def one(data: bytes) -> None:
    """The first byte chooses what the rest is given to."""
    which, rest = data[:1] or b"\0", data[1:]
    text = rest.decode("utf-8", "surrogateescape")
    kind = KINDS[which[0] % len(KINDS)]
    try:
        match which[0] // 16 % 4:
            case 0 | 1:
                FILE.write_bytes(rest)
                _resolve(kind, file=config.load_yaml(FILE))
            case 2:
                pairs = config.parse_set(text.split("\n"))
                _resolve(kind, flags=pairs)
            case 3:
                name, _, value = text.partition("=")
                _resolve(kind, env={f"BALANCEGAN_{name.upper()}": value})
    except UsageError as error:
        _check(error)
    for parser in PARSERS:
        try:
            parser(text)
        except UsageError as error:
            _check(error)


def _resolve(kind: type[config.MethodConfig], **sources: object) -> None:
    made = config.resolve(kind, {}, **{"env": {}, **sources})  # type: ignore[arg-type]
    assert len(made.background_rgb) == 3
    text = config.dump_yaml(made)
    assert config.resolve(kind, {}, file=config.parse_yaml(text.encode()), env={}) == made


def _check(error: UsageError) -> None:
    assert error.message and len(error.message) < 100_000


def seeds() -> list[bytes]:
    """Every field of every method, and what the parsers' messages suggest."""
    found = []
    for k, kind in enumerate(KINDS):
        text = config.dump_yaml(kind()).encode()
        found += [bytes([k]) + text, *(bytes([k]) + line for line in text.splitlines())]
        found.append(bytes([32 + k]) + b"\n".join(line.replace(b": ", b"=") for line in text.splitlines()))
        found += [bytes([48 + k]) + line.replace(b": ", b"=") for line in text.splitlines()]
    odd = ["steps: 0x1F", "steps: 1:30", "lr_g: .inf", "a: &a [1]\nb: *a", "<<: {steps: 3}", "steps: !!int '3'"]
    odd += ["steps: 2001-01-01", "? [1]\n: 2", "--- |\n x", "amp: !!bool on", "fit: !!binary aGk=", "{steps: 3, }"]
    odd += ["1h30m", "90s", "ring=500,schizont=300", '"a,b",c', "0-3,7", "5,", "1,5,100", "1e3", "0" * 50]
    return [*found, *(bytes([0]) + text.encode() for text in odd)]


if __name__ == "__main__":
    start("config", seeds(), one)
