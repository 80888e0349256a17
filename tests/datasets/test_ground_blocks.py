"""Blocks of ground and the chips in them: nothing is seen twice, nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from aerialseg.datasets.ground_blocks import cut_blocks, make_lattice
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.lattice import SourceSheet
from aerialseg.raster.piece import Piece
from aerialseg.raster.resample import PixelAxis
from aerialseg.raster.view import View
from tests.raster.drawing import UTM

EVERYWHERE = (-1e9, -1e9, 1e9, 1e9)


def a_view(
    x: float, y: float, gsd: float, shape: tuple[int, int], *, ratio: float = 1.0, turn: float = 0.0, crs: str = UTM
) -> View:
    """An orthophoto that nobody opens, ``turn`` degrees off north."""
    transform = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(gsd, -gsd)
    axis = PixelAxis.of(1 / ratio)
    return View(
        path="",
        geo=GeoGrid(*shape, tuple(transform)[:6], crs),  # type: ignore[arg-type]
        pieces=(Piece("", (round(shape[0] * ratio), round(shape[1] * ratio)), (1, 2, 3)),),
        sheets=(SourceSheet(axis, axis),),
        top=0,
        left=0,
        gsd_m=(gsd, gsd),
        note="",
    )


def seen(view: View, size: tuple[int, int], chips: tuple[int, int], views: list[View]) -> Iterator[tuple[str, Any]]:
    """GroundBlock and the ground that each chip was made of: a resampled pixel looks half a source pixel further."""
    spread = max(1, view.ratio[0]) * 0.5 + 0.5 / min(1, view.ratio[0]) if view.resampled else 0.0
    for block, boxes in cut_blocks(view, make_lattice(views, size, chips), size, EVERYWHERE):
        for box in boxes:
            corners = (
                (box.left - spread, box.top - spread),
                (box.right + spread, box.top - spread),
                (box.right + spread, box.bottom + spread),
                (box.left - spread, box.bottom + spread),
            )
            yield block.name, shapely.Polygon([view.geo.at(*corner) for corner in corners])


@settings(max_examples=25)
@given(
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(0.9, 1.1),
    st.sampled_from([1.0, 2.37, 0.4, 0.15]),
    st.sampled_from([0.0, 0.0, 90.0, 180.0, 30.0]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.sampled_from([32, 64]), st.sampled_from([32, 96])),
)
def test_no_ground_is_seen_from_two_blocks_even_by_two_overlapping_orthophotos(
    x: float, y: float, scale: float, ratio: float, turn: float, chips: tuple[int, int], size: tuple[int, int]
) -> None:
    second = a_view(500_000 + x, 5_000_000 + y, 0.1 * scale, (310, 290), ratio=ratio, turn=turn)
    views = [a_view(500_000, 5_000_000, 0.1, (300, 400)), second]
    grounds: dict[str, list[Any]] = {}
    for view in views:
        for name, ground in seen(view, size, chips, views):
            grounds.setdefault(name, []).append(ground)
    whole = {name: shapely.unary_union(parts) for name, parts in grounds.items()}
    names = sorted(whole)
    assert len(names) > 1
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert not whole[name].intersects(whole[other])


@settings(max_examples=30)
@given(
    st.floats(0, 1e7),
    st.floats(0.01, 2.0),
    st.tuples(st.integers(8, 300), st.integers(8, 300)),
    st.integers(1, 4),
    st.sampled_from([0.0, 90.0, 180.0, 270.0]),
)
def test_chips_leave_out_nothing_but_the_borders_of_blocks(
    x: float, gsd: float, shape: tuple[int, int], along: int, turn: float
) -> None:
    """Each row and column is in chips, but for four of each block; of a turned image, also of the first one."""
    view, size = a_view(x, x / 3, gsd, shape, turn=turn), (64, 96)
    covered = np.zeros((shape[0] + 800, shape[1] + 800), np.int8)
    for _, boxes in cut_blocks(view, make_lattice([view], size, (along, along)), size, EVERYWHERE):
        for box in boxes:
            covered[box.top + 400 : box.bottom + 400, box.left + 400 : box.right + 400] += 1
    inside = covered[400 : 400 + shape[0], 400 : 400 + shape[1]]
    assert covered.max() <= 1
    for axis, side in ((1, size[0]), (0, size[1])):
        lines = inside.any(axis=axis)
        assert (~lines).sum() <= 4 * (len(lines) // (side * along) + (turn != 0))
