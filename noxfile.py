"""The tests on every Python and with the oldest and the newest packages that pyproject.toml admits.

`pip install nox && nox` runs what the Pythons on this machine allow and skips the others; `nox --list` names the
sessions, and `nox -s "tests(3.11-lowest)" -- tests/data` runs part of one. Each environment takes about 6 GB.
"""

import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST = PYTHONS[0]
COMBINATIONS = [(OLDEST, "lowest"), *((python, "highest") for python in PYTHONS)]
"""The lowest versions belong to the oldest Python: many of them have no wheels for a newer one."""

TEST_PACKAGES = ("hypothesis", "pytest", "pytest-xdist", "selenium")
"""Of the development packages, those that the tests import."""

nox.options.sessions = ["lint", "tests"]


def declared() -> dict[str, Requirement]:
    """The packages that pyproject.toml names, by name, for running and for development."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def lower_bound(requirement: Requirement) -> str:
    """`name==X` for `name>=X`; anything else is an error, so that no bound goes untested."""
    (bound,) = requirement.specifier
    if bound.operator != ">=":
        raise ValueError(f"{requirement}: expected a lower bound, as in {requirement.name}>=1.0")
    return f"{requirement.name}=={bound.version}"


@nox.session
@nox.parametrize("python,resolution", COMBINATIONS, ids=map("-".join, COMBINATIONS))
def tests(session: nox.Session, resolution: str) -> None:
    """Run the tests with the lowest or the highest versions of the packages."""
    packages = declared()
    wanted = [str(packages[name]) for name in TEST_PACKAGES]
    if resolution == "lowest":
        constraints = Path(session.create_tmp()) / "lowest.txt"
        bounded = [requirement for requirement in packages.values() if requirement.specifier]
        constraints.write_text("\n".join(map(lower_bound, bounded)) + "\n", encoding="utf-8")
        session.install("-c", str(constraints), "-e", ".", *wanted)
    else:
        session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".", *wanted)
    session.run("pip", "list", "--format=freeze")
    session.run("pytest", *session.posargs)


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(str(declared()["ruff"]))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
