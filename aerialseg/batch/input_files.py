"""Files by a pattern of a job file: each real folder once, and what was nearly meant."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerialseg.batch.jobfile import Job
from aerialseg.errors import InputError


@dataclass(frozen=True, slots=True)
class Matches:
    """paths: the files that match, sorted. near: path -> why it does not match, of what may be meant."""

    paths: tuple[str, ...]
    near: Mapping[str, str]


def match(job: Job, pattern: str) -> Matches:
    """The files that match a pattern. Raises InputError where the folder does not exist that the pattern begins with.

    ``**`` goes through links to folders as well, but into each real folder once, so that a loop ends.
    """
    root = job.at(root_of(pattern))
    if not root.exists():
        raise InputError(
            f"the folder {root} of the inputs {pattern!r} does not exist: correct the job file, or mount it"
        )
    *folders, last = Path(absolute_pattern(job, pattern)).parts
    if last == "**":
        folders, last = [*folders, "**"], "*"
    paths: set[str] = set()
    near = dict(_bracketed(folders, last))
    for folder in _folders(folders):
        for name in _names(folder, last):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and fnmatch.fnmatch(name, last):
                paths.add(path)
            elif os.path.isfile(path):
                near[path] = "differs from the pattern only in upper and lower case"
            elif not os.path.exists(path):
                near[path] = "is a link to a file that does not exist"
    return Matches(tuple(sorted(paths)), near)


def absolute_pattern(job: Job, pattern: str) -> str:
    """A pattern of the job file made absolute; brackets in the name of the job file's own folder are no wildcards."""
    text = os.path.expanduser(os.path.expandvars(pattern))
    return os.path.abspath(os.path.join(glob.escape(str(job.base)), text))


def root_of(pattern: str) -> str:
    """The folders that a pattern begins with, up to the first wildcard."""
    parts = Path(pattern).parts
    plain = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return str(Path(*parts[:plain])) if plain > 0 else "."


def _folders(parts: Sequence[str]) -> Iterator[str]:
    """The folders that the parts of a pattern mean."""
    if "**" not in parts:
        yield from filter(os.path.isdir, sorted(glob.glob(os.path.join(*parts))))
        return
    at = parts.index("**")
    for top in _folders(parts[:at]):
        for folder in _below(top):
            yield from _folders((glob.escape(folder), *parts[at + 1 :]))


def _below(top: str) -> Iterator[str]:
    """``top`` and the folders below it, each real one once: by its own name where it has one there, else by a link."""
    seen: set[str] = set()
    starts = [top]
    for start in starts:
        for folder, names, _ in os.walk(start):
            real = os.path.realpath(folder)
            names[:] = [] if real in seen else sorted(name for name in names if not name.startswith("."))
            if real not in seen:
                seen.add(real)
                yield folder
                starts += filter(os.path.islink, (os.path.join(folder, name) for name in names))


def _names(folder: str, last: str) -> list[str]:
    """The names in a folder that match, or would if capitals made no difference."""
    if not glob.has_magic(last) and os.path.lexists(os.path.join(folder, last)):
        return [last]
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # not to be listed: glob passes over such a folder as well
        return []
    shown = [name for name in names if last.startswith(".") or not name.startswith(".")]
    return [name for name in shown if fnmatch.fnmatchcase(name.lower(), last.lower())]


def _bracketed(folders: Sequence[str], last: str) -> Iterator[tuple[str, str]]:
    """What has the very name of a part with brackets, and how to write it: brackets are a wildcard."""
    before: list[str] = []
    for part in (*folders, last):
        literal = glob.escape(part)
        found = glob.glob(os.path.join(*before, literal)) if "[" in part else []
        if found:
            yield found[0], f"has brackets, which are a wildcard in a pattern: write {literal!r} for {part!r}"
        before.append(literal if found else part)
