"""Many files as one orthophoto: no trace of where they meet, each used or named, only what changed is computed."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine, dumpsw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aerialseg.errors import AerialsegError, InputError, UsageError
from aerialseg.mapping import flood
from aerialseg.mapping.result import Result
from aerialseg.mapping.segment import segment
from aerialseg.progress import Silent
from aerialseg.raster.grid import Box
from aerialseg.raster.source import MAX_HANDLES, Source
from tests.conftest import land_cover
from tests.fakes import Contextual
from tests.mapping.test_segment import read_layer
from tests.raster.drawing import TILED, UTM, spoil, write
from tests.raster.formats import WORLD, draw, draw_prj

CORNER = Affine(0.1, 0, 500_003.7, 0, -0.1, 5_000_001.9)
"""Not on the network's lattice."""


def scene(height: int = 300, width: int = 340, seed: int = 0) -> np.ndarray:
    pixels = land_cover(height, width, seed=seed)
    return np.maximum(pixels, 1)  # 0 is left for nodata


def write_tile(path: Path, pixels: np.ndarray, box: Box, **profile: Any) -> Path:
    """The box of a scene as a file of its own."""
    transform = CORNER @ Affine.translation(box.left, box.top)
    return write(path, pixels[(slice(None), *box.slices)], transform=transform, **{"crs": UTM, **profile})


def cut(pixels: np.ndarray, folder: Path, rows: Sequence[int], cols: Sequence[int], overlap: int = 0) -> list[Path]:
    """The scene cut at these rows and columns, each tile larger by ``overlap`` px on all sides, names shuffled."""
    folder.mkdir(parents=True)
    whole = Box(0, 0, *pixels.shape[1:])
    tops, lefts = [0, *rows, whole.bottom], [0, *cols, whole.right]
    boxes = [
        Box(top, left, bottom, right).grow(overlap) & whole
        for top, bottom in itertools.pairwise(tops)
        for left, right in itertools.pairwise(lefts)
    ]
    names = [f"{number:03d}.tif" for number in range(len(boxes))]
    random.Random(7).shuffle(names)
    return [write_tile(folder / name, pixels, box) for name, box in zip(names, boxes, strict=True)]


def run(source: Any, folder: Path, name: str = "map", **options: Any) -> tuple[Result, bytes, Any]:
    """What was made: the result, the class raster's pixels and place, and the layer."""
    options = {"model": Contextual(), "block_px": 96, "min_area_m2": 0.1} | options
    raster = folder / f"{name}.tif"
    result = segment(source, folder / f"{name}.fgb", raster=raster, **options)
    with rasterio.open(raster) as file:
        found = file.read().tobytes() + repr((file.transform, file.shape, file.crs.to_epsg())).encode()
    return result, found, read_layer(folder / f"{name}.fgb")


def same_layer(one: Any, other: Any) -> bool:
    return bool(
        [shape.wkb for shape in one.geometry] == [shape.wkb for shape in other.geometry]
        and one.drop(columns="geometry").equals(other.drop(columns="geometry"))
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, bytes, Any]:
    folder = tmp_path_factory.mktemp("whole")
    pixels = scene()
    source = write_tile(folder / "whole.tif", pixels, Box(0, 0, *pixels.shape[1:]))
    _, classes, layer = run(source, folder)
    return pixels, classes, layer


@pytest.mark.parametrize("overlap", [0, 17])
def test_a_folder_of_tiles_gives_what_the_uncut_raster_gives(tmp_path: Path, whole: Any, overlap: int) -> None:
    pixels, classes, layer = whole
    cut(pixels, tmp_path / "tiles", (101, 160), (64, 203), overlap)
    result, found, drawn = run(tmp_path / "tiles", tmp_path)
    assert found == classes
    assert same_layer(drawn, layer)
    assert "9 rasters as one" in result.plan.summary


@pytest.mark.slow
def test_tiles_mapped_one_by_one_show_where_they_meet(tmp_path: Path, whole: Any) -> None:
    """The negative control: without the mosaic the network loses its surroundings at each border."""
    pixels, _, _ = whole
    (tmp_path / "out").mkdir()
    tiles = cut(pixels, tmp_path / "tiles", (160,), (203,))
    alone = {tile: run(tile, tmp_path / "out", tile.stem)[1][: 160 * 203] for tile in tiles}
    with rasterio.open(tmp_path / "out" / f"{tiles[0].stem}.tif") as file:
        first = file.read(1)
    run(tmp_path / "tiles", tmp_path)
    with rasterio.open(tmp_path / "map.tif") as file:
        joined = file.read(1)[: first.shape[0], : first.shape[1]]
    changed = first != joined
    assert len(alone) == 4
    assert changed[-64:].any()
    assert not changed[:-96, :-96].any()  # out of the network's reach


@pytest.mark.slow
@pytest.mark.parametrize("gsd_m", [0.23, 0.071])
def test_cut_or_uncut_is_the_same_when_resampled(tmp_path: Path, gsd_m: float) -> None:
    pixels = scene(180, 210, seed=3)
    one = write_tile(tmp_path / "one.tif", pixels, Box(0, 0, 180, 210))
    cut(pixels, tmp_path / "tiles", (77,), (31, 140), 5)
    expected, found = (
        run(source, tmp_path, name, resolution_m=gsd_m) for source, name in ((one, "a"), (tmp_path / "tiles", "b"))
    )
    assert found[1] == expected[1]
    assert same_layer(found[2], expected[2])
    assert found[0].plan.view.resampled


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(40, 150),
    st.integers(40, 150),
    st.sets(st.integers(1, 39), max_size=2),
    st.sets(st.integers(1, 39), max_size=2),
    st.integers(0, 12),
)
def test_any_cut_is_no_cut(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, rows: set[int], cols: set[int], overlap: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    pixels = scene(height, width, seed=height)
    one = write_tile(folder / "one.tif", pixels, Box(0, 0, height, width))
    cut(pixels, folder / "tiles", sorted(rows), sorted(cols), overlap)
    expected, found = (run(source, folder, name) for source, name in ((one, "a"), (folder / "tiles", "b")))
    assert found[1] == expected[1]
    assert same_layer(found[2], expected[2])


@pytest.mark.slow
def test_a_tile_more_in_the_west_changes_nothing_beyond_its_reach(tmp_path: Path, whole: Any) -> None:
    pixels, _classes, _ = whole
    here = Box(0, 100, 300, 340)
    write_tile(tmp_path / "here.tif", pixels, here)
    with_west = [tmp_path / "here.tif", write_tile(tmp_path / "west.tif", pixels, Box(0, 0, 300, 100))]
    run(tmp_path / "here.tif", tmp_path, "alone")
    run(with_west, tmp_path, "joined")
    with rasterio.open(tmp_path / "alone.tif") as alone, rasterio.open(tmp_path / "joined.tif") as joined:
        near, far = alone.read(1), joined.read(1)[:, 100:]
    assert (near != far)[:, :64].any()
    assert not (near != far)[:, 96:].any()


def test_where_tiles_overlap_the_first_valid_pixel_counts(tmp_path: Path) -> None:
    pixels = scene(60, 60)
    first, second = pixels.copy(), pixels[:, ::-1].copy()
    first[:, 20:40, 20:40] = 0
    (tmp_path / "t").mkdir()
    write_tile(tmp_path / "t" / "a.tif", first, Box(0, 0, 60, 60), nodata=0)
    write_tile(tmp_path / "t" / "b.tif", second, Box(0, 0, 60, 60), nodata=0)
    both = first.copy()
    both[:, 20:40, 20:40] = second[:, 20:40, 20:40]
    one = write_tile(tmp_path / "both.tif", both, Box(0, 0, 60, 60), nodata=0)
    assert run(tmp_path / "t", tmp_path, "m")[1] == run(one, tmp_path, "n")[1]
    os.utime(tmp_path / "t" / "a.tif", (1, 1))
    newest = write_tile(tmp_path / "new.tif", second, Box(0, 0, 60, 60), nodata=0)
    assert run(tmp_path / "t", tmp_path, "o", order="newest")[1] == run(newest, tmp_path, "p")[1]


def test_a_hole_between_tiles_is_nodata_and_no_polygon_crosses_it(tmp_path: Path) -> None:
    pixels = scene(200, 200)
    write_tile(tmp_path / "a.tif", pixels, Box(0, 0, 90, 200))
    write_tile(tmp_path / "b.tif", pixels, Box(110, 0, 200, 200))
    result, _, layer = run([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path, simplify_m=0)
    assert result.valid_px == 180 * 200
    assert layer.geometry.area.sum() == pytest.approx(180 * 200 * 0.01)


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


class Counting(Contextual):
    """Counts the blocks that it is asked for."""

    def predict(self, tile: Any) -> Any:
        with open(os.environ["ASKED"], "a", encoding="ascii") as file:
            file.write("x")
        return super().predict(tile)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    path = tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(path))

    def since() -> int:
        count = path.stat().st_size if path.exists() else 0
        path.write_bytes(b"")
        return count

    return since


@pytest.mark.slow
def test_only_blocks_that_see_a_renewed_tile_are_computed_again(tmp_path: Path, whole: Any, asked: Any) -> None:
    pixels, classes, _layer = whole
    tiles = cut(pixels, tmp_path / "tiles", (101, 160), (64, 203))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    blocks = len(run(tmp_path / "tiles", tmp_path, "a", **keep)[0].plan.grid)
    assert asked() == blocks > 9
    other = scene(seed=9)
    corner = max(tiles, key=lambda path: rasterio.open(path).bounds.left - rasterio.open(path).bounds.top)
    write_tile(corner, other, Box(160, 203, 300, 340))
    result, found, drawn = run(tmp_path / "tiles", tmp_path, "b", **keep)
    seeing = sum(
        bool(result.plan.grid.window(core) & _moved(Box(160, 203, 300, 340), result.plan.grid))
        for core in result.plan.grid
    )
    assert asked() == seeing < blocks
    _, clean, clean_layer = run(tmp_path / "tiles", tmp_path, "c")
    assert found == clean != classes
    assert same_layer(drawn, clean_layer)
    write_tile(corner, pixels, Box(160, 203, 300, 340))
    assert run(tmp_path / "tiles", tmp_path, "d", **keep)[1] == classes


def _moved(box: Box, grid: Any) -> Box:
    return Box(box.top + grid.top, box.left + grid.left, box.bottom + grid.top, box.right + grid.left)


def test_a_tile_that_was_only_touched_is_found_equal(tmp_path: Path, whole: Any, asked: Any) -> None:
    pixels, classes, _ = whole
    tiles = cut(pixels, tmp_path / "tiles", (150,), (170,))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    run(tmp_path / "tiles", tmp_path, "a", **keep)
    asked()
    os.utime(tiles[0], (5, 5))
    assert run(tmp_path / "tiles", tmp_path, "b", **keep)[1] == classes
    assert asked() == 0


@pytest.mark.slow
def test_tiles_that_join_or_leave_change_the_blocks_that_see_them(tmp_path: Path, whole: Any, asked: Any) -> None:
    pixels, classes, _ = whole
    tiles = cut(pixels, tmp_path / "tiles", (150,), (170,))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    west = min(tiles, key=lambda path: rasterio.open(path).bounds.left - rasterio.open(path).bounds.top)
    west.rename(tmp_path / "away.tif")
    blocks = len(run(tmp_path / "tiles", tmp_path, "a", **keep)[0].plan.grid)
    asked()
    (tmp_path / "away.tif").rename(west)
    assert run(tmp_path / "tiles", tmp_path, "b", **keep)[1] == classes
    assert 0 < asked() < blocks


def test_each_tile_is_used_or_named_with_its_reason(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    tiles = cut(pixels, tmp_path / "tiles", (60,), (60,))
    data = tiles[0].read_bytes()
    tiles[0].write_bytes(data[: len(data) // 8])
    write_tile(tmp_path / "tiles" / "abroad.tif", pixels, Box(0, 0, 60, 60), crs="EPSG:25833")
    write(tmp_path / "tiles" / "nowhere.tif", pixels[:, :60, :60], crs=None, transform=CORNER)
    write_tile(tmp_path / "tiles" / "infrared.tif", np.concatenate([pixels, pixels[:2]]), Box(0, 0, 60, 60))
    write_tile(tmp_path / "tiles" / "deep.tif", pixels.astype(np.uint16), Box(0, 0, 60, 60))
    with pytest.raises(InputError, match="of 8 rasters cannot be used") as error:
        run(tmp_path / "tiles", tmp_path)
    assert "--on-read-error nodata" in str(error.value)
    heard = Heard()
    result, _, _ = run(tmp_path / "tiles", tmp_path, on_read_error="nodata", progress=heard)
    said = "\n".join(heard.notes)
    for name, reason in {
        "abroad.tif": "another coordinate system",
        "nowhere.tif": "no coordinate system",
        "infrared.tif": "5 band",
        "deep.tif": "uint16",
    }.items():
        assert any(name in path and reason in why for path, why in result.plan.view.refused), name
        assert name in said
    assert result.valid_px <= 4 * 60 * 60
    with rasterio.open(tmp_path / "map.tif") as file:
        assert "abroad.tif" in file.tags()["unused_sources"]


def test_neighbours_mapped_apart_lie_on_one_lattice(tmp_path: Path) -> None:
    pixels = scene(120, 200)
    grids = []
    for name, box in (("a", Box(0, 0, 120, 97)), ("b", Box(3, 97, 120, 200))):
        result, _, _ = run(write_tile(tmp_path / f"{name}-in.tif", pixels, box), tmp_path, name, resolution_m=0.071)
        grids.append(result.plan.geo)
    assert grids[0].offset_of(grids[1]) is not None
    assert grids[0].transform[0] == 0.071


def test_a_sheet_that_lies_half_a_pixel_off_is_resampled_once(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    tiles = cut(pixels, tmp_path / "tiles", (60,), (60,))
    with rasterio.open(tiles[0], "r+") as file:
        file.transform = file.transform @ Affine.translation(0.4, 0.4)
    result, _, _ = run(tmp_path / "tiles", tmp_path)
    view = result.plan.view
    assert [sheet.aligned for sheet in view.sheets].count(False) == 1
    assert "4 rasters as one, 1 of them resampled onto the grid of the others" in view.note
    assert result.valid_px >= 119 * 119


@pytest.mark.slow
@pytest.mark.parametrize("block_px", [32, 96, 2048])
def test_a_collar_is_nodata_from_the_outside_and_white_roofs_stay(tmp_path: Path, block_px: int) -> None:
    pixels = np.minimum(scene(200, 220, seed=4), 200)
    pixels[:, 60:80, 70:95] = 255  # a roof
    pixels[:, 150:158, 100:140] = 255  # one that a joint cuts
    bare = pixels.copy()
    rows, cols = np.mgrid[:200, :220]
    outside = (rows + cols < 50) | (rows - cols > 130) | (cols > 205)
    pixels[:, outside] = np.random.default_rng(0).integers(250, 256, (3, int(outside.sum())), dtype=np.uint8)
    valid = ~outside
    bare[:, outside] = 0
    (tmp_path / "t").mkdir()
    for name, box in (("a", Box(0, 0, 153, 120)), ("b", Box(0, 120, 153, 220)), ("c", Box(153, 0, 200, 220))):
        write_tile(tmp_path / "t" / f"{name}.tif", pixels, box)
    masked = write_tile(tmp_path / "masked.tif", bare, Box(0, 0, 200, 220), mask=valid)
    found, expected = (
        run(source, tmp_path, name, block_px=block_px, **options)
        for source, name, options in (
            (tmp_path / "t", "a", {"nodata_colour": ("255,255,255~8",)}),
            (masked, "b", {}),
        )
    )
    assert found[0].valid_px == expected[0].valid_px == valid.sum()
    assert found[1] == expected[1]
    assert same_layer(found[2], expected[2])


def test_a_collar_over_imagery_of_another_tile_gives_way(tmp_path: Path) -> None:
    pixels = np.minimum(scene(80, 80, seed=5), 200)
    first = pixels.copy()
    first[:, :, 50:] = 255
    (tmp_path / "t").mkdir()
    write_tile(tmp_path / "t" / "a.tif", first, Box(0, 0, 80, 80))
    write_tile(tmp_path / "t" / "b.tif", pixels, Box(0, 40, 80, 80))
    one = write_tile(tmp_path / "one.tif", pixels, Box(0, 0, 80, 80))
    options = {"nodata_colour": "255,255,255"}
    assert run(tmp_path / "t", tmp_path, "a", **options)[1] == run(one, tmp_path, "b", **options)[1]


@pytest.mark.slow
def test_a_collar_is_looked_for_again_only_where_a_file_or_the_mask_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.minimum(scene(80, 80, seed=5), 200)
    pixels[:, :, 50:] = 255
    tile = write_tile(tmp_path / "a.tif", pixels, Box(0, 0, 80, 80))
    looked: list[str] = []
    write = flood.write_collar

    def write_collar(*args: Any, **options: Any) -> None:
        looked.append("x")
        write(*args, **options)

    monkeypatch.setattr(flood, "write_collar", write_collar)
    kept, mask = {"keep_run": tmp_path / "run", "overwrite": True}, tmp_path / "run" / "collar.tif"

    def looked_in_a_resumed_run() -> int:
        for path in (tmp_path / "run").glob("mosaic.json"):
            path.unlink()
        found = run(tile, tmp_path, nodata_colour="255,255,255", **kept)[1]
        looks = len(looked)
        assert found == run(tile, tmp_path, "clean", nodata_colour="255,255,255", overwrite=True)[1]
        looked.clear()
        return looks

    assert [looked_in_a_resumed_run() for _ in range(2)] == [1, 0]
    mask.write_bytes(mask.read_bytes()[:-40])
    assert [looked_in_a_resumed_run() for _ in range(2)] == [1, 0]
    write_tile(tile, pixels[:, ::-1, ::-1], Box(0, 0, 80, 80))
    assert [looked_in_a_resumed_run() for _ in range(2)] == [1, 0]


def as_format(path: Path, driver: str) -> None:
    """The GeoTIFF again, in a format that loses nothing, placed by a world file and a .prj."""
    with rasterio.open(path) as file:
        pixels, transform, mask = file.read(), file.transform, file.dataset_mask()
    if driver != "GTiff":
        alpha = [] if mask.all() else [mask[None]]
        made = draw(path.parent, driver, np.concatenate([pixels, *alpha]), stem=path.stem)
        made.with_suffix(f".{WORLD[made.suffix[1:]]}").write_text(dumpsw(transform))
        draw_prj(made)
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("drivers", [("PNG",), ("JP2OpenJPEG",), ("GTiff", "PNG", "WEBP", "JP2OpenJPEG")], ids="+".join)
def test_tiles_of_any_lossless_format_give_what_the_uncut_raster_gives(
    tmp_path: Path, whole: Any, drivers: tuple[str, ...]
) -> None:
    pixels, classes, layer = whole
    for number, tile in enumerate(cut(pixels, tmp_path / "tiles", (101,), (64, 203), 9)):
        as_format(tile, drivers[number % len(drivers)])
    result, found, drawn = run(tmp_path / "tiles", tmp_path)
    assert found == classes
    assert same_layer(drawn, layer)
    assert len(result.plan.view.pieces) == 6
    assert not (tmp_path / "map.fgb.run").exists()


def test_nodata_of_all_kinds_mixes_in_one_mosaic(tmp_path: Path) -> None:
    pixels = scene(180, 200, seed=8)
    valid = np.random.default_rng(3).random((12, 20)).repeat(15, 0).repeat(10, 1) < 0.7
    masked = pixels * valid
    one = write_tile(tmp_path / "one.tif", masked, Box(0, 0, 180, 200), mask=valid)
    (tmp_path / "t").mkdir()
    top, bottom, left, right = Box(0, 0, 80, 120), Box(80, 0, 180, 90), Box(0, 120, 80, 200), Box(80, 90, 180, 200)
    write_tile(tmp_path / "t" / "a.tif", masked, top, nodata=0)
    write_tile(tmp_path / "t" / "b.tif", masked, bottom, mask=valid[bottom.slices])
    alpha = np.concatenate([masked, valid[None] * np.uint8(255)])
    write_tile(tmp_path / "t" / "c.tif", alpha, left, photometric="RGB", alpha="YES")
    moved = np.where(valid, masked, 0).astype(np.uint8)
    write_tile(tmp_path / "t" / "d.tif", moved, right, nodata=0, compress="deflate", interleave="band")
    found, expected = (run(source, tmp_path, name) for source, name in ((tmp_path / "t", "a"), (one, "b")))
    assert found[1] == expected[1]
    assert same_layer(found[2], expected[2])


@pytest.mark.slow
def test_a_missing_tile_changes_nothing_out_of_its_reach(tmp_path: Path, whole: Any) -> None:
    pixels, _, _ = whole
    tiles = cut(pixels, tmp_path / "tiles", (150,), (170,))
    run(tmp_path / "tiles", tmp_path, "all")
    gone = max(tiles, key=lambda path: rasterio.open(path).bounds.left - rasterio.open(path).bounds.top)
    gone.unlink()
    run(tmp_path / "tiles", tmp_path, "less")
    with rasterio.open(tmp_path / "all.tif") as one, rasterio.open(tmp_path / "less.tif") as other:
        there, here = one.read(1), other.read(1)
    same = there == here
    assert same[: 150 - 64].all()
    assert same[:, : 170 - 64].all()
    assert (here[150:, 170:] == 255).all()


def test_links_that_lead_in_a_circle_and_files_given_twice_count_once(tmp_path: Path, whole: Any) -> None:
    pixels, classes, _ = whole
    tiles = cut(pixels, tmp_path / "tiles", (150,), (170,))
    (tmp_path / "tiles" / "again").symlink_to(tmp_path / "tiles")
    (tmp_path / "tiles" / "zz.tif").symlink_to(tiles[0])
    (tmp_path / "list.txt").write_text("# a list\n" + "\n".join(f"tiles/{tile.name}" for tile in tiles) + "\n")
    result, found, _ = run([tmp_path / "tiles", tmp_path / "list.txt", str(tmp_path / "tiles" / "*.tif")], tmp_path)
    assert len(result.plan.view.pieces) == 4
    assert found == classes


def test_a_file_that_vanishes_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    tiles = cut(scene(), tmp_path / "tiles", (150,), (170,))

    class Removing(Contextual):
        def predict(self, tile: Any) -> Any:
            tiles[0].unlink(missing_ok=True)
            return super().predict(tile)

    with pytest.raises(AerialsegError, match=tiles[0].name):
        run(tmp_path / "tiles", tmp_path, model=Removing())
    assert not (tmp_path / "map.fgb").exists()


@pytest.mark.data
def test_a_real_raster_cut_into_tiles_gives_what_it_gives_whole(tmp_path: Path, shared_data: Path) -> None:
    source = next(iter(sorted((shared_data / "geo" / "ortho").glob("*.tif"))))
    with rasterio.open(source) as file:
        side = min(700, *file.shape)
        window = rasterio.windows.Window((file.width - side) // 2, (file.height - side) // 2, side, side)
        pixels = file.read([1, 2, 3], window=window)
        place = {"crs": file.crs, "transform": file.transform @ Affine.translation(window.col_off, window.row_off)}
    one = write(tmp_path / "one.tif", pixels, **place)
    (tmp_path / "tiles").mkdir()
    for number, (top, left) in enumerate((top, left) for top in range(0, side, 257) for left in range(0, side, 311)):
        box = Box(top, left, top + 257, left + 311) & Box(0, 0, side, side)
        part = place | {"transform": place["transform"] @ Affine.translation(left, top)}
        write(tmp_path / "tiles" / f"{number:02d}.tif", pixels[(slice(None), *box.slices)], **part)
    for options in ({"resolution_m": "native"}, {}):
        found, expected = (
            run(path, tmp_path, name, overwrite=True, **options)
            for path, name in ((tmp_path / "tiles", "a"), (one, "b"))
        )
        assert found[1] == expected[1]
        assert same_layer(found[2], expected[2])


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.fakes import Contextual, Slow
from tests.mapping.test_mosaics import run
folder = Path(sys.argv[2])
run(folder / "tiles", folder, "killed", model=Slow(0.05, Contextual()), keep_run=folder / "run", overwrite=True)
"""


@pytest.mark.long
@pytest.mark.slow
def test_of_400_tiles_3_are_renewed_and_the_run_is_killed_in_between(tmp_path: Path, asked: Any) -> None:
    pixels = scene(800, 800)
    tiles = sorted(cut(pixels, tmp_path / "tiles", range(40, 800, 40), range(40, 800, 40)))
    assert len(tiles) == 400
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    run(tmp_path / "tiles", tmp_path, "a", **keep)
    asked()
    renewed = []
    for number, tile in enumerate((tiles[7], tiles[200], tiles[390])):
        with rasterio.open(tile, "r+") as file:
            file.write(scene(*file.shape, seed=50 + number))
            row, col = (round(place) for place in reversed(~CORNER @ (file.bounds.left, file.bounds.top)))
            renewed.append(Box(row, col, row + 40, col + 40))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[2]), str(tmp_path)]
    with subprocess.Popen(command) as killed:
        blocks = tmp_path / "run" / "blocks"
        before = {path: path.stat().st_mtime_ns for path in blocks.glob("*.tif")}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            now = {path: path.stat().st_mtime_ns for path in blocks.glob("*.tif")}
            if sum(before.get(path) != changed for path, changed in now.items()) >= 2:
                break
            time.sleep(0.01)
        killed.kill()
    result, found, drawn = run(tmp_path / "tiles", tmp_path, "b", **keep)
    grid = result.plan.grid
    seeing = sum(any(grid.window(core) & _moved(box, grid) for box in renewed) for core in grid)
    assert 0 < asked() < seeing < len(grid)
    _, clean, layer = run(tmp_path / "tiles", tmp_path, "c")
    assert found == clean
    assert same_layer(drawn, layer)


def place_tile(path: Path, pixels: np.ndarray, x: float, y: float, size: float, **profile: Any) -> Path:
    return write(path, pixels, transform=Affine(size, 0, x, 0, -size, y), **{"crs": UTM, **profile})


@pytest.mark.slow
@pytest.mark.parametrize("names", ["abc", "zbc"])
def test_the_grid_is_that_of_most_files_whatever_their_names(tmp_path: Path, names: str) -> None:
    place_tile(tmp_path / f"{names[0]}.tif", scene(60, 60), 500_000, 5_000_000, 0.1)
    for number, name in enumerate(names[1:]):
        place_tile(tmp_path / f"{name}.tif", scene(200, 200), 500_006 + 6 * number, 5_000_000, 0.03)
    result, _, _ = run(tmp_path, tmp_path.parent, f"by-{names}", resolution_m="native", overwrite=True)
    assert result.plan.view.gsd_m == pytest.approx((0.03, 0.03), rel=1e-3)
    assert result.plan.geo.transform[0] == 0.03
    assert "3 cm per pixel" in result.plan.view.note


def test_a_far_file_of_another_lattice_makes_no_seam_between_others(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    cut(pixels, tmp_path / "tiles", (60,), (60,))
    expected = run(tmp_path / "tiles", tmp_path, "a", resolution_m=0.23)
    far = scene(20, 20, seed=2)
    place_tile(tmp_path / "tiles" / "001b.tif", far, 500_103.737, 5_000_001.863, 0.1)
    found = run(tmp_path / "tiles", tmp_path, "b", resolution_m=0.23)
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as other:
        here, there = one.read(1), other.read(1)[: one.height, : one.width]
    assert found[0].plan.view.sheets[0] != found[0].plan.view.sheets[1]
    assert expected[0].plan.geo.transform == found[0].plan.geo.transform
    assert (here == there).all()


def test_a_collar_gives_way_to_imagery_of_another_lattice(tmp_path: Path) -> None:
    pixels = np.minimum(scene(80, 80, seed=5), 200)
    first = pixels.copy()
    first[:, :, 40:] = 255
    (tmp_path / "t").mkdir()
    write_tile(tmp_path / "t" / "a.tif", first, Box(0, 0, 80, 80))
    below = place_tile(tmp_path / "t" / "b.tif", pixels, 500_003.75, 5_000_001.85, 0.1)
    assert below.exists()
    result, _, _ = run(tmp_path / "t", tmp_path, nodata_colour="255,255,255")
    assert result.valid_px >= 79 * 79


def test_an_area_of_interest_leaves_roofs_that_a_colour_of_nodata_has(tmp_path: Path) -> None:
    pixels = np.minimum(scene(100, 300, seed=6), 200)
    pixels[:, 40:60, 60:240] = 255  # a roof over three files, which touches no outside
    cut(pixels, tmp_path / "tiles", (), (100, 200))
    box = (500_003.7 + 1, 5_000_001.9 - 9.5, 500_003.7 + 9.9, 5_000_001.9 - 0.5)
    result, _, _ = run(tmp_path / "tiles", tmp_path, nodata_colour="255,255,255", aoi=box)
    assert result.valid_px == result.plan.pixels


def test_what_could_not_be_read_is_tried_again_and_forgotten_when_it_is_mended(tmp_path: Path) -> None:
    pixels = scene(128, 128)
    one = write_tile(tmp_path / "one.tif", pixels, Box(0, 0, 128, 128), compress="deflate", **TILED)
    sound = one.read_bytes()
    spoil(one, 0, 0)
    keep = {"keep_run": tmp_path / "run", "overwrite": True, "block_px": 64}
    assert run(one, tmp_path, on_read_error="nodata", **keep)[0].lost_px == 64 * 64
    heard = Heard()
    again = run(one, tmp_path, on_read_error="nodata", progress=heard, **keep)[0]
    assert again.lost_px == 64 * 64
    assert any("could not be read" in note for note in heard.notes)
    with pytest.raises(InputError, match="cannot read rows"):
        run(one, tmp_path, **keep)
    one.write_bytes(sound)
    mended = run(one, tmp_path, on_read_error="nodata", **keep)[0]
    assert (mended.lost_px, mended.valid_px) == (0, 128 * 128)


def test_a_folder_gives_neither_our_own_outputs_nor_kept_runs(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    cut(scene(100, 100), folder, (50,), (50,))
    made = [run(folder, folder, "map", keep_run=folder / "kept", overwrite=True) for _ in range(2)]
    assert made[0][1] == made[1][1]
    assert len(made[1][0].plan.view.pieces) == 4
    (folder / "map.tif").unlink()
    write_tile(folder / "map.tif", scene(100, 100), Box(0, 0, 50, 50))
    with pytest.raises(UsageError, match="is the input itself"):
        run(folder, folder, "map", overwrite=True)


def test_files_without_a_coordinate_system_say_which_option_helps(tmp_path: Path) -> None:
    for number in range(2):
        write(
            tmp_path / f"{number}.tif", scene(20, 20), crs=None, transform=CORNER @ Affine.translation(20 * number, 0)
        )
    with pytest.raises(InputError, match="--crs EPSG:CODE"):
        run(tmp_path, tmp_path.parent, "nowhere")
    assert run(tmp_path, tmp_path.parent, "somewhere", crs="EPSG:32633", overwrite=True)[0].valid_px == 800


def test_in_mercator_cut_and_uncut_have_one_grid(tmp_path: Path) -> None:
    pixels = scene(300, 60)
    place = {"crs": "EPSG:3857"}
    one = place_tile(tmp_path / "one.tif", pixels, 1_000_000, 6_492_832, 0.5, **place)
    (tmp_path / "t").mkdir()
    for number, top in enumerate(range(0, 300, 60)):
        part = pixels[:, top : top + 60]
        place_tile(tmp_path / "t" / f"{number}.tif", part, 1_000_000, 6_492_832 - top * 0.5, 0.5, **place)
    found, expected = (
        run(path, tmp_path, name, resolution_m=0.7) for path, name in ((tmp_path / "t", "a"), (one, "b"))
    )
    assert found[1] == expected[1]


@pytest.mark.slow
def test_what_was_lost_is_known_after_its_file_was_closed_and_whole_files_are_forgotten(tmp_path: Path) -> None:
    pixels, side, across = scene(320, 320), 64, 5
    (tmp_path / "tiles").mkdir()
    for row, col in itertools.product(range(across), repeat=2):
        box = Box(row * side, col * side, (row + 1) * side, (col + 1) * side)
        tile = write_tile(tmp_path / "tiles" / f"{row}{col}.tif", pixels, box, compress="deflate", **TILED)
        if (row, col) == (0, 1):
            spoil(tile, 0, 0)
    result, _, _ = run(tmp_path / "tiles", tmp_path, on_read_error="nodata")
    assert result.lost_px == side * side
    with Source(result.plan.view) as source:
        source.read(Box(0, 0, *source.view.shape))
        assert len(source._readers.lost) <= MAX_HANDLES + 1  # each page looks at all of them: of thousands it may not
        assert source.lost_in(Box(0, 0, side, 2 * side)) == source.lost_blocks != frozenset()
        assert not source.lost_in(Box(side, 0, 2 * side, 2 * side))
