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
from aerialseg.raster import classes as bands
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
    """Class ids as the engine sees them, -1 where it sees none."""
    found = [np.where(band.classes == band.nodata, -1, band.classes.astype(int)) for band in raster]
    return np.concatenate(found)


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
def test_stretches_are_whole_rows_of_blocks_unless_that_is_too_much(width: int, block_rows: int, rows: int) -> None:
    assert bands._stretch_rows(width, block_rows) == rows
    assert width * rows <= bands.MAX_STRETCH_PX or rows == 1


@given(st.integers(1, 40), st.integers(1, 60))
def test_bands_are_the_raster_in_order(tmp_path_factory, band_rows: int, stretch_rows: int) -> None:  # type: ignore[no-untyped-def]
    drawn = noise(23, 31)
    raster = ClassRaster(write(tmp_path_factory.mktemp("bands") / "c.tif", drawn), band_rows=band_rows)
    raster.stretch_rows = stretch_rows
    found = list(raster)
    assert np.array_equal(np.concatenate([band.classes for band in found]), drawn)
    assert [band.row for band in found] == np.cumsum([0, *(len(band.classes) for band in found)])[:-1].tolist()
    assert max(len(band.classes) for band in found) <= band_rows


def test_a_band_never_holds_more_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "MAX_BAND_PX", 100)
    assert ClassRaster(write(tmp_path / "c.tif", noise(50, 30))).band_rows == 3
    assert ClassRaster(write(tmp_path / "c.tif", noise(50, 300))).band_rows == 1


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
    raster = ClassRaster(save(tmp_path / "c.tif", drawn.astype(dtype), nodata=255, **layout), band_rows=13)
    found, _ = find_regions(raster, contacts=False)
    assert found.classes.dtype == raster.dtype == dtype
    assert np.array_equal(found.classes, expected.classes)
    assert np.array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nodata", [None, 0, 7])
def test_nodata_is_what_the_file_says(dtype: str, nodata: int | None, tmp_path: Path) -> None:
    drawn = noise(9, 11, classes=8).astype(dtype)  # with 255, which is a class unless the file says otherwise
    raster = ClassRaster(save(tmp_path / "c.tif", drawn, nodata=nodata))
    assert raster.nodata == nodata
    assert np.array_equal(
        seen(raster), np.where(drawn == nodata, -1, drawn.astype(int)) if nodata is not None else drawn
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
        assert np.array_equal(seen(raster), np.where(mask, drawn.astype(int), -1))
        assert np.array_equal(regions.classes, tables[0][0].classes)
        assert np.array_equal(regions.pixels, tables[0][0].pixels)
        assert np.array_equal(contacts.length, tables[0][1].length)


def test_class_ids_beyond_255_are_kept(tmp_path: Path) -> None:
    drawn = np.array([[300, 300, 65535], [1, 300, 65535]], np.uint16)
    regions, _ = find_regions(ClassRaster(save(tmp_path / "c.tif", drawn)), contacts=False)
    assert regions.classes.tolist() == [300, 65535, 1]


@given(st.integers(1, 20), st.integers(0, 6))
def test_confidence_is_summed_counted_and_the_lowest_kept(tmp_path_factory, band_rows: int, min_pixels: int) -> None:  # type: ignore[no-untyped-def]
    from aerialseg.vector.merge import merge_small

    folder = tmp_path_factory.mktemp("confidence")
    drawn, percent = noise(20, 25, classes=3), noise(20, 25, classes=101, nodata=0.3, seed=1)
    raster = ClassRaster(write(folder / "c.tif", drawn), write(folder / "p.tif", percent), band_rows=band_rows)
    found, contacts = find_regions(raster, contacts=True)
    regions = merge_small(found, contacts, min_pixels)
    labels = np.concatenate([regions.label(band) for band in raster])
    for one in range(len(regions)):
        values = percent[(labels == one) & (percent != 255)].tolist()
        assert (regions.percent[one], regions.rated[one]) == (sum(values), len(values))
        assert regions.lowest[one] == min(values, default=255)


def test_what_is_handed_out_can_be_sent_to_another_machine(tmp_path: Path) -> None:
    raster = ClassRaster(write(tmp_path / "c.tif", noise(40, 30)), band_rows=7)
    for stretch in raster.stretches():
        sent = pickle.loads(pickle.dumps(stretch))
        assert sent == stretch
        assert all(np.array_equal(a.classes, b.classes) for a, b in zip(sent.bands(), stretch.bands(), strict=True))


def test_a_raster_cut_off_in_the_middle_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tif", noise(300, 300), compress="deflate")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"c\.tif"):
        list(ClassRaster(path, band_rows=50))


@pytest.mark.parametrize("dtype", ["float32", "int16", "int32"])
def test_only_class_ids_are_taken_for_class_ids(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{dtype}: wanted class ids as uint8 or uint16"):
        ClassRaster(save(tmp_path / "c.tif", np.zeros((2, 2), dtype)))


def test_an_image_is_no_class_raster(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 bands: wanted a class raster"):
        ClassRaster(save(tmp_path / "c.tif", *np.zeros((3, 2, 2), np.uint8)))


def test_confidence_of_another_size_or_type_is_an_input_error(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.tif", noise(5, 6))
    with pytest.raises(InputError, match=r"\(6, 5\) rows and columns: wanted \(5, 6\)"):
        ClassRaster(classes, write(tmp_path / "p.tif", noise(6, 5)))
    with pytest.raises(InputError, match="float32: wanted confidence in per cent"):
        ClassRaster(classes, save(tmp_path / "p.tif", np.zeros((5, 6), np.float32)))
