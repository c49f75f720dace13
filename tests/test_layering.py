"""The package is a house: a room imports only rooms below it, and no file imports in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import balancegan

ROOT = Path(balancegan.__file__).parent
ROOMS = [
    "cli",
    "commands",
    "report",
    "evaluation",
    "inspection",
    "folder",
    "verdict",
    "training",
    "runs",
    "sampling",
    "methods",
    "metrics",
    "nets",
    "data",
    "compute",
    "core",
]  # from the top of the house down
ROOF = ("balancegan", "balancegan.__main__")
FILES = {
    ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in ROOT.rglob("*.py")
}


def imports(module: str) -> set[str]:
    """Files of the package that a file imports, wherever in it: in functions and for type checkers too."""
    nodes = list(ast.walk(ast.parse(FILES[module].read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in (node for node in nodes if isinstance(node, ast.ImportFrom)):
        assert not node.level, f"{module} imports relatively"
        names |= {full if (full := f"{node.module}.{a.name}") in FILES else str(node.module) for a in node.names}
    return {name for name in names if name.split(".")[0] == "balancegan"} - {module}


def test_rooms_import_downward_only():
    entries = {p.name for p in ROOT.iterdir() if p.name != "__pycache__"}
    assert entries == {*ROOMS, "__init__.py", "__main__.py", "py.typed"}
    floor = {m: -1 if m in ROOF else ROOMS.index(m.split(".")[1]) for m in FILES}
    assert not [f"{m} -> {other}" for m in FILES for other in imports(m) if floor[other] < floor[m]]


def test_the_command_line_knows_commands_compute_and_core_only():
    own = {m for m in FILES if m.startswith("balancegan.cli")}
    known = {other.split(".")[1] for m in own for other in imports(m)}
    assert known == {"cli", "commands", "compute", "core"}


def test_no_file_imports_in_a_circle():
    TopologicalSorter({m: imports(m) for m in FILES}).prepare()  # CycleError names the circle


def test_only_the_command_line_talks_to_people_and_core_needs_no_torch():
    for module, path in FILES.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        outside = {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
        outside |= {str(n.module).split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
        assert module.startswith("balancegan.cli") or not outside & {"typer", "rich"}, module
        assert not module.startswith("balancegan.core") or not outside & {"torch", "torchvision"}, module


def test_few_files_build_optimisers():
    users = {
        module.removeprefix("balancegan.")
        for module, path in FILES.items()
        if any(isinstance(n, ast.Attribute) and n.attr == "optim" for n in ast.walk(ast.parse(path.read_text())))
    }
    assert users <= {"training.steps", "nets.classifier"}


def test_images_are_scanned_and_stored_without_torch():
    code = "import sys, balancegan.inspection.inspect, balancegan.data.training_set; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_and_functions_stay_short():
    for module, path in FILES.items():
        text = path.read_text()
        assert text.count("\n") <= 350, f"{module} is too long: does it hold more than one idea?"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 80, f"{module}.{node.name} is too long"
