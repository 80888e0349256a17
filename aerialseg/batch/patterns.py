"""Output patterns: plain fields in braces, filled in so that no result can leave its folder."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from aerialseg.batch.inputs import JobInput
from aerialseg.batch.jobfile import Job
from aerialseg.errors import UsageError
from aerialseg.toml import nearest
from aerialseg.vector.formats import ending_of

ENDINGS = {"raster": (".tif", ".tiff"), "confidence": (".tif", ".tiff"), "report": (".json",)}
Piece = tuple[str, str | None]
"""Literal text, and the field after it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of [outputs], checked: ``where`` is its key, and results lie below ``root``."""

    where: str
    root: str
    parts: tuple[tuple[Piece, ...], ...]
    job: str

    def fill(self, source: JobInput) -> str:
        """The absolute path for an input. Raises UsageError (unknown field; a value that would lead elsewhere)."""
        parts = ["".join(text + self._value(field, source) for text, field in part) for part in self.parts]
        path = os.path.join(*filter(None, parts))
        if ".." in path.split(os.sep) or not os.path.splitext(path)[1]:
            raise UsageError(f"{self.where} gives {path!r} for {_named(source)}: wanted the name of a file, no ..")
        return os.path.normpath(os.path.join(self.root, path))

    def _value(self, field: str | None, source: JobInput) -> str:
        known = {"job": self.job, **source.fields}
        if field is None:
            return ""
        if field not in known:
            raise UsageError(f"{self.where} has the unknown field {{{field}}}: {nearest(field, known)}")
        fault = _fault(known[field], anything=field != "job" and not source.where)
        if fault:
            raise UsageError(f"{_named(source)}: {field} is {known[field]!r}, which {fault}; {self.where} needs a name")
        return known[field]


def read_patterns(job: Job) -> dict[str, Pattern]:
    """The patterns wanted, by the kind of output. Raises UsageError: an ending, a field that is not plain, ``..``."""
    return {kind: _read(job, kind, text) for kind, text in asdict(job.outputs).items() if text}


def _read(job: Job, kind: str, text: str) -> Pattern:
    where = f"outputs.{kind}"
    if kind == "layer":
        ending_of(Path(text))
    elif Path(text).suffix.lower() not in ENDINGS[kind]:
        raise UsageError(f"{where} is {text!r}: it must end in {' or '.join(ENDINGS[kind])}")
    if _has_control(text):
        raise UsageError(f"{where} is {text!r}, which holds a control character: remove it")
    expanded = os.path.expanduser(os.path.expandvars(text))
    parts = [_pieces(where, text, part) for part in Path(expanded).parts]
    plain = [all(field is None for _, field in part) for part in parts[:-1]]
    fixed = plain.index(False) if False in plain else len(plain)
    names = ["".join(literal for literal, _ in part) for part in parts]
    root = os.path.abspath(os.path.join(job.base, *names[:fixed]))
    inside = os.path.isabs(expanded) or names[0] == ".." or Path(root).is_relative_to(os.path.abspath(job.base))
    if not inside or (("..", None),) in parts[fixed:]:
        raise UsageError(
            f"{where} is {text!r}, which leaves the folder of the job file: give an absolute path, or write .. at its "
            "beginning only"
        )
    return Pattern(where, root, tuple(parts[fixed:]), job.name)


def _pieces(where: str, pattern: str, part: str) -> tuple[Piece, ...]:
    try:
        parsed = list(string.Formatter().parse(part))
    except ValueError as error:
        raise UsageError(f"{where} is {pattern!r}: {error}") from None
    for _, field, spec, conversion in parsed:
        if spec or conversion:
            raise UsageError(f"{where} is {pattern!r}: {{{field}}} has a format; wanted it plain, as in {{stem}}")
    return tuple((text, field) for text, field, _, _ in parsed)


def _fault(value: str, *, anything: bool) -> str:
    """What forbids a value as a part of a path, or "". ``anything``: it is a file's own, whatever characters it has."""
    if ".." in re.split(r"[/\\]", value):
        return "leads to another folder"
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", value):
        return "is an absolute path"
    return "holds a control character" if not anything and _has_control(value) else ""


def _has_control(text: str) -> bool:
    """Whether a character is a control character, or half of one."""
    return any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def _named(source: JobInput) -> str:
    return source.where or source.path
