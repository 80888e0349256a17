"""From what people name, files, folders, patterns and lists, to the rasters that are mapped as one."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aerialseg.errors import AerialsegError, InputError, UsageError
from aerialseg.files import printable, read_text
from aerialseg.mapping.run import PLAN, RUN_ENDING
from aerialseg.raster.cog import read_tags
from aerialseg.raster.opening import is_remote
from aerialseg.raster.tile_index import INDEX_ENDINGS, IndexRow, read_index
from aerialseg.raster.vrt import VRT, VrtSource, read_vrt

IMAGERY = (
    ".tif",
    ".tiff",
    ".jp2",
    ".j2k",
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".mbtiles",
    ".ecw",
    ".sid",
    ".img",
    ".zip",
    ".7z",
)
"""Files of a folder that are taken for imagery; one of these that cannot be read is named, others are left alone."""

LISTS = (".txt", ".lst")
ORDERS = ("auto", "name", "newest", "given")


def find_sources(given: Sequence[str | Path], *, pattern: str | None = None, order: str = "auto") -> list[str]:
    """Paths of the rasters that ``given`` names, each once, in the order in which they count where they overlap.

    given: files, folders (all imagery below them that matches ``pattern``), patterns, ``.txt`` files with a path on
    each line, tile indexes, VRT mosaics. order: "name", "newest" by the time of change, "given" (in a VRT, what lies on
    top is first), or a field of the tile indexes, the smallest value first, or with ``-`` in front the largest; "auto"
    is "given" where there is a VRT, else "name". Raises InputError (nothing there), UsageError.
    """
    if order == "auto":
        order = "given" if any(map(_is_vrt, given)) else "name"
    field = None if order in ORDERS else order.removeprefix("-")
    found: dict[str, IndexRow] = {}
    for one in given:
        for path, value in _tiles(os.fspath(one), pattern, field):
            found.setdefault(path if is_remote(path) else os.path.realpath(path), (path, value))
    if not found:
        raise InputError(
            f"{', '.join(map(printable, given))} names no imagery: give files, folders or patterns of them (a .vrt, a "
            "list and a tile index count where they are named themselves, not in a folder)"
        )
    return _ordered(list(found.values()), order)


def without_own(found: list[str], given: Sequence[str | Path], outputs: Iterable[str | Path | None]) -> list[str]:
    """The rasters but for outputs that an earlier run of ours left among them: a folder would give them the next time.

    One that was not made by aerialseg, or that was named itself, stays: it is an input, never to be overwritten.
    """
    named = {os.path.realpath(one) for one in given}
    own = {os.path.realpath(path) for path in outputs if path is not None} - named
    return [path for path in found if os.path.realpath(path) not in own or not _is_ours(path)]


def _is_ours(path: str) -> bool:
    try:
        return read_tags(Path(path)).get("software", "").startswith("aerialseg ")
    except AerialsegError:
        return False


def _ordered(tiles: Sequence[IndexRow], order: str) -> list[str]:
    if order == "given":
        return [path for path, _ in tiles]
    by_name = sorted(tiles, key=lambda tile: tile[0])
    if order == "newest":
        by_name.sort(key=lambda tile: -_changed(tile[0]))
    elif order != "name":
        known = [tile for tile in by_name if tile[1] is not None]
        try:
            known.sort(key=lambda tile: tile[1], reverse=order.startswith("-"))
        except TypeError as error:
            raise UsageError(f"--order {order}: that field holds values of several types ({error})") from error
        by_name = known + [tile for tile in by_name if tile[1] is None]
    return [path for path, _ in by_name]


def _tiles(text: str, pattern: str | None, field: str | None) -> Iterator[IndexRow]:
    """What a name means, with the values of the field that orders them."""
    path = os.path.abspath(text)
    if path.lower().endswith(INDEX_ENDINGS) and not is_remote(text) and os.path.isfile(path):
        rows = read_index(Path(path), field)
        if rows is not None:
            yield from rows
            return
    if field is not None and not os.path.exists(path):
        raise InputError(f"{printable(text)} does not exist: correct the path")
    if field is not None:
        raise UsageError(
            f"--order {field}: {printable(text)} is no tile index; wanted {', '.join(ORDERS)} or a field of one"
        )
    yield from ((one, None) for one in _named(text, pattern))


def _named(text: str, pattern: str | None) -> Iterator[str]:
    path = os.path.abspath(text)
    if is_remote(text):
        yield text
    elif os.path.isdir(path):
        yield from _below(path, pattern)
    elif os.path.exists(path):
        yield from _contents(Path(path))
    elif glob.has_magic(text):
        matches = sorted(one for one in glob.iglob(path, recursive=True) if os.path.isfile(one))
        if not matches:
            raise InputError(f"no file matches {printable(text)}")
        yield from matches
    else:
        yield path  # who opens it says what is wrong


def _contents(path: Path) -> Iterator[str]:
    """What a list or a mosaic names; of another file, itself."""
    if _is_vrt(path):
        yield from (source.path for source in read_vrt(path))
    elif path.name.lower().endswith(LISTS):
        yield from _listed(path)
    else:
        yield str(path)


def _is_vrt(path: str | Path) -> bool:
    return os.fspath(path).lower().endswith(VRT) and not is_remote(path) and os.path.isfile(path)


def vrt_claims(given: Sequence[str | Path]) -> dict[str, VrtSource]:
    """Real path of each file of the VRTs that are given -> what its VRT says of it. Raises InputError."""
    vrts = [Path(os.path.abspath(path)) for path in given if _is_vrt(path)]
    return {os.path.realpath(source.path): source for path in vrts for source in read_vrt(path)}


def _below(folder: str, pattern: str | None) -> Iterator[str]:
    """Imagery in a folder and in those below it; links to folders are not followed, they may lead in a circle."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_run(here, name))
        for name in sorted(names):
            path = os.path.join(here, name)
            wanted = (name, os.path.relpath(path, folder))
            if name.startswith(".") or not name.lower().endswith(IMAGERY):
                continue
            if pattern is None or any(fnmatch.fnmatch(one, pattern) for one in wanted):
                yield path


def _is_run(here: str, name: str) -> bool:
    return name.endswith(RUN_ENDING) or os.path.exists(os.path.join(here, name, PLAN))


def _listed(path: Path) -> Iterator[str]:
    """The paths in a text file, one on each line, counted from its folder; lines that begin with # are remarks."""
    for line in read_text(path, "list of inputs").splitlines():
        if (name := line.strip()) and not name.startswith("#"):
            yield name if is_remote(name) else os.path.abspath(path.parent / name)


def _changed(path: str) -> int:
    return 0 if is_remote(path) or not os.path.exists(path) else os.stat(path).st_mtime_ns
