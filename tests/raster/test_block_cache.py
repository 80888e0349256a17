"""Shared pages: the same pixels as read alone, each decoded about once, in bounded memory, with few open files."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import InputError
from aerialseg.raster import block_cache as pages_module
from aerialseg.raster.block_cache import Order, Pages, reading_order
from aerialseg.raster.describe import describe
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box, Grid
from aerialseg.raster.lattice import IDENTITY, SourceSheet
from aerialseg.raster.piece import Piece
from aerialseg.raster.source import Source
from aerialseg.raster.view import View, make_view
from tests.conftest import WriteRaster, land_cover
from tests.raster.drawing import spoil

TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


def view_of(path: Path, gsd: float | None = None, **options: object) -> View:
    return make_view(describe(path), model_gsd_m=gsd or 0.1, resolution_m=gsd, **options)


def read_all(view: View, order: Order, grid: Grid, threads: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    indices = sorted(range(len(grid)), key=lambda index: order.key(grid, index))
    with Pages(view, order) as pages, ThreadPoolExecutor(threads) as executor:
        found = executor.map(lambda index: pages.read(grid.window(grid.core(index)))[:2], indices)
        return dict(zip(indices, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("profile", [TILES, {"compress": "deflate", "blockysize": 7}, {}])
@pytest.mark.parametrize("gsd", [None, 0.23, 0.07])
@pytest.mark.parametrize("masked", [False, True])
def test_windows_are_as_read_alone_whatever_the_layout(
    write_raster: WriteRaster,
    monkeypatch: pytest.MonkeyPatch,
    profile: dict[str, object],
    gsd: float | None,
    masked: bool,
) -> None:
    monkeypatch.setattr(pages_module, "PAGE_PX", 64)
    monkeypatch.setattr(pages_module, "RESAMPLED_PX", 96)
    rng = np.random.default_rng(0)
    mask = rng.random((211, 307)) > 0.1 if masked else None
    view = view_of(write_raster(rng.integers(0, 256, (3, 211, 307), np.uint8), mask=mask, **profile), gsd)
    grid = Grid(*view.shape, 64, 32)
    order = reading_order(grid, view, describe(view.path).block_shape, cache_bytes=200_000)
    assert order.page is not None
    found = read_all(view, order, grid, threads=3)
    with Source(view) as source:
        for index, (pixels, valid) in found.items():
            alone = source.read(grid.window(grid.core(index)))
            assert np.array_equal(pixels, alone[0])
            assert np.array_equal(valid, alone[1])


def test_each_tile_is_decoded_once_although_windows_overlap(
    write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "PAGE_PX", 64)
    view = view_of(write_raster(land_cover(640, 640), **TILES))
    grid = Grid(640, 640, 128, 96)
    decoded: list[Box] = []
    read = Source.read
    monkeypatch.setattr(Source, "read", lambda self, box: (decoded.append(box), read(self, box))[1])
    read_all(view, reading_order(grid, view, (64, 64)), grid, threads=4)
    assert len(decoded) == len(set(decoded)) == 100
    assert sum(grid.window(core).area for core in grid) > 3 * 640 * 640  # what reading window by window decodes


@given(
    rows=st.integers(1, 20_000),
    cols=st.integers(1, 40_000),
    block=st.sampled_from([512, 1024, 2048]),
    tile=st.sampled_from([(16, 16), (256, 256), (512, 512), (1000, 1000), (4096, 4096), (1, 0), (64, 0)]),
)
def test_the_order_visits_each_block_once_and_fits_the_cache(
    rows: int, cols: int, block: int, tile: tuple[int, int]
) -> None:
    geo = GeoGrid(rows, cols, (1, 0, 0, 0, 1, 0), None)
    view = View("x", geo, (Piece("x", geo.shape, (1, 2, 3)),), (SourceSheet(IDENTITY, IDENTITY),), 0, 0, None, "")
    grid = Grid(rows, cols, block, 608)
    order = reading_order(grid, view, (tile[0], tile[1] or cols))
    keys = {order.key(grid, index) for index in range(len(grid))}
    assert len(keys) == len(grid)
    assert order.cache_bytes <= 2 * pages_module.CACHE_BYTES
    if order.page is not None:  # a row of windows and the pages under it fit
        width = min(cols, order.cols * block + 2 * 608)
        assert order.cache_bytes >= 3 * width * min(rows, block + 2 * 608)


def test_pages_take_no_more_memory_than_they_may(write_raster: WriteRaster) -> None:
    view = view_of(write_raster(land_cover(512, 512), **TILES))
    with Pages(view, Order(4, (64, 64), 5 * 3 * 64 * 64)) as pages:
        for top in range(0, 512, 64):
            pages.read(Box(top, 0, top + 64, 512))
            kept = [future.result().nbytes for future in pages._pages.values()]
            assert sum(kept) == pages._bytes <= 5 * 3 * 64 * 64
            assert kept


def test_a_handle_per_thread_stays_open_between_windows_and_none_after(write_raster: WriteRaster) -> None:
    view = view_of(write_raster(land_cover(512, 512), **TILES))
    before = len(os.listdir("/proc/self/fd"))
    with Pages(view, Order(4, (64, 64), 1)) as pages, ThreadPoolExecutor(2) as executor:
        for _ in range(5):
            list(executor.map(lambda n: pages.read(Box(0, n, 64, n + 64)), range(0, 448, 64)))
            assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_everyone_who_waits_for_a_damaged_page_is_told(write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(0)
    path = write_raster(rng.integers(0, 256, (3, 256, 256), np.uint8), **TILES)
    spoil(path, 1, 1)
    view = view_of(path)
    with Pages(view, Order(1, (64, 64), 1 << 20)) as pages, ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(pages.read, Box(0, 0, 256, 256)) for _ in range(6)]
        for future in futures:
            with pytest.raises(InputError, match="cannot read"):
                future.result()
        assert pages.read(Box(192, 0, 256, 256))[1].all()  # the rest can be read still


def test_lost_tiles_are_named_for_every_window_that_lacks_them(write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(0)
    path = write_raster(rng.integers(0, 256, (3, 256, 256), np.uint8), **TILES)
    spoil(path, 1, 1)
    view = view_of(path, on_read_error="nodata")
    with Pages(view, Order(1, (64, 64), 1 << 20)) as pages:
        for box in (Box(0, 0, 128, 128), Box(96, 96, 256, 256)):
            _, valid, lost = pages.read(box)
            assert lost == {(str(path), Box(64, 64, 128, 128))}
            assert not valid[(Box(64, 64, 128, 128) & box).within(box)].any()
        assert pages.read(Box(128, 0, 256, 64))[2] == frozenset()


def test_threads_that_want_the_same_page_wait_for_the_one_that_decodes_it(
    write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = view_of(write_raster(land_cover(64, 64), **TILES))
    read, begun = Source.read, threading.Barrier(3)
    calls = []

    def slow(self: Source, box: Box):  # type: ignore[no-untyped-def]
        calls.append(box)
        time.sleep(0.05)
        return read(self, box)

    def work(_: int) -> bytes:
        begun.wait()
        return pages.read(Box(0, 0, 64, 64))[0].tobytes()

    monkeypatch.setattr(Source, "read", slow)
    with Pages(view, Order(1, (64, 64), 1 << 20)) as pages, ThreadPoolExecutor(3) as executor:
        assert len(set(executor.map(work, range(3)))) == 1
    assert len(calls) == 1
