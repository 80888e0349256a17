"""What a run that is kept has to draw its layer from: class and confidence raster, sealed when they are complete."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from aerialseg.errors import InputError, OutputError
from aerialseg.files import flush, identity, link_or_copy, naming_errors, read_json, write_json
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import MOSAIC, Run
from aerialseg.raster.mosaic import read_tile


def has_mosaic(run: Run, plan: Plan) -> bool:
    """Whether class and confidence raster of the plan's very blocks are there, untouched since `seal_mosaic`.

    Raises OutputError where they are sealed and no such rasters.
    """
    seal, files = read_json(run.folder / MOSAIC), _identities(run)
    if not files or seal.get("blocks_digest") != plan.blocks_digest or seal.get("files") != files:
        return False
    for path in (run.classes, run.confidence):
        try:
            found = read_tile(path).geo
        except InputError as error:
            raise OutputError(f"{error}; delete {run.folder}") from error
        if (found.height, found.width) != plan.geo.shape:
            wanted = f"wanted {plan.geo.height} x {plan.geo.width}"
            raise OutputError(f"{path} has {found.height} x {found.width} px, {wanted}; delete {run.folder}")
    return True


def seal_mosaic(run: Run, plan: Plan, lost_px: int) -> None:
    """Note that class and confidence raster are complete: a later run draws its layer from them. Raises OutputError."""
    for path in (run.classes, run.confidence):
        flush(path)
    seal = {"blocks_digest": plan.blocks_digest, "files": _identities(run), "lost_px": lost_px}
    write_json(run.folder / MOSAIC, seal)


def adopt_mosaic(run: Run, plan: Plan, classes: Path, confidence: Path, lost_px: int) -> None:
    """Begin a run of the plan with class and confidence raster of an earlier one. Raises OutputError."""
    with run.lock():
        run.begin(plan)
        for source, target in ((classes, run.classes), (confidence, run.confidence)):
            with naming_errors(target):
                link_or_copy(source, target)
        seal_mosaic(run, plan, lost_px)


def _identities(run: Run) -> list[list[int]]:
    with suppress(OSError):
        return [identity(path) for path in (run.classes, run.confidence)]
    return []
