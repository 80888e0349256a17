"""docs/errors.md: what each ``raise`` of the source says, with placeholders for what differs. Part of scripts/docs."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from aerialseg import errors

PACKAGE = Path(__file__).resolve().parents[1] / "aerialseg"
HEAD = """# Error messages

<!-- Written by scripts/docs from the source: edit the messages there, then run it. -->

What aerialseg says when something is wrong, sorted by exit code. Words in CAPITALS stand for a name or a number, `…`
for a list or a longer text. Search this page for the words of your message.
[faults.md](faults.md) lists the same by cause.
"""
SECTIONS = {
    errors.UsageError: "Usage: options, arguments, settings",
    errors.InputError: "Input: rasters, labels, data sets",
    errors.ModelError: "Models",
    errors.OutputError: "Outputs: files and folders to write",
    errors.ResourceError: "Resources: GPU, memory, disk, packages",
    errors.Interrupted: "Interrupted",
}
PARTS = {
    "raster": "rasters",
    "vector": "vector layers",
    "model": "models",
    "mapping": "mapping",
    "datasets": "labels and data sets",
    "training": "training",
    "evaluation": "evaluation",
    "seams": "seams",
    "cluster": "clusters",
    "batch": "batch jobs",
    "cli": "commands",
}
"""Room of the package -> what users call it."""


def page() -> str:
    found: dict[type, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(PACKAGE.rglob("*.py")):
        part = PARTS.get(path.relative_to(PACKAGE).parts[0], "files and settings")
        for name, text in messages(ast.parse(path.read_text("utf-8"))):
            kind = getattr(errors, name, None)
            if kind and re.search("[a-z]{3}", text):
                found[next(one for one in SECTIONS if issubclass(kind, one))][part].add(text)
    parts = [HEAD]
    for kind, title in SECTIONS.items():
        parts.append(f"## Exit code {kind.exit_code}. {title}\n")
        for part, texts in sorted(found[kind].items()):
            lines = "\n".join(sorted(texts, key=lambda text: (re.sub("[^a-z ]", "", text).strip(), text)))
            parts.append(f"### {part.capitalize()} ({kind.exit_code})\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def messages(module: ast.Module) -> Iterator[tuple[str, str]]:
    """(class of the error, message) of each ``raise`` that says what is wrong in place."""
    for node in ast.walk(module):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield ast.unparse(node.exc.func), " ".join(text_of(node.exc.args[0]).split())


def text_of(node: ast.expr) -> str:
    """A text of the source as it reads, with placeholders."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(text_of, values))
        case ast.FormattedValue(value=value):
            return text_of(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
        case ast.IfExp(body=body, orelse=other) if text_of(body) and text_of(other):
            return f"({text_of(body)} | {text_of(other)})"
        case ast.IfExp(body=body, orelse=other):
            return f"({text_of(body) or text_of(other)})"
        case ast.BoolOp(values=[*_, last]):
            return text_of(last)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").upper()
        case ast.Call(func=ast.Name(id="printable" | "name_of" | "str" | "repr" | "Path"), args=[one]):
            return text_of(one)
    return "…"
