"""The layering of the package, read from its imports."""

import ast
from pathlib import Path

import pytest

import balancegan

PACKAGE = Path(balancegan.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
COMMAND_LINE = (
    "balancegan.cli",
    "balancegan.cli_machine",
    "balancegan.cli_weights",
    "balancegan.options",
    "balancegan.show",
)


def imports(path: Path) -> set[str]:
    """Absolute names of everything that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name(path: Path) -> str:
    return ".".join(("balancegan", *path.relative_to(PACKAGE).with_suffix("").parts))


def depends(path: Path, *prefixes: str) -> set[str]:
    return {i for i in imports(path) for p in prefixes if i == p or i.startswith(p + ".")}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_one_way(path):
    module = name(path)
    if module not in (*COMMAND_LINE, "balancegan.console"):
        assert not depends(path, "typer", "rich"), "only the command line talks to people"
    if module not in (*COMMAND_LINE, "balancegan.__main__"):
        assert not depends(path, "balancegan.cli", "balancegan.console")
    if module.startswith("balancegan.nets") or module == "balancegan.losses":
        assert not depends(path, "balancegan.methods", "balancegan.train", "balancegan.data", "balancegan.config")
    if module.startswith("balancegan.methods"):
        assert not depends(path, "balancegan.train", "balancegan.rundir", "balancegan.data", "balancegan.report")
    if module.startswith("balancegan.metrics"):
        assert not depends(path, "balancegan.data", "balancegan.report", "balancegan.train", "balancegan.methods")
    if module.startswith("balancegan.data"):
        assert not depends(path, "balancegan.train", "balancegan.methods", "balancegan.nets", "balancegan.report")
    if module == "balancegan.train":
        assert depends(path, "balancegan.methods") <= {
            "balancegan.methods.base",
            "balancegan.methods.base.Method",
            "balancegan.methods.base.Terms",
        }, "the loop knows Method, never a concrete method"


def test_only_the_loop_builds_a_gans_optimisers():
    users = [
        name(path)
        for path in MODULES
        if any(isinstance(n, ast.Attribute) and n.attr == "optim" for n in ast.walk(ast.parse(path.read_text())))
    ]
    assert set(users) <= {"balancegan.train", "balancegan.metrics.own", "balancegan.trace", "balancegan.utility"}
