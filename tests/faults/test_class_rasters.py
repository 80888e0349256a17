"""Class rasters as QGIS, ArcGIS and GRASS write them mean what their pixels say, in every command."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine

import aerialseg
from aerialseg.errors import InputError
from aerialseg.evaluation.map_accuracy import assess_map
from aerialseg.raster.mosaic import read_tile

LOWEST = float(np.finfo(np.float32).min)
WRITTEN = {
    "ArcGIS": ("int16", -9999),
    "QGIS's raster calculator": ("float32", LOWEST),
    "GRASS": ("int32", -(2**31)),
    "GRASS, floats": ("float64", np.nan),
    "a nodata value that float32 does not hold": ("float32", -9999.9),
    "numpy": ("int64", -1),
}


def drawn() -> np.ndarray:
    """Class 0 to 3 in squares; int64, -1 where there is none."""
    ids = np.kron(np.random.default_rng(1).integers(0, 4, (8, 8)), np.ones((8, 8), int))
    ids[:, :16] = -1
    return ids


def write(path: Path, values: np.ndarray, **profile: object) -> Path:
    profile = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 388_000, 0, -0.5, 5_820_000)} | profile
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=height, width=width, dtype=values.dtype, **profile
    ) as file:
        file.write(values, 1)
    return path


def write_as(path: Path, software: str) -> Path:
    dtype, nodata = WRITTEN[software]
    return write(path, np.where(drawn() == -1, nodata, drawn()).astype(dtype), nodata=nodata)


def pixels_of(path: Path, output: Path) -> dict[int, int]:
    """Pixels by class in the layer made of a class raster."""
    aerialseg.polygonize(path, output, simplify_m=0)
    frame = pyogrio.read_dataframe(output, layer="landcover")
    return {int(one): int(n) for one, n in frame.groupby("class_id").pixels.sum().items()}


@pytest.mark.parametrize("software", WRITTEN)
def test_row_38_a_layer_holds_each_class_whatever_type_and_nodata_value_it_is_stored_with(
    tmp_path: Path, software: str
) -> None:
    path = write_as(tmp_path / "c.tif", software)
    expected = {one: int((drawn() == one).sum()) for one in range(4)}
    assert expected[0] > 0
    assert pixels_of(path, tmp_path / "map.gpkg") == expected


@pytest.mark.parametrize("software", WRITTEN)
def test_row_38_such_a_raster_is_a_map_or_a_truth_to_evaluate_with(tmp_path: Path, software: str) -> None:
    odd = write_as(tmp_path / "odd.tif", software)
    plain = write(tmp_path / "plain.tif", np.where(drawn() == -1, 255, drawn()).astype(np.uint8), nodata=255)
    for found in (assess_map(odd, plain), assess_map(plain, odd)):
        assert found.compared == np.trace(found.confusion.counts) == (drawn() >= 0).sum()
        assert (found.missed, found.untold) == (0, 0)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_row_38_the_advice_for_an_undeclared_nodata_value_keeps_every_class(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "c.tif", np.where(drawn() == -1, -9999, drawn()).astype(dtype))
    with pytest.raises(InputError, match="wanted class ids, whole numbers from 0 to 65535") as refused:
        pixels_of(path, tmp_path / "map.gpkg")
    assert "gdal_translate" not in str(refused.value)
    assert not (tmp_path / "map.gpkg").exists()
    value = re.search(r"gdal_edit\.py -a_nodata (\S+) FILE", str(refused.value))
    assert value is not None
    with rasterio.open(path, "r+") as file:
        file.nodata = float(value[1])
    assert pixels_of(path, tmp_path / "map.gpkg") == {one: int((drawn() == one).sum()) for one in range(4)}


@pytest.mark.parametrize(
    ("value", "dtype", "said"), [(0.5, "float32", r"0\.5"), (65536, "int32", "65536"), (-2, "int16", "-2")]
)
def test_row_38_what_is_no_class_id_is_refused_by_every_reader(
    tmp_path: Path, value: float, dtype: str, said: str
) -> None:
    odd = write(tmp_path / "odd.tif", np.where(drawn() == 2, value, drawn()).astype(dtype), nodata=-1)
    plain = write(tmp_path / "plain.tif", np.zeros((64, 64), np.uint8))
    for read in (
        lambda: pixels_of(odd, tmp_path / "map.gpkg"),
        lambda: assess_map(odd, plain),
        lambda: assess_map(plain, odd, ignore_unknown=True),
    ):
        with pytest.raises(
            InputError, match=f"holds {said}.*replace it by the nodata value of the file, -1"
        ) as refused:
            read()
        assert "-ot" not in str(refused.value)


def test_a_mask_and_a_nodata_value_hide_pixels_in_every_reader(tmp_path: Path) -> None:
    """GDAL's own mask leaves the nodata value out where a file has both."""
    path = write(tmp_path / "c.tif", np.where(drawn() == -1, 255, drawn()).astype(np.uint8), nodata=255)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.where(np.arange(64)[:, None] < 8, 0, 255).astype(np.uint8).repeat(64, axis=1))
    visible = int((drawn()[8:] >= 0).sum())
    assert sum(pixels_of(path, tmp_path / "map.gpkg").values()) == visible
    plain = write(tmp_path / "plain.tif", np.zeros((64, 64), np.uint8))
    assert assess_map(path, plain).compared == assess_map(plain, path).compared == visible
    with pytest.raises(InputError, match="holds uint8 with a mask"):
        read_tile(path)
