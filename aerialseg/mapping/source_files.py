"""From what people name, files, folders, patterns and lists, to the rasters that are mapped as one."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable, read_text
from aerialseg.mapping.run import RUN_ENDING
from aerialseg.raster.opening import is_remote

IMAGERY = (".tif", ".tiff", ".jp2", ".j2k", ".jpg", ".jpeg", ".png", ".webp", ".ecw", ".sid", ".img", ".zip", ".7z")
"""Files of a folder that are taken for imagery; one of these that cannot be read is named, others are left alone."""

LISTS = (".txt", ".lst")
ORDERS = ("name", "newest")


def find_sources(given: Sequence[str | Path], *, pattern: str | None = None, order: str = "name") -> list[str]:
    """Paths of the rasters that ``given`` names, each once, in the order in which they count where they overlap.

    given: files, folders (all imagery below them that matches ``pattern``), patterns, ``.txt`` files with a path on
    each line. order: "name", or "newest" by the time of change. Raises InputError (nothing there), UsageError.
    """
    if order not in ORDERS:
        raise UsageError(f"--order {order}: wanted {' or '.join(ORDERS)}")
    found = [path for one in given for path in _named(os.fspath(one), pattern)]
    once = list({path if is_remote(path) else os.path.realpath(path): path for path in reversed(found)}.values())
    if not once:
        raise InputError(
            f"{', '.join(map(printable, given))} names no imagery: give files, folders or patterns of them"
        )
    if len(once) == 1:
        return once
    return sorted(once, key=(lambda path: (-_changed(path), path)) if order == "newest" else None)


def _named(text: str, pattern: str | None) -> Iterator[str]:
    path = os.path.abspath(text)
    if is_remote(text):
        yield text
    elif os.path.isdir(path):
        yield from _below(path, pattern)
    elif os.path.exists(path):
        yield from _listed(Path(path)) if path.lower().endswith(LISTS) else (path,)
    elif glob.has_magic(text):
        matches = [one for one in glob.iglob(path, recursive=True) if os.path.isfile(one)]
        if not matches:
            raise InputError(f"no file matches {printable(text)}")
        yield from matches
    else:
        yield path  # who opens it says what is wrong


def _below(folder: str, pattern: str | None) -> Iterator[str]:
    """Imagery in a folder and in those below it; links to folders are not followed, they may lead in a circle."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(RUN_ENDING))
        for name in names:
            path = os.path.join(here, name)
            wanted = (name, os.path.relpath(path, folder))
            if name.startswith(".") or not name.lower().endswith(IMAGERY):
                continue
            if pattern is None or any(fnmatch.fnmatch(one, pattern) for one in wanted):
                yield path


def _listed(path: Path) -> Iterator[str]:
    """The paths in a text file, one on each line, counted from its folder; lines that begin with # are remarks."""
    for line in read_text(path, "list of inputs").splitlines():
        if (name := line.strip()) and not name.startswith("#"):
            yield name if is_remote(name) else os.path.abspath(path.parent / name)


def _changed(path: str) -> int:
    return 0 if is_remote(path) or not os.path.exists(path) else os.stat(path).st_mtime_ns
