"""The floors and the never-list of the house, as data; a walk over the syntax trees names the line that breaks them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aerialseg"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports go down only: a module may import its own floor and those below it.
FLOORS = [
    ["cli", "__init__", "__main__"],
    ["training"],
    ["evaluation", "seams", "cluster", "batch"],
    ["mapping", "datasets", "demo"],
    ["model", "vector"],
    ["raster"],
    ["files", "legend", "toml", "embedded"],
    ["errors", "progress", "executor", "memory", "_version"],
]

# (what is imported, where it may be imported, whether only imports at module top are meant)
ONLY_IN = [
    ("fastai", ["training"], False),
    ("fastcore", ["training"], False),
    ("torchvision", ["training"], False),
    ("torch", ["model", "training", "evaluation", "seams"], True),
    ("dask", ["cluster"], False),
    ("distributed", ["cluster"], False),
    ("rasterio", ["raster", "vector"], False),
    ("click", ["cli"], False),
    ("rich", ["cli"], False),
    ("cv2", ["datasets"], False),
]
NO_THIRD_PARTY = ["errors.py", "legend.py", "files.py", "raster/grid.py", "_version.py"]
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "core"}
MAX_FUNCTION_LINES = 60


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), -1)


def imports(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """(dotted module, line, whether at module top); imports for type checkers alone do not count."""
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.module or "", node.lineno, id(node) not in inside


def parsed() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def body_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    return node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_module_stands_on_a_floor() -> None:
    homeless = [str(path.relative_to(ROOT)) for path in FILES if floor(room(path)) < 0]
    assert not homeless


def test_imports_go_down_only() -> None:
    wrong = []
    for path, tree in parsed():
        for module, line, _ in imports(tree):
            parts = module.split(".")
            if parts[0] != "aerialseg":
                continue
            target = parts[1] if len(parts) > 1 else "__init__"
            if floor(target) < floor(room(path)):
                wrong.append(f"{where(path, line)} imports {module}, which stands higher")
    assert not wrong


@pytest.mark.parametrize(("package", "rooms", "top_only"), ONLY_IN)
def test_a_package_is_imported_only_where_it_belongs(package: str, rooms: list[str], top_only: bool) -> None:
    wrong = [
        f"{where(path, line)} imports {module}"
        for path, tree in parsed()
        for module, line, top in imports(tree)
        if module.split(".")[0] == package and room(path) not in rooms and (top or not top_only)
    ]
    assert not wrong


@pytest.mark.parametrize("name", NO_THIRD_PARTY)
def test_the_ground_floor_needs_the_standard_library_alone(name: str) -> None:
    path = PACKAGE / name
    allowed = {*sys.stdlib_module_names, "aerialseg"}
    found = [
        f"{where(path, line)} imports {m}"
        for m, line, _ in imports(ast.parse(path.read_text()))
        if m.split(".")[0] not in allowed
    ]
    assert not found


def test_nothing_is_printed_outside_the_command_line() -> None:
    wrong = [
        f"{where(path, node.lineno)} prints"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and room(path) != "cli"
    ]
    assert not wrong


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [str(path) for path in FILES if path.stem in BANNED_NAMES or path.parent.name in BANNED_NAMES]


def test_functions_are_short() -> None:
    long = [
        f"{where(path, node.lineno)} {node.name}: {length} lines"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - body_of(node)[0].lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_importing_the_package_imports_nothing_heavy() -> None:
    import subprocess

    code = "import sys, aerialseg, aerialseg.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"numpy", "torch", "rasterio", "shapely", "geopandas", "pandas", "numba", "fastai", "rich", "pyproj"}
    assert not heavy & set(loaded)
