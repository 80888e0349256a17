"""An area of interest: inside it the map is that of the whole raster, and what lies outside costs nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.segment import segment
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.polygon_mask import PolygonMask
from tests.fakes import Contextual, Oracle
from tests.mapping.test_mosaics import CORNER, Counting, Heard, asked, cut, run, scene, write_tile
from tests.raster.drawing import UTM, write

__all__ = ["asked"]

SHAPE = 300, 340


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tile(tmp_path_factory.mktemp("whole") / "whole.tif", scene(*SHAPE), Box(0, 0, *SHAPE))


@pytest.fixture(scope="module")
def whole(source: Path) -> tuple[np.ndarray, Any]:
    """Class raster and layer without an area of interest."""
    _, _, layer = run(source, source.parent, simplify_m=0, min_area_m2=0)
    return read(source.parent / "map.tif")[0], layer


def read(path: Path) -> tuple[np.ndarray, Box]:
    """Pixels of a class raster, and where they lie in the scene."""
    with rasterio.open(path) as file:
        left, top = ~CORNER @ (file.transform.c, file.transform.f)
        top, left = round(top), round(left)
        return file.read(1), Box(top, left, top + file.height, left + file.width)


def ground(*pixels: float) -> shapely.Polygon:
    """A polygon of (col, row) of the scene, in its CRS."""
    return shapely.Polygon([CORNER @ (col, row) for col, row in np.reshape(pixels, (-1, 2))])


def inside(shape: shapely.Geometry) -> np.ndarray:
    return rasterize([shape], out_shape=SHAPE, transform=CORNER) == 1


def box_text(shape: shapely.Geometry) -> str:
    return ",".join(map(repr, shape.bounds))


def save(path: Path, *shapes: shapely.Geometry, crs: Any = UTM, **options: Any) -> str:
    frame = geopandas.GeoDataFrame(geometry=list(shapes), crs=crs)
    (frame.to_parquet if path.suffix == ".parquet" else frame.to_file)(path, **options)
    return str(path)


def check_map(folder: Path, classes: np.ndarray, wanted: np.ndarray, name: str = "map") -> None:
    """The class raster is that of the whole scene where it is wanted, nodata elsewhere."""
    found, box = read(folder / f"{name}.tif")
    assert np.array_equal(found, np.where(wanted, classes, 255)[box.slices])
    assert 0 < wanted.sum() == wanted[box.slices].sum()


STAR = ground(40.1, 30.7, 150.3, 90.2, 290.9, 20.4, 200.2, 140.6, 310.4, 260.1, 160.8, 190.3, 60.6, 280.9, 110.2, 150.7)
BOXES = {
    "on the lattice": ground(28.3, 60, 200, 60, 200, 200, 28.3, 200),
    "off the lattice": ground(101.4, 57.7, 227.2, 57.7, 227.2, 203.1, 101.4, 203.1),
    "one block": ground(150, 150, 180, 150, 180, 175, 150, 175),
    "beyond the edge": ground(250, 200, 900, 200, 900, 900, 250, 900),
    "all and more": ground(-50, -50, 900, -50, 900, 900, -50, 900),
}


@pytest.mark.parametrize("name", BOXES)
def test_inside_a_box_the_map_is_that_of_the_whole_raster(tmp_path: Path, source: Path, whole: Any, name: str) -> None:
    result, _, layer = run(source, tmp_path, aoi=box_text(BOXES[name]), simplify_m=0, min_area_m2=0)
    wanted = inside(BOXES[name])
    check_map(tmp_path, whole[0], wanted)
    assert result.valid_px == wanted.sum()
    assert layer.geometry.area.sum() == pytest.approx(wanted.sum() * 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("ending", [".gpkg", ".geojson", ".shp", ".parquet"])
def test_inside_polygons_the_map_is_that_of_the_whole_raster(
    tmp_path: Path, source: Path, whole: Any, ending: str, several: bool
) -> None:
    island = ground(310, 280, 330, 280, 330, 295, 310, 295)
    aoi = save(tmp_path / f"area{ending}", STAR, island, **({"crs": UTM} if ending == ".shp" else {}))
    sources = cut(scene(*SHAPE), tmp_path / "tiles", (101, 160), (64, 203), 9) if several else [source]
    result, _, layer = run(sources, tmp_path, aoi=aoi, simplify_m=0, min_area_m2=0)
    wanted = inside(STAR) | inside(island)
    check_map(tmp_path, whole[0], wanted)
    assert result.valid_px == wanted.sum()
    assert layer.geometry.area.sum() == pytest.approx(wanted.sum() * 0.01)


def test_away_from_the_cut_polygons_are_those_of_the_whole_raster(tmp_path: Path) -> None:
    """Simplified, and with specks merged into what surrounds them."""
    pixels = np.kron(np.random.default_rng(2).integers(0, 5, (3, 25, 29), np.uint8), np.ones((1, 12, 12), np.uint8))
    pixels[:, 5::12, 5::12] += 1
    plain = write_tile(tmp_path / "plain.tif", pixels[:, : SHAPE[0], : SHAPE[1]], Box(0, 0, *SHAPE))
    options = {"model": Oracle(), "min_area_m2": 0.3}
    _, _, whole = run(plain, tmp_path, "whole", **options)
    result, _, part = run(plain, tmp_path, "part", aoi=box_text(STAR), **options)
    inner = shapely.box(*STAR.bounds).buffer(-0.5)
    far = [shape for shape in part.geometry if inner.contains(shape)]
    same = {shapely.set_precision(shape, 1e-5).normalize().wkb for shape in whole.geometry}
    assert len(far) > 50
    assert result.polygons > 1.2 * len(far)
    assert all(shapely.set_precision(shape, 1e-5).normalize().wkb in same for shape in far)


@pytest.mark.slow
@pytest.mark.parametrize("gsd_m", [0.23, 0.071])
def test_where_pixels_are_resampled_the_area_still_sees_what_lies_around(
    tmp_path: Path, source: Path, gsd_m: float
) -> None:
    maps = {}
    for name, options in {"whole": {}, "part": {"aoi": box_text(BOXES["off the lattice"])}}.items():
        result, _, _ = run(source, tmp_path, name, resolution_m=gsd_m, **options)
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            maps[name] = result.plan.geo, file.read(1)
    top, left = maps["whole"][0].offset_of(maps["part"][0])
    height, width = maps["part"][1].shape
    assert np.array_equal(maps["part"][1], maps["whole"][1][top : top + height, left : left + width])
    assert (maps["part"][1] != 255).all()


def test_an_area_in_degrees_is_brought_to_the_raster(tmp_path: Path, source: Path, whole: Any) -> None:
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(STAR, lambda xy: np.stack(to_degrees.transform(xy[:, 0], xy[:, 1]), axis=1))
    aoi = save(tmp_path / "area.geojson", degrees, crs="EPSG:4326", COORDINATE_PRECISION=12)
    run(source, tmp_path, "polygon", aoi=aoi)
    check_map(tmp_path, whole[0], inside(STAR), "polygon")
    left, bottom, right, top = degrees.bounds
    run(source, tmp_path, "box", aoi=f"{left},{bottom},{right},{top}@EPSG:4326")
    back = pyproj.Transformer.from_crs("EPSG:4326", UTM, always_xy=True)
    corners = shapely.segmentize(shapely.box(*degrees.bounds), (right - left) / 50)
    moved = shapely.transform(corners, lambda xy: np.stack(back.transform(xy[:, 0], xy[:, 1]), axis=1))
    check_map(tmp_path, whole[0], inside(moved), "box")


def test_what_does_not_meet_the_area_is_neither_computed_nor_read(tmp_path: Path, asked: Any) -> None:
    """An L along two edges: blocks between its arms cost nothing, sources out of reach are not opened again."""
    tiles = cut(scene(*SHAPE), tmp_path / "tiles", (101, 160), (64, 203))
    corner = ground(5.5, 5.5, 335.5, 5.5, 335.5, 40.5, 40.5, 40.5, 40.5, 290.5, 5.5, 290.5)
    result, _, _ = run(
        tiles, tmp_path, aoi=save(tmp_path / "l.gpkg", corner), model=Counting(), keep_run=tmp_path / "r"
    )
    plan = result.plan
    meeting = [core for core in plan.grid if inside(corner)[plan.view.local(core).slices].any()]
    assert asked() == len(plan.blocks) == len(meeting) < len(plan.grid) - 3
    assert len(list((tmp_path / "r" / "blocks").iterdir())) == len(meeting)
    assert f"{len(meeting)} blocks" in plan.summary
    far = run(tiles, tmp_path, "far", aoi=box_text(ground(1, 1, 9, 1, 9, 9, 1, 9)))[0].plan
    assert 0 < len(far.sources) == len(far.view.pieces) < 4
    assert f"; {len(far.sources)} of them are in or around the area of interest" in far.summary


def test_one_source_of_many_leaves_the_rest_invalid(tmp_path: Path) -> None:
    """Around a source that says nothing of nodata lies what no file covers, though only that source is read."""
    pixels = scene(300, 300)
    here = write_tile(tmp_path / "a.tif", pixels, Box(0, 0, 60, 60))
    write_tile(tmp_path / "b.tif", pixels, Box(240, 240, 300, 300))
    result, _, _ = run([here, tmp_path / "b.tif"], tmp_path, aoi=box_text(ground(2, 2, 70, 2, 70, 70, 2, 70)))
    assert len(result.plan.view.pieces) == 1
    assert result.valid_px == 58 * 58


@pytest.mark.slow
def test_another_area_computes_only_what_is_missing(tmp_path: Path, source: Path, whole: Any, asked: Any) -> None:
    keep = {"model": Counting(), "keep_run": tmp_path / "run", "min_area_m2": 0, "simplify_m": 0}
    heard = Heard()
    small, large = ground(0, 0, 250, 0, 0, 290), ground(0, 0, 340, 0, 340, 300, 0, 300)
    first, _, _ = run(source, tmp_path, "a", aoi=save(tmp_path / "small.gpkg", small), **keep)
    assert asked() == len(first.plan.blocks) > 3
    result, _, layer = run(source, tmp_path, "c", aoi=box_text(large), progress=heard, **keep)
    keys = {task.key for task in first.plan.tasks(Counting(), tmp_path)}
    missing = [task for task in result.plan.tasks(Counting(), tmp_path) if task.key not in keys]
    assert asked() == len(missing) < len(result.plan.grid)
    assert any("blocks are done" in note and "changed" not in note for note in heard.notes)
    check_map(tmp_path, whole[0], np.ones(SHAPE, bool), "c")
    run(source, tmp_path, "d", aoi=save(tmp_path / "star.gpkg", large.difference(STAR)), **keep)
    assert asked() == 0
    check_map(tmp_path, whole[0], ~inside(STAR), "d")
    assert [shape.wkb for shape in layer.geometry] == [shape.wkb for shape in whole[1].geometry]


def test_the_same_area_of_a_file_that_changed_is_another_one(tmp_path: Path, source: Path, asked: Any) -> None:
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    area = tmp_path / "area.gpkg"
    first, _, _ = run(source, tmp_path, "a", aoi=save(area, STAR), **keep)
    again, _, _ = run(source, tmp_path, "b", aoi=str(area), **keep)
    assert again.plan.blocks_digest == first.plan.blocks_digest
    asked()
    area.unlink()
    island = ground(110, 110, 190, 110, 190, 170, 110, 170)
    other, _, _ = run(source, tmp_path, "c", aoi=save(area, island), **keep)
    assert other.plan.blocks_digest != first.plan.blocks_digest
    assert other.valid_px == inside(island).sum()


def test_an_area_off_the_raster_is_refused_with_both_extents(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match=r"x 500003.*x 10 to 20.*do not overlap"):
        run(source, tmp_path, aoi="10,10,20,20")
    with pytest.raises(InputError, match="do not overlap"):
        run(source, tmp_path, aoi=(15, 45, 15.0001, 45.0001))
    around = shapely.box(*ground(0, 0, 340, 0, 340, 300, 0, 300).buffer(9).bounds).difference(
        ground(-1, -1, 341, -1, 341, 301, -1, 301)
    )
    with pytest.raises(InputError, match="the centre of no pixel"):
        run(source, tmp_path, aoi=save(tmp_path / "ring.gpkg", around))
    assert not list(tmp_path.glob("map*"))


def test_an_area_that_touches_nothing_valid_gives_an_empty_layer_and_says_so(tmp_path: Path) -> None:
    pixels = scene(120, 120)
    pixels[:, :, :60] = 0
    source = write_tile(tmp_path / "in.tif", pixels, Box(0, 0, 120, 120), nodata=0)
    result, _, layer = run(source, tmp_path, aoi=box_text(ground(5, 5, 50, 5, 50, 90, 5, 90)))
    assert not len(layer)
    assert "the area of interest" in result.doubts[0]
    assert "the layer is empty" in result.doubts[0]


def test_a_thin_area_is_not_said_to_be_mostly_nodata(tmp_path: Path, source: Path) -> None:
    diagonal = shapely.LineString([CORNER @ (5, 5), CORNER @ (330, 290)]).buffer(0.7)
    result, _, _ = run(source, tmp_path, aoi=save(tmp_path / "path.gpkg", diagonal))
    assert result.valid_px < result.plan.pixels / 10
    assert not result.doubts


def test_files_that_cannot_be_an_area_are_refused_with_the_reason(tmp_path: Path, source: Path) -> None:
    def refused(aoi: str, match: str, kind: type[Exception] = InputError) -> None:
        with pytest.raises(kind, match=match):
            run(source, tmp_path, aoi=aoi)

    two = save(tmp_path / "two.gpkg", STAR, layer="north")
    save(tmp_path / "two.gpkg", ground(110, 110, 190, 110, 190, 170, 110, 170), layer="south", mode="a")
    refused(two, "2 layers; say which with FILE:LAYER: north, south")
    refused(f"{two}:west", "no layer 'west'.*north, south")
    refused(str(tmp_path / "none.gpkg"), "cannot read")
    refused(str(tmp_path / "area.kml"), "wanted XMIN", UsageError)
    (tmp_path / "bad.gpkg").write_bytes(b"SQLite format 3\0" + b"x" * 200)
    refused(str(tmp_path / "bad.gpkg"), "cannot be read")
    (tmp_path / "vrt.gpkg").write_text("<OGRVRTDataSource/>")
    refused(str(tmp_path / "vrt.gpkg"), "is no .gpkg file")
    refused(save(tmp_path / "empty.gpkg", layer="empty"), "no features")
    refused(save(tmp_path / "points.gpkg", shapely.Point(CORNER @ (9, 9))), "wanted polygons")
    with pytest.warns(UserWarning, match="crs"):
        nowhere = save(tmp_path / "nowhere.gpkg", STAR, crs=None)
    refused(nowhere, "no coordinate system")
    refused(f"/vsicurl/{two}", "not a local file")
    refused("3,2,1,4", "aoi", UsageError)
    refused("1,2,3", "aoi", UsageError)
    refused("1,2,nan,4", "aoi", UsageError)
    refused("1,2,3,4@EPSG:99", "wanted a coordinate system such as", UsageError)
    assert run(source, tmp_path, "south", aoi=f"{two}:south")[0].valid_px == 80 * 60


def test_a_raster_without_a_crs_takes_a_box_of_its_own_coordinates(tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif", scene(90, 90), crs=None, transform=CORNER)
    shape = ground(10, 10, 50, 10, 50, 40, 10, 40)
    options = {"model": Contextual(), "min_area_m2": 0}
    assert segment(source, tmp_path / "a.fgb", aoi=shape.bounds, **options).valid_px == 40 * 30
    with pytest.raises(InputError, match="no coordinate system"):
        segment(source, tmp_path / "b.fgb", aoi=save(tmp_path / "area.gpkg", shape), **options)


def test_overlapping_broken_and_empty_polygons_count_once(tmp_path: Path, source: Path, whole: Any) -> None:
    bow = ground(20.3, 20.3, 120.3, 120.3, 120.3, 20.3, 20.3, 120.3)
    shapes = [bow, bow, ground(30, 30, 60, 30, 60, 60, 30, 60), shapely.Polygon(), shapely.Point(CORNER @ (1, 1))]
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=UTM)
    frame.to_file(tmp_path / "bow.gpkg", engine="pyogrio", geometry_type="Unknown")
    run(source, tmp_path, aoi=str(tmp_path / "bow.gpkg"))
    wanted = inside(shapely.make_valid(bow)) | inside(shapes[2])
    check_map(tmp_path, whole[0], wanted)


def test_only_the_pixels_of_the_area_count_towards_max_pixels(tmp_path: Path, source: Path) -> None:
    part = box_text(ground(10, 10, 50, 10, 50, 40, 10, 40))
    assert run(source, tmp_path, aoi=part, max_pixels=2000)[0].valid_px == 1200
    with pytest.raises(InputError, match="--aoi"):
        run(source, tmp_path, "b", max_pixels=2000)
    with pytest.raises(InputError, match="--max-pixels"):
        run(source, tmp_path, "c", aoi=part, max_pixels=1000)


def test_a_layer_that_would_replace_the_area_is_refused(tmp_path: Path, source: Path) -> None:
    area = save(tmp_path / "area.gpkg", STAR)
    content = Path(area).read_bytes()
    with pytest.raises(UsageError, match="input"):
        segment(source, area, aoi=area, overwrite=True, model=Contextual())
    assert Path(area).read_bytes() == content


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 119), min_size=4, max_size=4), st.integers(0, 40), st.integers(1, 50))
def test_a_box_through_the_centres_of_pixels_is_one_whatever_grid_and_cut(
    corners: list[int], more: int, block: int
) -> None:
    """Its edges lie on centres to the last digit; a tile more in the north-west moves the grid's first pixel."""
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    assume(left < right and top < bottom)
    shape = np.array(
        [ground(left + 0.5, top + 0.5, right + 0.5, top + 0.5, right + 0.5, bottom + 0.5, left + 0.5, bottom + 0.5)]
    )
    geo = GeoGrid(120, 120, tuple(CORNER)[:6], UTM)
    raster = Box(1000, 2000, 1120, 2120)
    wider = Box(raster.top - more, raster.left - more, raster.bottom, raster.right)
    found = []
    for area, step in ((raster, 120), (wider, block)):
        mask = PolygonMask.on("area", shape, geo.part(area.relative_to(raster)), area)
        assert mask is not None
        inside = np.zeros(raster.shape, np.uint8)
        for row, col in itertools.product(
            range(raster.top, raster.bottom, step), range(raster.left, raster.right, step)
        ):
            box = Box(row, col, row + step, col + step) & raster
            bands = np.ones((2, *box.shape), np.uint8)
            inside[box.within(raster)] = mask.cut(box, (bands[0], bands[1]))[0] == 1
            assert not inside[box.within(raster)].any() or mask.meeting([box]) == [0]
        found.append((inside.tobytes(), mask.box))
    assert found[0] == found[1]
    assert inside.sum() == mask.area_px
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    there = Box(int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    assert mask.box == Box(there.top + 1000, there.left + 2000, there.bottom + 1000, there.right + 2000)


def test_sources_that_another_area_sees_have_not_changed(tmp_path: Path, asked: Any) -> None:
    tiles = cut(scene(*SHAPE), tmp_path / "tiles", (101, 160), (64, 203))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    first, _, _ = run(tiles, tmp_path, "a", aoi=box_text(ground(0, 0, 100, 0, 100, 100, 0, 100)), **keep)
    assert len(first.plan.sources) < 9
    heard = Heard()
    result, _, _ = run(tiles, tmp_path, "b", progress=heard, **keep)
    assert asked() < len(first.plan.grid) + len(result.plan.grid)
    assert any(note.startswith("resuming: ") for note in heard.notes)


def test_an_area_of_other_files_takes_up_the_run_though_their_bands_differ(tmp_path: Path, asked: Any) -> None:
    """The first file of the mosaic has alpha, the first one of the area has none."""
    pixels = scene(100, 300)
    (tmp_path / "tiles").mkdir()
    opaque = np.concatenate([pixels, np.full((1, 100, 300), 255, np.uint8)])
    write_tile(tmp_path / "tiles" / "a.tif", opaque, Box(0, 0, 100, 90), photometric="RGB", ALPHA="YES")
    write_tile(tmp_path / "tiles" / "b.tif", pixels, Box(0, 90, 100, 300))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    _, whole, _ = run(tmp_path / "tiles", tmp_path, "a", **keep)
    asked()
    east, _, _ = run(
        tmp_path / "tiles", tmp_path, "b", aoi=box_text(ground(250, 0, 300, 0, 300, 100, 250, 100)), **keep
    )
    assert len(east.plan.sources) == 1
    assert asked() == len(east.plan.blocks)
    assert run(tmp_path / "tiles", tmp_path, "c", **keep)[1] == whole
