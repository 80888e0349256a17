"""A run: a directory that can be looked into while it works, and taken up again after it was cut off.

::

    landcover.gpkg.run/
      plan.json         what is being done; blocks of other settings never stay in the same directory
      sources.json      [path, digest, SHA-256] of each source
      lock              held by the process at work; the system drops it when that process dies
      blocks/*.tif      finished blocks: the file is there when it is whole
      blocks/*.json     source tiles that could not be read for a block, if it was told to go on
      decoded/          the source as tiles, where its format is slow; removed when the blocks are finished
      classes.tif, confidence.tif   the mosaic of the blocks
      collar.tif        where a colour of nodata touches the outside, if one was given
      mosaic.json       the two are whole, and of which blocks; only in a run that is kept
      products/         results on their way to their final names
      publishing.json   the final names and which file is there, from the moment that the first result may be there
      run.json          what it took
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import OutputError, UsageError
from aerialseg.files import PART, cannot_write, check_own, naming_errors, read_json, remove_if_there, write_json
from aerialseg.locks import is_locked, locked
from aerialseg.mapping.block import PARTS
from aerialseg.mapping.plan import Plan, existing_folder, spoken_changes
from aerialseg.raster.grid import Box

PLAN, LOCK, PUBLISHING, RUN_REPORT, MOSAIC = "plan.json", "lock", "publishing.json", "run.json", "mosaic.json"
SOURCES, COLLAR, DECODED = "sources.json", "collar.tif", "decoded.json"
RUN_ENDING = ".run"


@dataclass(frozen=True, slots=True)
class Changes:
    """Since the last time in the same directory. layer: options of the layer. sources: files renewed, new or gone.
    order: whether others come first where files overlap."""

    layer: tuple[str, ...] = ()
    sources: int = 0
    order: bool = False

    @classmethod
    def between(cls, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Changes:
        """Of two plans as JSON."""
        old, new = (dict(plan["sources"]) for plan in (found, wanted))
        # Another area of interest sees other sources, of which nothing changed.
        paths = {*old, *new} if found.get("aoi") == wanted["aoi"] else {*old} & {*new}
        sources = sum(old.get(path) != new.get(path) for path in paths)
        order = [path for path in old if path in new] != [path for path in new if path in old]
        return cls(tuple(spoken_changes(found["layer"], wanted["layer"])), sources, order)


class Run:
    """A view of a run's directory; it keeps no state of its own."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(os.path.abspath(folder))

    @property
    def blocks(self) -> Path:
        return self.folder / "blocks"

    @property
    def products(self) -> Path:
        return self.folder / "products"

    @property
    def decoded(self) -> Path:
        return self.folder / "decoded"

    @property
    def classes(self) -> Path:
        """The class raster of all blocks: uint8, nodata 255, on the working grid."""
        return self.folder / "classes.tif"

    @property
    def confidence(self) -> Path:
        """The confidence raster of all blocks: uint8 per cent, nodata 255, on the working grid."""
        return self.folder / "confidence.tif"

    @property
    def report(self) -> dict[str, Any]:
        """What the run took; empty before its end."""
        return read_json(self.folder / RUN_REPORT)

    def lost_px(self) -> int:
        """Source pixels that could not be read; the windows of blocks overlap, so each damaged tile counts once."""
        try:
            if not self.holds_blocks():  # class and confidence raster of another run
                return int(read_json(self.folder / MOSAIC).get("lost_px", 0))
            lost = [tile for path in self.blocks.glob("*.json") for tile in read_json(path).get("lost", [])]
            return sum(box.area for _, box in {(str(file), Box(*box)) for file, *box in lost})
        except (TypeError, ValueError) as error:
            raise OutputError(f"{self.folder} is not a run that aerialseg made ({error}): delete it") from error

    def begin(self, plan: Plan) -> Changes | None:
        """Take up what is there of the same settings, or start where there is nothing (None); what changed since.

        Raises OutputError for blocks of other settings.
        """
        changes = find_changes(self, plan)
        if changes is None:
            _forget_blocks(self)  # of no plan that is known
        try:
            write_json(self.folder / PLAN, plan.to_json())  # first: without it nobody knows that this is a run
            _make_folders(self)
        except OutputError:
            if changes is None:
                self.remove()
            raise
        return changes

    def check_place(self, *files: str | Path | None) -> None:
        """Raise UsageError where the directory holds something else than a run, or one of the files given.

        Raises OutputError where somebody has put a link into it, or made it one: nothing is written elsewhere.
        """
        _check_kinds(self)
        names = {entry.name for entry in self.folder.iterdir()} if self.folder.is_dir() else set()
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise UsageError(f"the run directory {self.folder} is a file: name another one with --keep-run")
        if names - {LOCK, PUBLISHING} and PLAN not in names:
            raise UsageError(f"{self.folder} holds other things than a run: name an empty or a new directory for it")
        for file in files:
            if file and self.folder in Path(os.path.abspath(file)).parents:
                raise UsageError(f"{file} lies in the run directory {self.folder}: name another one with --keep-run")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory; OutputError "in use" where another living process does."""
        with locked(self.folder / LOCK, lambda: _busy(self)):
            try:
                yield
            finally:
                if not (self.folder / PLAN).exists():  # removed, or never begun
                    self._remove_folder()

    def holds_blocks(self) -> bool:
        """Whether anything is there that a later run could use."""
        return self.blocks.is_dir() and any(self.blocks.glob("r*_c*.tif"))

    def leave(self, *, keep: bool) -> str:
        """After a failure: what to tell the user about what stays for a later try; what is of no use is removed."""
        if (self.folder / PLAN).exists():
            if keep or self.holds_blocks():
                return f"finished blocks are kept in {self.folder}: the same command resumes"
            self.remove()
            self._remove_folder()
        return ""

    def _remove_folder(self) -> None:
        with suppress(OSError):
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def remove(self) -> None:
        """Delete what a run makes, and nothing else; the directory goes with the lock, if it is empty then."""
        _forget_blocks(self)
        shutil.rmtree(self.products, ignore_errors=True)
        # last what tells outputs that are the run's own: killed before, the same call may replace them
        for name in (RUN_REPORT, SOURCES, PLAN, PUBLISHING):
            remove_if_there(self.folder / name)


def forget_decoded(run: Run) -> None:
    """Remove the decoded copy of the source, which only blocks need."""
    shutil.rmtree(run.decoded, ignore_errors=True)


def _forget_blocks(run: Run) -> None:
    shutil.rmtree(run.blocks, ignore_errors=True)
    forget_decoded(run)
    for path in (run.folder / MOSAIC, run.classes, run.confidence, run.folder / COLLAR):
        remove_if_there(path)


def find_changes(run: Run, plan: Plan) -> Changes | None:
    """What changed since the run was made, None where there is none. Writes nothing.

    Raises OutputError for blocks of other settings.
    """
    found, wanted = _found_plan(run.folder / PLAN), json.loads(json.dumps(plan.to_json()))
    if not found:
        return None
    if changed := spoken_changes(found["settings"], wanted["settings"]):
        raise OutputError(
            f"the run in {run.folder} was made with another value of {' and '.join(changed)}: give the same, "
            "delete that directory to start anew, or name another one with --keep-run"
        )
    return Changes.between(found, wanted)


def check_free(run: Run) -> None:
    """Raise OutputError where another process holds the directory, or it cannot be made. Writes nothing."""
    if is_locked(run.folder / LOCK):
        raise OutputError(_busy(run))
    there = existing_folder(run.folder)
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise cannot_write(run.folder, PermissionError(13, f"{there} cannot be written"))


def _busy(run: Run) -> str:
    return f"{run.folder} is in use by another run: wait, or choose another output"


def _make_folders(run: Run) -> None:
    try:
        run.blocks.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(run.products, ignore_errors=True)
        run.products.mkdir()
    except OSError as error:
        raise OutputError(f"cannot make the run directory {run.folder}: {error.strerror or error}") from error


def _check_kinds(run: Run) -> None:
    check_own(run.folder.parent, (), [run.folder.name] if run.folder.is_symlink() else [])
    files = (PLAN, LOCK, PUBLISHING, RUN_REPORT, MOSAIC, SOURCES, COLLAR, run.classes.name, run.confidence.name)
    check_own(run.folder, [name + end for name in files for end in ("", PART)], ["blocks", "products", "decoded"])
    names = os.listdir(run.blocks) if run.blocks.is_dir() else []
    folders = [name for name in names if name.startswith(PARTS)]
    check_own(run.blocks, {*names} - {*folders}, folders)


def run_folder(output: Path) -> Path:
    """Where the run for ``output`` lives unless the user says: beside it, named after it."""
    name = f"{output.name}{RUN_ENDING}"
    if len(os.fsencode(name)) > 255:  # the limit of most file systems
        import hashlib

        name = f"{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]}{RUN_ENDING}"
    return output.parent / name


def _found_plan(path: Path) -> dict[str, Any]:
    """The plan that is there; none where a power cut has left it empty."""
    with naming_errors(path):
        if not path.exists() or not path.read_bytes().strip(b"\0"):
            return {}
    found = read_json(path)
    kinds = {"settings": dict, "layer": dict, "sources": list}
    sound = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    if not sound or not all(_is_texts(one, 2) for one in found["sources"]):
        raise OutputError(
            f"{path.parent} holds a run of another version of aerialseg: delete that directory to start anew, or name "
            "another one with --keep-run"
        )
    return found


def lost_in_copies(run: Run) -> set[tuple[str, Box]]:
    """Path, and box in its pixels, of what could not be read of files that were decoded. Raises OutputError."""
    try:
        return {(str(file), Box(*box)) for file, *box in read_json(run.blocks / DECODED).get("lost", [])}
    except (TypeError, ValueError) as error:
        raise OutputError(f"{run.folder} is not a run that aerialseg made ({error}): delete it") from error


def read_sources(run: Run) -> dict[str, list[str]]:
    """Path of each source -> digest, digest that its blocks are known by, content. Raises OutputError."""
    known = read_json(run.folder / SOURCES).get("sources", [])
    if not isinstance(known, list) or not all(_is_texts(one, 4) for one in known):
        raise OutputError(f"{run.folder / SOURCES} is not as aerialseg wrote it: delete {run.folder} to start anew")
    return {path: values for path, *values in known}


def _is_texts(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(one, str) for one in value)
