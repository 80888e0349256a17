"""How finished products get their final names, and which files at those names a run has put there itself."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerialseg.errors import AerialsegError
from aerialseg.files import cannot_write, identity, read_json, write_json
from aerialseg.files import move_into_place as move_to_name
from aerialseg.mapping.outputs import Outputs
from aerialseg.mapping.run import PUBLISHING, Run
from aerialseg.vector.formats import GEOPACKAGE, ending_of


def published_files(run: Run) -> dict[Path, bool]:
    """Names at which the run may have put a result -> whether the file there is one that it put."""
    return {Path(path): _identity(path) in known for path, known in _noted(run).items()}


def publish_products(outputs: Outputs, run: Run) -> None:
    """Move the run's finished products to their names, rasters first, the layer last.

    Each move is a rename on one file system, so a name never holds half a file. Other layers of a GeoPackage that is
    replaced stay, in the new one. Raises OutputError, UsageError, ResourceError.
    """
    staged: dict[Path, Path] = {}
    try:
        for final, made in reversed(_finished(outputs, run.products).items()):
            staged[final] = _stage(outputs, made, final)
        _note(run, {final: identity(near) for final, near in staged.items()})
        for final in reversed(outputs.touched):
            if final in staged:
                move_to_name(staged[final], final)
            elif final not in outputs.paths:
                with contextlib.suppress(FileNotFoundError):
                    final.unlink()
    finally:
        for final, near in staged.items():
            if near.parent == final.parent:
                with contextlib.suppress(OSError):
                    near.unlink(missing_ok=True)


def _finished(outputs: Outputs, folder: Path) -> dict[Path, Path]:
    """Final name -> finished file, of all products and of the sidecars that they have."""
    made = {final: folder / product for product, final in outputs.products.items()}
    for there, final in outputs.touched.items():
        beside = made[final].with_name(made[final].name + there.name.removeprefix(final.name))
        if there != final and os.path.exists(beside):
            made[there] = beside
    return made


def _stage(outputs: Outputs, made: Path, final: Path) -> Path:
    """The file to rename: ``made`` itself, or one beside ``final`` where that is another disk or holds more."""
    from aerialseg.vector.transplant import remove_part, with_other_layers
    from aerialseg.vector.writing import WRITE_ERRORS, part_of

    near = part_of(final)
    try:
        remove_part(near)  # of a killed run
        if final == outputs.layer and ending_of(final) == GEOPACKAGE:
            made = with_other_layers(made, final, outputs.layer_name, near)
        if made.stat().st_dev != final.parent.stat().st_dev:
            shutil.copyfile(made, near)
            return near
    except WRITE_ERRORS as error:
        if isinstance(error, AerialsegError):
            raise
        near.unlink(missing_ok=True)
        raise cannot_write(final, error) from error
    return made


def _noted(run: Run) -> dict[str, list[Any]]:
    found = read_json(run.folder / PUBLISHING).get("files")
    if not isinstance(found, dict):
        return {}
    return {path: known for path, known in found.items() if isinstance(known, list)}


def _note(run: Run, files: Mapping[Path, list[int]]) -> None:
    """Note which files will be where. What an earlier try has put there stays known until the new file is there."""
    there = {path: _identity(path) for path, intact in published_files(run).items() if intact}
    noted = {str(path): [made, *([there[path]] if path in there else [])] for path, made in files.items()}
    write_json(run.folder / PUBLISHING, {"files": noted})


def _identity(path: str | Path) -> list[int] | None:
    with contextlib.suppress(OSError, ValueError):
        return identity(path)
    return None
