"""Which pixels are collar: those of a nodata colour that hang together with the outside of the mosaic.

A white roof touches no outside, so it stays, and so does a shadow. Regions are found strip by strip and joined as those
of a layer are (`vector.regions`), so the answer does not depend on how the raster is cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from aerialseg.files import remove_if_there
from aerialseg.mapping.classify import decode_view
from aerialseg.mapping.kept import has_mosaic
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import COLLAR, Run
from aerialseg.mapping.timeline import Timeline
from aerialseg.progress import Progress
from aerialseg.raster.classes import ClassRaster
from aerialseg.raster.collar import IMAGE, NEAR, OUTSIDE, Rows, closed, is_made_of, is_near, write_rows
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.view import View
from aerialseg.vector.regions import Regions, find_regions

STRIP_PX = 1 << 23
"""About so many pixels are read at a time."""

MARGIN = 2
"""Rows and columns around a strip that closing looks at."""


def with_collar(plan: Plan, run: Run, timeline: Timeline, progress: Progress) -> Plan:
    """The plan whose view knows the collar, looked for if a colour was given. Raises InputError, OutputError.

    One that an interrupted run has found is taken as it is, if it was found in the very same pixels.
    """
    if not plan.view.collar or has_mosaic(run, plan):
        return plan
    mask, made_of = run.folder / COLLAR, _content(plan)
    if not is_made_of(mask, made_of):
        view = decode_view(plan.view, run, timeline, progress)
        progress.stage("collar", 1.0)
        write_collar(view, mask, made_of, allow_remote=plan.allow_remote)
        progress.advance(1.0)
    return replace(plan, view=replace(plan.view, collar_mask=str(mask)))


def _content(plan: Plan) -> str:
    """A digest of all that decides the mask: where, of what pixels, and what of them may not be read."""
    view = plan.view
    reading = [view.collar, *(piece.on_read_error for piece in view.pieces), plan.version]
    place = [view.geo.shape, view.geo.transform, view.geo.crs]
    return hashlib.sha256(json.dumps([view.content(), place, reading]).encode()).hexdigest()


def write_collar(view: View, path: Path, made_of: str, *, allow_remote: bool) -> None:
    """The mask of the collar, uint8, 1 where it is, on the view's working grid. Raises InputError, OutputError.

    made_of: a digest to know it again by.
    """
    marks = path.with_name(f"marks-{path.name}")
    edged = view.geo.part(Box(0, 0, *view.shape).grow(1))  # what lies around the raster is outside, too
    try:
        write_rows(marks, edged, _marks(view, allow_remote))
        raster = ClassRaster(marks)
        regions, contacts = find_regions(raster, contacts=True)
        collar = np.zeros(len(regions) + 1, np.uint8)  # the last one stands for none
        for one, other in ((contacts.a, contacts.b), (contacts.b, contacts.a)):
            collar[one[(regions.classes[one] == NEAR) & (regions.classes[other] == OUTSIDE)]] = 1
        write_rows(path, view.geo, _inner(raster, regions, collar), made_of)
    finally:
        remove_if_there(marks)


def _marks(view: View, allow_remote: bool) -> Rows:
    """`IMAGE`, `NEAR` and `OUTSIDE` of the raster and of one pixel more on all sides."""
    height, width = view.shape
    edge = np.full((1, width + 2), OUTSIDE, np.uint8)
    step = max(1, STRIP_PX // width)
    yield edge
    with Source(view, allow_remote=allow_remote) as source:
        for top in range(0, height, step):
            pixels, valid = source.read(Box(top, 0, min(top + step, height), width).grow(MARGIN))
            near = closed(is_near(pixels, view.collar) & valid) & valid
            marks = np.where(near, np.uint8(NEAR), np.where(valid, np.uint8(IMAGE), np.uint8(OUTSIDE)))
            yield marks[MARGIN:-MARGIN, MARGIN - 1 : 1 - MARGIN]
    yield edge


def _inner(raster: ClassRaster, regions: Regions, collar: np.ndarray) -> Iterator[np.ndarray]:
    """What is collar, without the pixel more on all sides."""
    last = raster.geo.height - 1
    for strip in raster:
        rows = slice(1 if strip.row == 0 else 0, last - strip.row if strip.row + len(strip.classes) > last else None)
        if len(part := collar[regions.label(strip)][rows, 1:-1]):
            yield part
