"""Writes what the documents say of the Python API and of the settings: ``scripts/docs``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import runpy
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aerialseg
from aerialseg.errors import AerialsegError
from aerialseg.mapping.settings import OPTIONS, Setting

DOCS = Path(__file__).resolve().parents[1] / "docs"
TESTS = DOCS.parent / "tests"
MUTANTS = TESTS / "mutants.toml"
FAULTS_HEAD = """# What goes wrong, and what the user gets

<!-- Written by scripts/docs from the names of the tests, test_row_NN_...: edit these, then run it. -->

Exit codes: 0 done, 1 some inputs of a batch failed, 2 usage, 3 input, 4 model, 5 output, 6 resources (GPU, memory,
disk), 130 interrupted.

"""
ROWS = {
    1: "Paths that are missing or cannot be read",
    2: "Files that are no raster",
    3: "Truncated files",
    4: "Damaged tiles that the decoder notices",
    5: "Damaged tiles that no reader can see",
    6: "A file that points at another file, also a sidecar",
    7: "Addresses, also in sidecars",
    8: "Rasters that are too large",
    9: "Headers and sidecars that fill the memory",
    10: "No coordinate system, no transform",
    11: "Transforms that lead nowhere, control points only",
    12: "Bands and their meaning",
    13: "16 bit, float, NaN, infinity",
    14: "Nodata, masks, alpha",
    15: "Small and odd sizes",
    16: "Strips, planes, JPEG, palettes",
    17: "Pickled models",
    18: "Damaged models, cards with values of another type",
    19: "Models that cannot be tiled exactly",
    20: "No GPU, too little memory",
    21: "A full disk",
    22: "SIGKILL, SIGINT, SIGTERM",
    23: "Two runs, one output",
    24: "Outputs that exist, are inputs, or hold layers of others",
    25: "Names and folders",
    26: "An input or its sidecars change",
    27: "A GeoPackage that is open elsewhere",
    28: "A ground sampling distance unlike the model's",
    29: "Two inputs, one output",
    30: "An output that is an input; no inputs",
    31: "Fields that lead elsewhere",
    32: "Text files as Windows and people write them",
    33: "A damaged ledger",
    34: "Hooks",
    35: "Run directories of somebody else",
    36: "NaN inside the network",
    37: "Masks and images of training",
    38: "Class rasters of QGIS, ArcGIS and GRASS",
    39: "Confidence of something else",
    40: "Areas",
    41: "Consoles",
    42: "Kinds of arithmetic",
}
FUNCTIONS = ("segment", "polygonize", "assess_map", "evaluate", "train", "load_model", "draw_demo")
HEAD = """# Python API

<!-- Written by scripts/docs from the docstrings: edit these, then run it. -->

`import aerialseg` imports nothing heavy; each name is imported when it is first used. Paths are `str` or `Path`. A
parameter without a default must be given. Error messages and warnings name the options of the commands: `--min-area` is
the parameter `min_area_m2`, `--from` is `start`.
"""
EMPTY = inspect.Parameter.empty


def pages() -> dict[Path, str]:
    """Each page that has generated text, as it should be."""
    tables = {DOCS / "batch.md": ("settings", settings_table()), DOCS / "testing.md": ("mutants", mutants_table())}
    made = {path: with_table(path.read_text("utf-8"), *table) for path, table in tables.items()}
    errors = runpy.run_path(str(Path(__file__).with_name("error_messages.py")))["page"]()
    made |= {DOCS / "api.md": api(), DOCS / "errors.md": errors}
    return {**made, DOCS / "faults.md": FAULTS_HEAD + faults() + "\n"}


def with_table(text: str, name: str, made: str) -> str:
    """The text of a page with a table that was made between its marks."""
    block = f"<!-- {name} -->\n{made}\n<!-- /{name} -->"
    return re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL)


def faults() -> str:
    """The rows of faults, and what the tests named after each say of it."""
    tests: dict[int, list[str]] = {row: [] for row in ROWS}
    named = re.compile(r"^def test_((?:row_\d\d_(?:and_)?)+)(\w+)", re.MULTILINE)
    for path in sorted(TESTS.rglob("test_*.py")):
        for rows, name in named.findall(path.read_text("utf-8")):
            said = f"* {name.replace('_', ' ')} ([{path.stem[5:]}](../{path.relative_to(DOCS.parent).as_posix()}))"
            for row in re.findall(r"\d\d", rows):
                tests[int(row)].append(said)
    return "\n\n".join("\n".join([f"## {row}. {title}", "", *tests[row]]) for row, title in ROWS.items())


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mutants_table() -> str:
    mutants = tomllib.loads(MUTANTS.read_text("utf-8"))["mutant"]
    return table(("what breaks", "where", "test that notices"), map(mutant_row, mutants))


def mutant_row(one: dict[str, str]) -> list[str]:
    path, _, test = one["test"].partition("::")
    where = f"[{one['file'].removeprefix('aerialseg/')}](../{one['file']})"
    return [one["breaks"], where, f"[{test.removeprefix('test_').replace('_', ' ')}](../{path})"]


def settings_table() -> str:
    return table(("option", "value", "unit", "default", "decides", ""), map(setting_row, OPTIONS.values()))


def setting_row(one: Setting) -> list[str]:
    default = one.default_text or str(one.default).lower()
    return [f"`{one.option}`", one.kind.wanted, one.kind.unit, default, one.decides, one.help]


def api() -> str:
    found = {name: getattr(aerialseg, name) for name in aerialseg.__all__ if name != "__version__"}
    errors = [one for one in found.values() if inspect.isclass(one) and issubclass(one, AerialsegError)]
    classes = {name: one for name, one in found.items() if inspect.isclass(one) and one not in errors}
    names = [*FUNCTIONS, *sorted(found.keys() - {*FUNCTIONS})]
    functions = {name: found[name] for name in names if not inspect.isclass(found[name])}
    for function in functions.values():
        made = function.__globals__.get(inspect.signature(function).return_annotation)
        if dataclasses.is_dataclass(made):
            classes.setdefault(made.__name__, made)
    parts = [HEAD, "## Functions\n"]
    parts += [section(f"aerialseg.{name}", one) for name, one in functions.items()]
    parts += ["## Classes\n", *(class_section(name, classes[name]) for name in sorted(classes)), "## Errors\n"]
    parts.append("`exit_code` is the exit code of the commands.\n")
    parts.append(table(("error", "is also a", "exit code", ""), (error_row(one) for one in errors)) + "\n")
    parts.append("## Version\n\n`aerialseg.__version__`, a string.\n")
    return "\n".join(parts)


def error_row(error: type[AerialsegError]) -> list[str]:
    bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
    return [f"`{error.__name__}`", bases, str(error.exit_code), inspect.getdoc(error) or ""]


def section(name: str, function: Any, level: int = 3) -> str:
    """A function: heading, signature, docstring with its lists as tables."""
    short = name.rpartition(".")[2]
    doc = inspect.getdoc(function) or ""
    call = signature(name, function, annotated="\n-----" not in doc)
    return f"{'#' * level} {short}\n\n```text\n{call}\n```\n\n{body(doc, function)}\n"


def class_section(name: str, kind: Any) -> str:
    """A class: its fields, then its public properties and methods."""
    text = section(f"aerialseg.{name}" if name in aerialseg.__all__ else f"{kind.__module__}.{name}", kind)
    members = [(key, one) for key, one in vars(kind).items() if not key.startswith("_")]
    rows = [member_row(key, one) for key, one in members if key not in getattr(kind, "__dataclass_fields__", {})]
    return text + ("\n" + table(("member", ""), iter(rows)) + "\n" if rows else "")


def member_row(key: str, member: Any) -> list[str]:
    function = member.__func__ if isinstance(member, classmethod) else member
    call = key if isinstance(member, property) else signature(key, function, annotated=True)
    return [f"`{' '.join(call.split())}`", " ".join((inspect.getdoc(member) or "").replace("``", "`").split())]


class Raw(str):
    """An annotation that shows without quotes."""

    __repr__ = str.__str__


def signature(name: str, function: Any, *, annotated: bool) -> str:
    found = inspect.signature(function)
    given = [one for key, one in found.parameters.items() if key not in ("self", "cls")]
    made = EMPTY if inspect.isclass(function) else Raw(found.return_annotation)
    given = [
        one.replace(
            annotation=Raw(one.annotation) if annotated else EMPTY,
            default=one.default if one.default is EMPTY else Raw(default_of(one)),
        )
        for one in given
    ]
    text = name + str(found.replace(parameters=given, return_annotation=made))
    return textwrap.fill(text, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def default_of(one: inspect.Parameter) -> str:
    if not repr(one.default).startswith("<"):
        return repr(one.default)
    return "{}" if one.annotation.startswith("Mapping") else f"{one.annotation}()"  # of a dataclass: made by a factory


def body(doc: str, function: Any) -> str:
    """The docstring as Markdown; the lists of NumPy's sections become tables."""
    parts = re.split(r"^(\w+)\n-{3,}\n", doc.replace("``", "`"), flags=re.MULTILINE)
    text = [re.sub(r"(^>>> .*\n)+", r"```pycon\n\g<0>```\n", parts[0], flags=re.MULTILINE).strip()]
    for title, entries in zip(parts[1::2], parts[2::2], strict=True):
        rows = re.findall(r"^(\S.*)\n((?:[ ]+.*(?:\n|$))*)", entries, re.MULTILINE)
        if title == "Raises":
            text.append(table(("raises", ""), ([f"`{name}`", " ".join(what.split())] for name, what in rows)))
        else:
            header = (title.lower().removesuffix("s"), "type, unit", "default", "")
            text.append(table(header, (entry_row(name, " ".join(what.split()), function) for name, what in rows)))
    return "\n\n".join(text)


def entry_row(head: str, what: str, function: Any) -> list[str]:
    (names, _, kind), (what, _, told) = head.partition(" : "), what.partition(" Default: ")
    given = [inspect.signature(function).parameters[name] for name in names.split(", ")]
    defaults = dict.fromkeys(f"`{default_of(one)}`" for one in given if one.default is not EMPTY)
    return [", ".join(f"`{one.name}`" for one in given), kind, told.rstrip(".") or ", ".join(defaults), what]


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
