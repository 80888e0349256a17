"""The house measured from its syntax trees: what `scripts/house` prints and tests/test_architecture.py holds to.

scripts/house            # the figures of CONTRIBUTING.md
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aerialseg"
FILES = sorted(PACKAGE.rglob("*.py"))
DOOR = {"__init__", "__main__", "_version"}
"""Modules at the root that are no rooms: the door and its sign."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def module_name(path: Path) -> str:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def room(module: str) -> str:
    """The folder of a module, or its own name at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted module of the house or of others, line) of every import: lazy ones and those for type checkers, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module or "", node.lineno


@cache
def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the house that it imports. The door's own imports, for everybody's use, do not count."""
    trees = {module_name(path): tree for path, tree in parsed()}
    graph = {name: {to for to, _ in imports(tree) if to in MODULES and to != name} for name, tree in trees.items()}
    graph["aerialseg"] = set()
    return graph


def room_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for name, imported in import_graph().items():
        graph.setdefault(room(name), set()).update({room(to) for to in imported} - {room(name)})
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: Tarjan's strongly connected components of more than one."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for to in sorted(graph.get(node, ())):
            if to not in index:
                visit(to)
                lowest[node] = min(lowest[node], lowest[to])
            elif to in stack:
                lowest[node] = min(lowest[node], index[to])
        if lowest[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def functions() -> Iterator[tuple[Path, Function]]:
    for path, tree in parsed():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, Function))


def function_lines(node: Function) -> int:
    """Lines of a function's statements, its docstring left out."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (node.end_lineno or node.lineno) - body[0].lineno + 1


def argument_count(node: Function) -> int:
    """Arguments of a function, without self and cls."""
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def classes() -> Iterator[tuple[Path, ast.ClassDef, int]]:
    """(file, class, lines) of every class."""
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node, (node.end_lineno or node.lineno) - node.lineno + 1


def root_modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in DOOR)


def figures() -> dict[str, str]:
    lines = sorted(function_lines(node) for _, node in functions())
    sizes = [len(path.read_text(encoding="utf-8").splitlines()) for path in FILES]
    return {
        "lines": f"{sum(sizes):,} in {len(FILES)} files, the longest {max(sizes)}",
        "root modules": f"{len(root_modules())} ({', '.join(root_modules())})",
        "rooms": str(sum(path.is_dir() and (path / "__init__.py").exists() for path in PACKAGE.iterdir())),
        "circles": f"{len(circles(import_graph()))} of modules, {len(circles(room_graph()))} of rooms",
        "functions": f"{len(lines):,}; lines: median {statistics.median(lines):.0f}, "
        f"p90 {lines[len(lines) * 9 // 10]}, longest {lines[-1]}",
        "classes over 120 lines": str(sum(size > 120 for _, _, size in classes())),
    }


if __name__ == "__main__":
    for name, figure in figures().items():
        print(f"{name}: {figure}")
