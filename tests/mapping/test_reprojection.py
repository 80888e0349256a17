"""Rasters of another coordinate system in a mosaic: resampled once, on request, without a trace elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from aerialseg.errors import InputError, ResourceError
from aerialseg.mapping.estimate import describe_run
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.transcode import copy_bytes, decoded_copy
from aerialseg.raster.view import View, make_view
from tests.mapping.test_estimate import estimate
from tests.mapping.test_mosaics import (
    CORNER,
    Counting,
    Heard,
    _moved,
    as_format,
    asked,
    cut,
    run,
    same_layer,
    scene,
    write_tile,
)
from tests.raster.drawing import UTM, write

__all__ = ["asked"]

ABROAD = "EPSG:32632"
"""The zone in the west: north is askew there by some degrees."""
REACH_PX = 96


def write_abroad(path: Path, pixels: np.ndarray, box: Box, crs: str = ABROAD, **profile: Any) -> Path:
    """The box of a scene as a file in another CRS, by GDAL, nodata 0 around it."""
    transform = CORNER @ Affine.translation(box.left, box.top)
    part = np.ascontiguousarray(pixels[(slice(None), *box.slices)])
    left, top = transform @ (0, 0)
    right, bottom = transform @ (box.width, box.height)
    bounds = transform_bounds(UTM, crs, left, bottom, right, top, densify_pts=21)
    width, height = (round((bounds[end] - bounds[start]) / 0.1) for start, end in ((0, 2), (1, 3)))
    x, y = (bounds[2] - bounds[0]) / width, (bounds[3] - bounds[1]) / height
    there = Affine(x, 0, bounds[0], 0, -y, bounds[3])
    warped, _ = reproject(
        part,
        np.zeros((len(pixels), height, width), pixels.dtype),
        src_transform=transform,
        src_crs=UTM,
        dst_transform=there,
        dst_crs=crs,
        src_nodata=0,
        resampling=Resampling.bilinear,
        tolerance=0.0,
    )
    return write(path, warped, crs=crs, transform=there, **{"nodata": 0, **profile})


def mixed(folder: Path, pixels: np.ndarray, **profile: Any) -> tuple[Path, Path, Box]:
    """A folder of 9 tiles, that of the one in the lower right corner, which lies in another CRS, and its box."""
    cut(pixels, folder, (101, 160), (64, 203))
    box = Box(160, 203, 300, 340)
    corner = next(
        path for path in folder.iterdir() if rasterio.open(path).transform == CORNER @ Affine.translation(203, 160)
    )
    return folder, write_abroad(corner, pixels, box, **profile), box


def classes(path: Path) -> Any:
    with rasterio.open(path) as file:
        return file.read(1), file.transform


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Any]:
    """A folder of tiles of which one lies in another CRS, its class raster and its layer."""
    folder = tmp_path_factory.mktemp("joined")
    tiles, _, _ = mixed(folder / "tiles", scene())
    _, found, layer = run(tiles, folder, reproject=True)
    return folder, found, layer


def test_another_coordinate_system_is_refused_unless_asked_for(tmp_path: Path) -> None:
    tiles, abroad, _ = mixed(tmp_path / "tiles", scene())
    with pytest.raises(InputError, match=rf"{abroad.name} has another coordinate system .*give --reproject"):
        run(tiles, tmp_path)
    heard = Heard()
    result, _, _ = run(tiles, tmp_path, reproject=True, progress=heard)
    assert "9 rasters as one, 1 of them reprojected from WGS 84 / UTM zone 32N (EPSG:32632)" in result.plan.summary
    assert result.plan.summary in heard.notes
    assert result.valid_px >= 300 * 340 - 200
    assert not (tmp_path / "map.fgb.run").exists()


@pytest.mark.slow
def test_off_the_reach_of_a_reprojected_tile_nothing_changes(joined: Any, tmp_path: Path) -> None:
    folder, _, _ = joined
    pixels = scene()
    one = write_tile(tmp_path / "one.tif", pixels, Box(0, 0, 300, 340))
    run(one, tmp_path)
    (whole, place), (found, there) = classes(tmp_path / "map.tif"), classes(folder / "map.tif")
    col, row = (round(number) for number in ~place @ (there.c, there.f))
    assert there == pytest.approx(place @ Affine.translation(col, row), abs=1e-6)
    same = np.zeros(whole.shape, bool)
    same[: 160 - REACH_PX] = same[:, : 203 - REACH_PX] = True
    cropped = found[-row : 300 - row, -col : 340 - col]
    assert (cropped == whole)[same].all()
    assert (cropped != whole).any()  # resampled twice, by GDAL for this test and by us


@pytest.mark.parametrize("block_px", [32, 160, 2048])
def test_no_block_sees_how_the_raster_is_cut(joined: Any, tmp_path: Path, block_px: int) -> None:
    folder, found, layer = joined
    _, other, drawn = run(folder / "tiles", tmp_path, reproject=True, block_px=block_px)
    assert other == found
    assert same_layer(drawn, layer)


@pytest.mark.slow
@pytest.mark.parametrize("gsd_m", [0.23, 0.071])
def test_where_everything_is_resampled_the_working_grid_stays(tmp_path: Path, gsd_m: float) -> None:
    pixels = scene()
    tiles, abroad, _ = mixed(tmp_path / "tiles", pixels)
    with_it = run(tiles, tmp_path, "a", resolution_m=gsd_m, reproject=True)[0].plan
    again = run(tiles, tmp_path, "c", resolution_m=gsd_m, reproject=True, block_px=64)[1]
    assert again == run(tiles, tmp_path, "d", resolution_m=gsd_m, reproject=True)[1]
    abroad.unlink()
    without = run(tiles, tmp_path, "b", resolution_m=gsd_m)[0].plan
    assert with_it.geo.transform[0] == without.geo.transform[0]
    assert with_it.geo.offset_of(without.geo) is not None
    (found, place), (alone, there) = classes(tmp_path / "a.tif"), classes(tmp_path / "b.tif")
    col, row = (round(number) for number in ~place @ (there.c, there.f))
    far = round(160 * 0.1 / gsd_m) - REACH_PX
    if far > 0:
        assert (found[row : row + far, col : col + alone.shape[1]] == alone[:far]).all()


def view_of(tmp_path: Path, pixels: np.ndarray, **options: Any) -> View:
    """A small straight raster beside one in another CRS."""
    here = write_tile(tmp_path / "here.tif", pixels, Box(0, 0, 20, 20))
    there = write_abroad(tmp_path / "there.tif", pixels, Box(0, 20, *pixels.shape[1:]))
    return make_view([describe(here), describe(there)], model_gsd_m=0.1, reproject=True, **options)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-5, 170), st.integers(-5, 190), st.integers(1, 120), st.integers(1, 120))
def test_any_box_is_that_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, top: int, left: int, height: int, width: int
) -> None:
    view = KNOWN.get("view")
    if view is None:
        folder = tmp_path_factory.mktemp("boxes")
        view = KNOWN["view"] = view_of(folder, scene(180, 200), resolution_m=0.14)
        with Source(view) as source:
            KNOWN["whole"] = source.read(Box(0, 0, *view.shape).grow(200))
    box = Box(top, left, top + height, left + width)
    with Source(view) as source:
        pixels, valid = source.read(box)
    where = Box(top + 200, left + 200, top + 200 + height, left + 200 + width).slices
    assert np.array_equal(pixels, KNOWN["whole"][0][(slice(None), *where)])
    assert np.array_equal(valid, KNOWN["whole"][1][where])


KNOWN: dict[str, Any] = {}


@pytest.mark.slow
@pytest.mark.parametrize(("crs", "size"), [(ABROAD, 0.1), (ABROAD, 0.035), ("EPSG:4326", 1e-6), ("EPSG:3857", 0.3)])
def test_pixels_lie_where_they_belong(tmp_path: Path, crs: str, size: float) -> None:
    """Each pixel holds what a smooth picture has at its own place on the ground, whatever the CRS of its file."""
    here = write_tile(tmp_path / "here.tif", scene(60, 60), Box(0, 0, 60, 60))
    left, bottom, right, top = transform_bounds(UTM, crs, 500_010, 4_999_940, 500_070, 5_000_000)
    height, width = round((top - bottom) / size), round((right - left) / size)
    place = Affine(size, 0, left, 0, -size, top)
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = (np.array(axis).reshape(rows.shape) for axis in to_utm(crs, *(place @ (cols.ravel(), rows.ravel()))))
    there = write(tmp_path / "there.tif", ground(x, y), crs=crs, transform=place)
    view = make_view([describe(here), describe(there)], model_gsd_m=0.1, resolution_m="native", reproject=True)
    box = Box(100, 150, 500, 550)
    with Source(view) as source:
        pixels, valid = source.read(box)
    cols, rows = np.meshgrid(np.arange(box.left, box.right) + 0.5, np.arange(box.top, box.bottom) + 0.5)
    expected = ground(*view.geo.at(cols, rows))
    assert valid.all()
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def place_in(view: View) -> tuple[float, float]:
    """(row, column) of the scene's corner in the view."""
    col, row = view.geo.to_pixels(CORNER.c, CORNER.f)
    return row, col


def to_utm(crs: str, xs: np.ndarray, ys: np.ndarray) -> Any:
    return rasterio.warp.transform(crs, UTM, xs, ys)


def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = np.sin(x / 5), np.cos(y / 4), np.sin((x + y) / 7)
    return np.stack([128 + 100 * wave for wave in waves]).round().astype(np.uint8)


def test_neighbours_in_another_coordinate_system_leave_no_gap(tmp_path: Path) -> None:
    pixels = scene(200, 220)
    abroad = write_abroad(tmp_path / "abroad.tif", pixels, Box(0, 20, 200, 220))
    here = [write_tile(tmp_path / f"h{top}.tif", pixels, Box(top, 0, top + 10, 20)) for top in range(0, 200, 10)]
    with rasterio.open(abroad) as file:
        content, place, height, width = file.read(), file.transform, *file.shape
    parts = []
    for number, (top, left) in enumerate((top, left) for top in range(0, height, 70) for left in range(0, width, 90)):
        part = content[:, top : top + 70, left : left + 90]
        at = place @ Affine.translation(left, top)
        parts.append(write(tmp_path / f"{number}.tif", part, crs=ABROAD, transform=at, nodata=0))
    valid = []
    for paths in ([*here, abroad], [*here, *parts]):
        view = make_view([describe(path) for path in paths], model_gsd_m=0.1, reproject=True)
        with Source(view) as source:
            wanted = Box(0, 0, 200, 240).placed_in(Box(*map(round, place_in(view)), *view.shape))
            valid.append(source.read(wanted)[1])
    assert valid[0].sum() > 200 * 215
    assert np.array_equal(*valid)


def test_it_is_what_gdal_makes_of_it_nearly(tmp_path: Path) -> None:
    pixels = scene(180, 200)
    view = view_of(tmp_path, pixels, resolution_m="native")
    with Source(view) as source, rasterio.open(tmp_path / "there.tif") as file:
        found, valid = source.read(Box(0, 0, *view.shape))
        expected = np.zeros_like(found)
        reproject(
            rasterio.band(file, [1, 2, 3]),
            expected,
            dst_transform=view.geo.affine,
            dst_crs=UTM,
            resampling=Resampling.bilinear,
            tolerance=0.0,
        )
    inside = valid & expected.any(axis=0)
    inside[:, :60] = False
    assert inside.sum() > 20_000
    assert np.abs(found.astype(int) - expected)[:, inside].max() <= 1


def test_what_is_not_valid_stays_so_and_weighs_nothing(tmp_path: Path) -> None:
    pixels = scene(180, 200)
    pixels[:, 60:90, 80:120] = 0
    view = view_of(tmp_path, np.where(pixels > 0, 200, 0).astype(np.uint8), resolution_m="native")
    with Source(view) as source:
        found, valid = source.read(Box(0, 0, *view.shape))
    row, col = map(round, place_in(view))
    assert not valid[row + 62 : row + 88, col + 82 : col + 118].any()
    assert valid[row + 95 : row + 170, col + 40 : col + 190].all()
    assert (found[:, valid] == 200).all()


@pytest.mark.parametrize("driver", ["GTiff", "PNG", "JP2OpenJPEG"])
def test_the_copy_in_the_run_is_what_is_read(tmp_path: Path, driver: str) -> None:
    pixels = scene(180, 200)
    here = write_tile(tmp_path / "here.tif", pixels, Box(0, 0, 20, 20))
    lossless = {"nodata": None} if driver == "JP2OpenJPEG" else {}  # which flags no band as alpha
    there = write_abroad(tmp_path / "there.tif", pixels, Box(0, 20, 180, 200), **lossless)
    if driver != "GTiff":
        as_format(there, driver)
        there = next(path for path in tmp_path.iterdir() if path.stem == "there" and path.suffix in (".png", ".jp2"))
        there.with_suffix(".prj").write_text(rasterio.crs.CRS.from_user_input(ABROAD).to_wkt())
    view = make_view([describe(here), describe(there)], model_gsd_m=0.1, reproject=True)
    assert [piece.warp is not None for piece in view.pieces] == [False, True]
    copy = decoded_copy(view.pieces[1], tmp_path / "copies").piece
    copied = View(**{**vars(view), "pieces": (view.pieces[0], copy)})
    for one, other in zip(*(Source(each).read(Box(0, 0, *view.shape)) for each in (view, copied)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_only_blocks_that_see_a_renewed_tile_are_computed_again(tmp_path: Path, asked: Any) -> None:
    pixels = scene()
    tiles, abroad, box = mixed(tmp_path / "tiles", pixels)
    keep = {"model": Counting(), "keep_run": tmp_path / "run", "reproject": True}
    first = run(tiles, tmp_path, "a", **keep)[1]
    asked()
    assert run(tiles, tmp_path, "b", **keep)[1] == first
    assert asked() == 0
    write_abroad(abroad, scene(seed=9), box)
    result, found, drawn = run(tiles, tmp_path, "c", **keep)
    grid = result.plan.grid
    piece = next(piece for piece in result.plan.view.pieces if piece.warp)
    assert asked() == sum(bool(grid.window(core) & piece.box) for core in grid) < len(grid)
    assert _moved(box, grid) & piece.box
    _, clean, layer = run(tiles, tmp_path, "d", reproject=True)
    assert found == clean != first
    assert same_layer(drawn, layer)


def test_a_dry_run_says_how_many_and_counts_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles, _, _ = mixed(tmp_path / "tiles", scene())
    found = estimate(tiles, tmp_path, reproject=True)
    assert describe_run(found)[0] == "sources  9 used, 0 resampled, 1 reprojected, 0 refused"
    assert found.to_json()["reprojected"] == 1
    piece = next(piece for piece in found.plan.view.pieces if piece.warp)
    assert found.plan.disk_bytes > copy_bytes(piece) >= piece.box.area * 4
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=copy_bytes(piece)))
    with pytest.raises(ResourceError, match="the run may take"):
        run(tiles, tmp_path, reproject=True)


def test_a_raster_that_lies_askew_is_resampled_too_and_one_of_no_crs_is_not(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    tiles = cut(pixels, tmp_path / "tiles", (60,), (60,))
    turned = Affine.translation(500_060, 4_999_990) @ Affine.rotation(20) @ Affine.scale(0.1, -0.1)
    write(tmp_path / "tiles" / "turned.tif", pixels, transform=turned)
    with pytest.raises(InputError, match="north is not up"):
        run(tmp_path / "tiles", tmp_path)
    result, _, _ = run(tmp_path / "tiles", tmp_path, reproject=True)
    assert result.valid_px == pytest.approx(2 * 120 * 120, rel=0.01)
    write(tmp_path / "tiles" / "nowhere.tif", pixels, crs=None, transform=CORNER)
    with pytest.raises(InputError, match=r"nowhere\.tif has no coordinate system"):
        run(tmp_path / "tiles", tmp_path, reproject=True, overwrite=True)
    assert len(tiles) == 4


def test_much_larger_pixels_and_no_raster_of_the_grid_of_most_are_refused(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    cut(pixels, tmp_path / "tiles", (60,), (60,))
    coarse = Affine(0.9, 0, 500_003, 0, -0.9, 5_000_001)
    write(tmp_path / "tiles" / "coarse.tif", pixels, crs="EPSG:3857", transform=coarse)
    with pytest.raises(InputError, match=r"coarse\.tif .*(6\.\d+|9) times as large"):
        run(tmp_path / "tiles", tmp_path, reproject=True)
    (tmp_path / "two").mkdir()
    for number in range(2):
        write_tile(tmp_path / "two" / f"{number}.tif", pixels.astype(np.uint16), Box(0, 0, 60, 60))
    write_abroad(tmp_path / "two" / "abroad.tif", pixels, Box(0, 0, 120, 120))
    with pytest.raises(InputError, match=r"3 of 3 rasters cannot be used.*none of which can be used"):
        run(tmp_path / "two", tmp_path, reproject=True, on_read_error="nodata")


def test_a_shift_that_needs_a_grid_is_said_and_no_known_way_is_refused(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    cut(pixels, tmp_path / "tiles", (60,), (60,))
    abroad = write_abroad(tmp_path / "tiles" / "abroad.tif", pixels, Box(0, 0, 120, 120), crs="EPSG:31468")
    note = run(tmp_path / "tiles", tmp_path, reproject=True)[0].plan.view.note
    assert "DHDN / 3-degree Gauss-Kruger zone 4 (EPSG:31468) may lie up to 3 m off" in note
    assert "de_adv_BETA2007.tif" in note
    with rasterio.open(abroad, "r+") as file:
        file.crs = 'LOCAL_CS["site",UNIT["metre",1]]'
    with pytest.raises(InputError, match=r"abroad\.tif.* no way is known"):
        run(tmp_path / "tiles", tmp_path, reproject=True, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["255,255,255", "auto"])
def test_a_collar_of_a_reprojected_tile_is_found(tmp_path: Path, colour: str) -> None:
    pixels = np.minimum(scene(), 200)
    pixels[:, 260:, :] = 255
    tiles, _, _ = mixed(tmp_path / "tiles", pixels)
    result, _, _ = run(tiles, tmp_path, reproject=True, nodata_colour=colour)
    found, place = classes(tmp_path / "map.tif")
    row = round((place.f - CORNER.f) / 0.1)
    assert (found[row + 264 :, 230:330] == 255).all()
    assert (found[row + 5 : row + 250, 10:330] != 255).mean() > 0.99
    assert result.valid_px < 262 * 340


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.fakes import Contextual, Slow
from tests.mapping.test_mosaics import run
folder = Path(sys.argv[2])
run(folder / "tiles", folder, "killed", model=Slow(0.3, Contextual()), keep_run=folder / "run", reproject=True)
"""


@pytest.mark.slow
def test_killed_and_resumed_it_is_a_clean_run(joined: Any, tmp_path: Path, asked: Any) -> None:
    folder, expected, layer = joined
    shutil.copytree(folder / "tiles", tmp_path / "tiles")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[2]), str(tmp_path)]
    with subprocess.Popen(command) as killed:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(list((tmp_path / "run" / "blocks").glob("*.tif"))) < 3:
            time.sleep(0.02)
        killed.kill()
    assert len(list((tmp_path / "run" / "decoded").glob("*.tif"))) == 1
    keep = {"model": Counting(), "keep_run": tmp_path / "run", "reproject": True}
    result, found, drawn = run(tmp_path / "tiles", tmp_path, "b", **keep)
    assert 0 < asked() < len(result.plan.grid)
    assert found == expected
    assert same_layer(drawn, layer)
    assert not (tmp_path / "run" / "decoded").exists()
