"""Reading a class raster: any kind of it, each row once and in order, in bounded memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import InputError
from aerialseg.legend import NO_CLASS
from aerialseg.raster import classes as reader
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.regions import find_regions
from tests.vector.drawn import NORTH_UP, blobs, noise, write


def save(path: Path, *pixels: np.ndarray, mask: np.ndarray | None = None, **profile: object) -> Path:
    """A GeoTIFF of the bands, of their own type; no nodata value unless the profile has one."""
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": NORTH_UP, "dtype": pixels[0].dtype} | profile
    height, width = pixels[0].shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", height=height, width=width, count=len(pixels), **profile) as file,
    ):
        file.write(np.stack(pixels))
        if mask is not None:
            file.write_mask(mask)
    return path


def seen(raster: ClassRaster) -> np.ndarray:
    """Class ids as the engine sees them."""
    return np.concatenate([strip.classes for strip in raster])


def without(nodata: int, drawn: np.ndarray) -> np.ndarray:
    return np.where(drawn == nodata, NO_CLASS, drawn.astype(int))


@pytest.mark.parametrize(
    ("width", "block_rows", "rows"),
    [
        (1000, 512, 4096),
        (10_000, 512, 512),
        (40_000, 512, 512),
        (100_000, 512, 512),
        (200_000, 512, 335),
        (10_000, 1, 419),
        (1 << 30, 1, 1),
        (1, 100, 100 * 41943),
    ],
)
def test_tasks_are_whole_rows_of_blocks_unless_that_is_too_much(width: int, block_rows: int, rows: int) -> None:
    assert reader._task_rows(width, block_rows) == rows
    assert width * rows <= reader.MAX_TASK_PX or rows == 1


@given(st.integers(1, 40), st.integers(1, 60))
def test_strips_are_the_raster_in_order(tmp_path_factory, strip_rows: int, task_rows: int) -> None:  # type: ignore[no-untyped-def]
    drawn = noise(23, 31)
    raster = ClassRaster(write(tmp_path_factory.mktemp("strips") / "c.tif", drawn), strip_rows=strip_rows)
    raster.task_rows = task_rows
    found = list(raster)
    assert np.array_equal(
        np.concatenate([strip.classes for strip in found]), np.where(drawn == 255, NO_CLASS, drawn.astype(int))
    )
    assert [strip.row for strip in found] == np.cumsum([0, *(len(strip.classes) for strip in found)])[:-1].tolist()
    assert max(len(strip.classes) for strip in found) <= strip_rows


def test_a_strip_never_holds_more_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_STRIP_PX", 100)
    assert ClassRaster(write(tmp_path / "c.tif", noise(50, 30))).strip_rows == 3
    assert ClassRaster(write(tmp_path / "c.tif", noise(50, 300))).strip_rows == 1


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({"tiled": True, "blockxsize": 16, "blockysize": 32}, id="tiles"),
        pytest.param({"blockysize": 1}, id="one row a strip"),
        pytest.param({"blockysize": 100}, id="one strip"),
        pytest.param({"compress": "lzw", "predictor": 2}, id="lzw"),
        pytest.param({"bigtiff": "yes", "compress": "deflate", "tiled": True}, id="bigtiff"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_any_layout_and_type_gives_the_same_regions(layout: dict[str, object], dtype: str, tmp_path: Path) -> None:
    drawn = blobs(100, 70)
    expected, _ = find_regions(ClassRaster(write(tmp_path / "plain.tif", drawn)), contacts=False)
    raster = ClassRaster(save(tmp_path / "c.tif", drawn.astype(dtype), nodata=255, **layout), strip_rows=13)
    found, _ = find_regions(raster, contacts=False)
    assert np.array_equal(found.classes, expected.classes)
    assert np.array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nodata", [None, 0, 7])
def test_nodata_is_what_the_file_says(dtype: str, nodata: int | None, tmp_path: Path) -> None:
    drawn = noise(9, 11, classes=8).astype(dtype)  # with 255, which is a class unless the file says otherwise
    raster = ClassRaster(save(tmp_path / "c.tif", drawn, nodata=nodata))
    assert np.array_equal(
        seen(raster), drawn if nodata is None else np.where(drawn == nodata, NO_CLASS, drawn.astype(int))
    )
    regions, _ = find_regions(raster, contacts=False)
    assert set(regions.classes.tolist()) == set(np.unique(drawn).tolist()) - {nodata}


def test_a_mask_is_nodata_too(tmp_path: Path) -> None:
    drawn = noise(20, 30, nodata=0.3)
    mask = drawn != 255
    masked = ClassRaster(save(tmp_path / "mask.tif", drawn, mask=mask))
    alpha = ClassRaster(save(tmp_path / "alpha.tif", drawn, np.where(mask, 255, 0).astype(np.uint8), alpha="yes"))
    valued = ClassRaster(write(tmp_path / "value.tif", drawn))
    tables = [find_regions(raster, contacts=True) for raster in (masked, alpha, valued)]
    for raster, (regions, contacts) in zip((masked, alpha, valued), tables, strict=True):
        assert np.array_equal(seen(raster), np.where(mask, drawn.astype(int), NO_CLASS))
        assert np.array_equal(regions.classes, tables[0][0].classes)
        assert np.array_equal(regions.pixels, tables[0][0].pixels)
        assert np.array_equal(contacts.length, tables[0][1].length)


def test_class_ids_beyond_255_are_kept(tmp_path: Path) -> None:
    drawn = np.array([[300, 300, 65535], [1, 300, 65535]], np.uint16)
    regions, _ = find_regions(ClassRaster(save(tmp_path / "c.tif", drawn)), contacts=False)
    assert regions.classes.tolist() == [300, 65535, 1]


@pytest.mark.slow
@given(st.integers(1, 20), st.integers(0, 6))
def test_confidence_is_summed_counted_and_the_lowest_kept(tmp_path_factory, strip_rows: int, min_pixels: int) -> None:  # type: ignore[no-untyped-def]
    from aerialseg.vector.merge import merge_small

    folder = tmp_path_factory.mktemp("confidence")
    drawn, percent = noise(20, 25, classes=3), noise(20, 25, classes=101, nodata=0.3, seed=1)
    raster = ClassRaster(write(folder / "c.tif", drawn), write(folder / "p.tif", percent), strip_rows=strip_rows)
    found, contacts = find_regions(raster, contacts=True)
    regions = merge_small(found, contacts, min_pixels)
    labels = np.concatenate([regions.label(strip) for strip in raster])
    for one in range(len(regions)):
        values = percent[(labels == one) & (percent != 255)].tolist()
        assert (regions.percent[one], regions.rated[one]) == (sum(values), len(values))
        assert regions.lowest[one] == min(values, default=255)


def test_what_is_handed_out_can_be_sent_to_another_machine(tmp_path: Path) -> None:
    raster = ClassRaster(write(tmp_path / "c.tif", noise(40, 30)), strip_rows=7)
    for task in raster.tasks():
        sent = pickle.loads(pickle.dumps(task))
        assert sent == task
        assert all(np.array_equal(a.classes, b.classes) for a, b in zip(sent.strips(), task.strips(), strict=True))


def test_a_raster_cut_off_in_the_middle_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tif", noise(300, 300), compress="deflate")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"c\.tif"):
        list(ClassRaster(path, strip_rows=50))


@pytest.mark.parametrize("dtype", [name for name in reader._TYPES if name != "uint8"])
def test_every_type_of_whole_numbers_gives_the_same_ids(dtype: str, tmp_path: Path) -> None:
    drawn = noise(20, 30, classes=100)
    mask = np.full(drawn.shape, 255, np.uint8)
    mask[3:9, 4] = 0
    nodata = 127 if dtype == "int8" else 255
    stored = np.where(drawn == 255, nodata, drawn).astype(dtype)
    raster = ClassRaster(save(tmp_path / "c.tif", stored, mask=mask, nodata=nodata), strip_rows=7)
    assert np.array_equal(seen(raster), np.where((mask == 0) | (drawn == 255), NO_CLASS, drawn.astype(int)))


def test_complex_numbers_are_no_class_ids(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="complex64: wanted class ids, whole numbers from 0 to 65535"):
        ClassRaster(save(tmp_path / "c.tif", np.zeros((2, 2), np.complex64)))


def test_an_image_is_no_class_raster(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 bands: wanted a class raster"):
        ClassRaster(save(tmp_path / "c.tif", *np.zeros((3, 2, 2), np.uint8)))


def test_confidence_of_another_size_type_or_scale_is_an_input_error(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.tif", noise(5, 6))
    with pytest.raises(InputError, match="5 x 6 px: wanted 6 x 5"):
        ClassRaster(classes, write(tmp_path / "p.tif", noise(6, 5)))
    with pytest.raises(InputError, match="float32: wanted confidence in per cent"):
        ClassRaster(classes, save(tmp_path / "p.tif", np.zeros((5, 6), np.float32)))
    with pytest.raises(InputError, match="holds 101: wanted confidence in per cent, 0 to 100"):
        list(ClassRaster(classes, write(tmp_path / "p.tif", np.full((5, 6), 101))))
