"""One multipolygon for each class: the union of its polygons, valid as it is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from aerialseg.vector.layers import polygonize
from tests.vector.drawn import ADVERSARIES, LEGEND, blobs, noise, rasters, write


def dissolved(
    folder: Path, drawn: np.ndarray, *, ending: str = ".gpkg", **options: object
) -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame]:
    """(polygons, classes)"""
    output = folder / f"map{ending}"
    percent = np.arange(drawn.size).reshape(drawn.shape) % 101
    rasters = write(folder / "c.tif", drawn), write(folder / "f.tif", percent)
    polygonize(*rasters, output, legend=LEGEND, dissolve=True, **options)  # type: ignore[arg-type]
    if ending == ".gpkg":
        layers = [pyogrio.read_dataframe(output, layer=name) for name in ("landcover", "landcover_by_class")]
    elif ending == ".parquet":
        layers = [geopandas.read_parquet(folder / name) for name in ("map.parquet", "map_by_class.parquet")]
    else:
        layers = [pyogrio.read_dataframe(folder / name) for name in (f"map{ending}", f"map_by_class{ending}")]
    return layers[0], layers[1]


def assert_is_union(polygons: geopandas.GeoDataFrame, classes: geopandas.GeoDataFrame) -> None:
    assert classes.class_id.tolist() == sorted(set(polygons.class_id))
    assert (classes.geom_type == "MultiPolygon").all()
    assert classes.is_valid.all()
    for row in classes.itertuples():
        of = polygons[polygons.class_id == row.class_id]
        assert row.geometry.equals(shapely.union_all(of.geometry.values))
        assert row.class_name == of.class_name.iloc[0]
        assert (row.parts, row.pixels) == (len(of), of.pixels.sum())
        assert row.area_m2 == pytest.approx(of.area_m2.sum())
        assert row.perimeter_m == pytest.approx(of.perimeter_m.sum())
        assert row.perimeter_m == pytest.approx(shapely.union_all(of.geometry.values).length)
        assert row.confidence == pytest.approx((of.confidence * of.pixels).sum() / of.pixels.sum())


@pytest.mark.slow
@given(rasters(16), st.sampled_from([0, 1.5, 4.0]))
@settings(max_examples=25)
def test_it_is_the_union_of_the_polygons_of_any_raster(drawn: np.ndarray, tolerance_px: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert_is_union(*dissolved(Path(folder), drawn, tolerance_px=tolerance_px))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkerboard", "diagonal touching", "ring that touches itself", "noise", "blobs"])
@pytest.mark.parametrize("smooth", [0, 2])
def test_polygons_that_touch_in_corners_are_valid_together(tmp_path: Path, name: str, smooth: int) -> None:
    assert_is_union(*dissolved(tmp_path, ADVERSARIES[name], smooth=smooth))


@pytest.mark.parametrize("ending", [".fgb", ".parquet"])
def test_in_formats_of_one_layer_it_is_a_file_of_its_own(tmp_path: Path, ending: str) -> None:
    polygons, classes = dissolved(tmp_path, blobs(60, 70), ending=ending, min_pixels=6)
    assert_is_union(polygons, classes.sort_values("class_id", ignore_index=True))


def test_it_does_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aerialseg.vector import rows

    _, whole = dissolved(tmp_path, noise(30, 30))
    make = rows.make_polygons
    monkeypatch.setattr(rows, "make_polygons", lambda *given, **named: make(*given, **{**named, "batch": 50}))
    _, parts = dissolved(tmp_path, noise(30, 30))
    assert whole.drop(columns=["area_m2", "perimeter_m"]).equals(parts.drop(columns=["area_m2", "perimeter_m"]))
    assert np.allclose(whole.area_m2, parts.area_m2)


def test_without_it_there_is_one_layer(tmp_path: Path) -> None:
    polygonize(write(tmp_path / "c.tif", noise(9, 9)), None, tmp_path / "o.gpkg", legend=LEGEND)
    assert pyogrio.list_layers(tmp_path / "o.gpkg")[:, 0].tolist() == ["landcover", "layer_styles"]
