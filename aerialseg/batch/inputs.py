"""What a job is to be done on: files by a pattern, a list, a CSV file, or the items of a STAC API."""

from __future__ import annotations

import csv
import fnmatch
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerialseg.batch.jobfile import Job
from aerialseg.batch.settings import read_settings
from aerialseg.batch.stac_in import read_items
from aerialseg.errors import InputError, UsageError
from aerialseg.files import shown
from aerialseg.mapping.settings import SETTINGS
from aerialseg.raster.opening import is_remote

SETTING = "settings."
"""Columns of a CSV file that begin so are settings of that input alone."""
_EDGE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Source:
    """One input: ``path`` (absolute, or an address), ``name`` for people, ``fields`` for output patterns.

    settings: those of this input alone. stamp: what a STAC item says of its version, for addresses.
    """

    path: str
    name: str
    fields: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""

    @property
    def identity(self) -> str:
        """A cheap digest that changes with the file: of size, time of change, first and last 64 KiB.

        Raises InputError where the file is missing or cannot be read.
        """
        if is_remote(self.path):
            return hashlib.sha256(f"{self.path} {self.stamp}".encode()).hexdigest()
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns} ".encode())
                digest.update(file.read(_EDGE_BYTES))
                file.seek(max(0, status.st_size - _EDGE_BYTES))
                digest.update(file.read(_EDGE_BYTES))
        except OSError as error:
            raise InputError(f"cannot read {shown(self.path)}: {error.strerror or error}") from error
        return digest.hexdigest()


def find_inputs(job: Job) -> list[Source]:
    """The inputs of the job, in a fixed order, each once. Raises InputError (no such list or folder), UsageError."""
    inputs = job.inputs
    if inputs.glob:
        found = list(_matching(job))
    elif inputs.list:
        found = [_plain(job, line) for line in _lines(job.at(inputs.list))]
    elif inputs.csv:
        found = list(_rows(job, job.at(inputs.csv)))
    else:
        found = [
            Source(item.href, item.id, item.fields, stamp=item.stamp)
            for pattern in inputs.stac
            for path in _files(job, pattern)
            for item in read_items(Path(path), inputs.asset)
        ]
    kept = [source for source in found if not _excluded(job, source.path)]
    first: dict[str, Source] = {}
    for source in kept:
        first.setdefault(source.path, source)
    return list(first.values())


def _matching(job: Job) -> Iterator[Source]:
    for pattern in job.inputs.glob:
        root = _root(pattern)
        for path in _files(job, pattern):
            if os.path.isfile(path):
                folder = os.path.relpath(os.path.dirname(path), job.at(root))
                yield _source(path, os.path.relpath(path, job.at(root)), "" if folder == "." else folder)


def _files(job: Job, pattern: str) -> list[str]:
    """Files that match. Raises InputError where not even the folder is there that the pattern begins with."""
    root = job.at(_root(pattern))
    if not root.exists():
        raise InputError(
            f"the folder {root} of the inputs {pattern!r} does not exist: correct the job file, or mount it"
        )
    return sorted(glob.glob(str(job.at(pattern)), recursive=True))


def _root(pattern: str) -> str:
    """The folders that a pattern begins with, up to the first wildcard."""
    parts = Path(pattern).parts
    plain = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return str(Path(*parts[:plain])) if plain else "."


def _plain(job: Job, text: str, **more: Any) -> Source:
    if is_remote(text):
        return _source(text, text, "", **more)
    path = str(job.at(text))
    inside = os.path.relpath(path, job.base)
    name = path if inside.startswith("..") else inside
    return _source(path, name, "" if os.path.isabs(name) else os.path.dirname(name), **more)


def _source(path: str, name: str, folder: str, more: Mapping[str, str] | None = None, **rest: Any) -> Source:
    base = os.path.basename(path)
    stem, ending = os.path.splitext(base)
    return Source(path, name, {**(more or {}), "stem": stem, "name": base, "ext": ending[1:], "folder": folder}, **rest)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the list of inputs {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _rows(job: Job, path: Path) -> Iterator[Source]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the list of inputs {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    column = job.inputs.column
    for number, row in enumerate(rows, 2):
        if column not in row:
            raise UsageError(f"{path} has no column {column!r}: it has {', '.join(filter(None, row))}")
        cells = {name: str(cell).strip() for name, cell in row.items() if name}
        where = f"{path}, line {number}: {SETTING[:-1]}"
        own = {name[len(SETTING) :]: cell for name, cell in cells.items() if name.startswith(SETTING) and cell}
        settings = read_settings(own, where)
        shared = [name for name in settings if SETTINGS[name].shared]
        if shared:
            raise UsageError(f"{where}: {shared[0]} belongs to the model, which all inputs share: put it in [settings]")
        plain = {name: cell for name, cell in cells.items() if not name.startswith(SETTING) and name != column}
        if cells[column]:
            yield _plain(job, cells[column], more=plain, settings=settings)


def _excluded(job: Job, path: str) -> bool:
    return any(
        fnmatch.fnmatch(path, str(job.at(pattern))) or fnmatch.fnmatch(os.path.basename(path), pattern)
        for pattern in job.inputs.exclude
    )


def chosen(source: Source, pattern: str | None) -> bool:
    """Whether ``--only PATTERN`` means this input: its name, its path or its file's name."""
    return pattern is None or any(
        fnmatch.fnmatch(text, pattern) for text in (source.name, source.path, os.path.basename(source.path))
    )
