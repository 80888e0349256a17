"""What a job is to be done on: files by a pattern, a list, a CSV file, or the items of a STAC API."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerialseg.batch.input_files import Matches, absolute_pattern, match, root_of
from aerialseg.batch.job_settings import read_settings
from aerialseg.batch.jobfile import Job
from aerialseg.batch.stac_in import read_items
from aerialseg.errors import UsageError
from aerialseg.files import printable, read_table, read_text
from aerialseg.mapping.settings import SETTINGS
from aerialseg.raster.opening import is_remote
from aerialseg.raster.sidecars import Listing, identity_of, names_in

logger = logging.getLogger("aerialseg.batch")
SETTING = "settings."
"""Columns of a CSV file that begin so are settings of that input alone."""
NEAR_SHOWN = 5


@dataclass(frozen=True, slots=True)
class JobInput:
    """One input: ``path`` (absolute, or an address), ``name`` for people, ``fields`` for output patterns.

    files: the rasters that are one input as a mosaic, whose ``path`` is then what they have in common. settings: those
    of this input alone. stamp: what a STAC item says of its version, for addresses. where: the line
    of a list or the STAC item that names it; empty for a file that was found.
    """

    path: str
    name: str
    fields: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""
    where: str = ""
    files: tuple[str, ...] = ()

    @property
    def rasters(self) -> tuple[str, ...]:
        """Paths of what is mapped."""
        return self.files or (self.path,)

    def identity(self, listing: Listing = names_in) -> str:
        """A cheap digest that changes with the files and those beside them: see `identity_of`. Raises InputError."""
        if is_remote(self.path):
            return hashlib.sha256(f"{self.path} {self.stamp}".encode()).hexdigest()
        if not self.files:
            return identity_of(Path(self.path), listing)
        return _digest(*self.files, *(identity_of(Path(path), listing) for path in self.files))


def find_inputs(job: Job) -> list[JobInput]:
    """The inputs of the job, in a fixed order, each file once. Raises InputError (no such list or folder), UsageError.

    A pattern of files warns of those that it misses by a hair.
    """
    inputs = job.inputs
    if inputs.glob:
        found = list(_matching(job))
    elif inputs.list:
        path = job.at(inputs.list)
        found = [_plain(job, line, f"{path}, line {number}") for number, line in _lines(path)]
    elif inputs.csv:
        found = list(_rows(job, job.at(inputs.csv)))
    else:
        found = [
            JobInput(item.href, item.id, item.fields, stamp=item.stamp, where=f"{path}, item {item.id!r}")
            for path in stac_files(job)
            for item in read_items(Path(path), inputs.asset)
        ]
    for source in found:
        if not _is_legible(source.path):
            raise UsageError(
                f"{source.where}: the path {printable(source.path)} contains a NUL or an invalid character: remove it"
            )
    return _once(job, [source for source in found if not _excluded(job, source.path)])


def join_mosaics(job: Job, found: Sequence[JobInput]) -> list[JobInput]:
    """The inputs, those of one mosaic as one. Raises UsageError."""
    if job.inputs.mosaic is False:
        return list(found)
    groups: dict[str, list[JobInput]] = {}
    for source in found:
        groups.setdefault(_mosaic_of(job, source), []).append(source)
    return [_joined(job, name, members) for name, members in groups.items()]


def _mosaic_of(job: Job, source: JobInput) -> str:
    if is_remote(source.path) or source.settings:
        what = "an address" if is_remote(source.path) else "settings of its own"
        raise UsageError(f"{source.name} has {what}, so it cannot be a part of inputs.mosaic: leave that out")
    if job.inputs.mosaic is True:
        return job.name
    try:
        return str(job.inputs.mosaic).format_map(source.fields) or job.name
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in source.fields)
        raise UsageError(f"inputs.mosaic is {job.inputs.mosaic!r} ({error}): wanted fields of {known}") from None


def _joined(job: Job, name: str, members: Sequence[JobInput]) -> JobInput:
    """One input of them all, with the fields in which they agree."""
    first = members[0].fields
    shared = {key: value for key, value in first.items() if all(one.fields.get(key) == value for one in members)}
    fields = {**shared, "stem": name.replace("/", "_"), "name": name.replace("/", "_")}
    return JobInput(str(job.at(name)), name, fields, where=members[0].where, files=tuple(one.path for one in members))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


def why_empty(job: Job) -> tuple[str, str]:
    """Why a job has no inputs, and the files that its patterns miss by a hair."""
    if not job.inputs.glob:
        return f"{job.inputs.list or job.inputs.csv or ', '.join(job.inputs.stac)} names no input", ""
    matches = [match(job, pattern) for pattern in job.inputs.glob]
    matched = sum(len(one.paths) for one in matches)
    patterns = ", ".join(map(repr, job.inputs.glob))
    near = [f"; {printable(path)} {why}" for path, why in _near(job, matches).items()]
    more = f"; and {len(near) - NEAR_SHOWN} more" if len(near) > NEAR_SHOWN else ""
    why = f"exclude leaves out all {matched} files that match {patterns}" if matched else f"no file matches {patterns}"
    return why, "".join(near[:NEAR_SHOWN]) + more


def _near(job: Job, matches: Collection[Matches]) -> dict[str, str]:
    matched = {path for one in matches for path in one.paths}
    near = {path: why for one in matches for path, why in one.near.items()}
    return {path: why for path, why in near.items() if path not in matched and not _excluded(job, path)}


def stac_files(job: Job) -> list[str]:
    """The JSON files of the job's STAC items."""
    return [path for pattern in job.inputs.stac for path in match(job, pattern).paths]


def _is_legible(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _once(job: Job, found: list[JobInput]) -> list[JobInput]:
    """Each file once, though several names may lead to it: by its own name rather than by a link's."""
    base, real_base = str(job.base), os.path.realpath(job.base)
    kept: dict[object, JobInput] = {}
    for source in sorted(found, key=lambda source: _is_linked(source.path, base, real_base)):
        kept.setdefault(_file_of(source.path), source)
    chosen = {id(source) for source in kept.values()}
    return [source for source in found if id(source) in chosen]


def _is_linked(path: str, base: str, real_base: str) -> bool:
    """Whether a link leads to the file; links above the job file's folder do not count."""
    return not is_remote(path) and os.path.realpath(path) != os.path.normpath(
        os.path.join(real_base, os.path.relpath(path, base))
    )


def _file_of(path: str) -> object:
    """What two names of one file have in common; size and time because some network drives give numbers twice."""
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _matching(job: Job) -> Iterator[JobInput]:
    found = {pattern: match(job, pattern) for pattern in job.inputs.glob}
    for pattern, matches in found.items():
        root = job.at(root_of(pattern))
        for path in matches.paths:
            folder = os.path.relpath(os.path.dirname(path), root)
            yield _source(path, os.path.relpath(path, root), "" if folder == "." else folder)
    if any(matches.paths for matches in found.values()):  # where there are none, that is an error which says so
        for path, why in _near(job, found.values()).items():
            logger.warning("not an input: %s %s", printable(path), why)


def _plain(job: Job, text: str, where: str, **more: Any) -> JobInput:
    if is_remote(text):
        return _source(text, text, "", where=where, **more)
    path = str(job.at(text))
    inside = os.path.relpath(path, job.base)
    name = path if inside.startswith("..") else inside
    return _source(path, name, "" if os.path.isabs(name) else os.path.dirname(name), where=where, **more)


def _source(path: str, name: str, folder: str, more: Mapping[str, str] | None = None, **rest: Any) -> JobInput:
    base = os.path.basename(path)
    stem, ending = os.path.splitext(base)
    return JobInput(
        path, name, {**(more or {}), "stem": stem, "name": base, "ext": ending[1:], "folder": folder}, **rest
    )


def _lines(path: Path) -> list[tuple[int, str]]:
    numbered = enumerate((line.strip() for line in read_text(path, "list of inputs").splitlines()), 1)
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _rows(job: Job, path: Path) -> Iterator[JobInput]:
    column = job.inputs.column
    for number, cells in read_table(path, "list of inputs", (column,)):
        where = f"{path}, line {number}: {SETTING[:-1]}"
        own = {name[len(SETTING) :]: cell for name, cell in cells.items() if name.startswith(SETTING) and cell}
        settings = read_settings(own, where, job.at)
        shared = [name for name in settings if SETTINGS[name].shared]
        if shared:
            raise UsageError(f"{where}: {shared[0]} belongs to the model, which all inputs share: put it in [settings]")
        plain = {name: cell for name, cell in cells.items() if not name.startswith(SETTING) and name != column}
        if cells[column]:
            yield _plain(job, cells[column], f"{path}, line {number}", more=plain, settings=settings)


def _excluded(job: Job, path: str) -> bool:
    return any(
        fnmatch.fnmatch(path, absolute_pattern(job, pattern)) or fnmatch.fnmatch(os.path.basename(path), pattern)
        for pattern in job.inputs.exclude
    )


def is_selected(source: JobInput, pattern: str | None) -> bool:
    """Whether ``--only PATTERN`` means this input: its name, its path or its file's name."""
    return pattern is None or any(
        fnmatch.fnmatch(text, pattern) for text in (source.name, source.path, os.path.basename(source.path))
    )
