"""The layer of segment-raster in every format, rounded and dissolved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from aerialseg.errors import ModelError, UsageError
from aerialseg.mapping.plan import LayerPlan
from aerialseg.mapping.polygonize import polygonize
from aerialseg.mapping.segment import segment
from aerialseg.mapping.settings import MapSettings
from aerialseg.raster.opening import without_georef_warnings
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, Oracle


def layers(path: Path) -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame]:
    """(polygons, classes) of a dissolved result."""
    if path.suffix == ".gpkg":
        return tuple(pyogrio.read_dataframe(path, layer=name) for name in ("landcover", "landcover_by_class"))  # type: ignore[return-value]
    read = geopandas.read_parquet if path.suffix == ".parquet" else pyogrio.read_dataframe
    return read(path), read(path.with_name(f"{path.stem}_by_class{path.suffix}"))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".gpkg", ".fgb", ".parquet", ".geojson"])
def test_the_ending_is_the_format(tmp_path: Path, write_raster: WriteRaster, ending: str) -> None:
    source = write_raster(land_cover(120, 140))
    output = tmp_path / f"map{ending}"
    result = segment(source, output, model=Oracle(), raster=tmp_path / "c.tif", smooth=True, dissolve=True)
    extra = [] if ending == ".gpkg" else ["map.qml", f"map_by_class{ending}", "map_by_class.qml"]
    assert [path.name for path in result.paths] == [output.name, *extra, "c.tif"]
    names = {*(path.name for path in result.paths), "c.tif.aux.xml", "ortho.tif"}
    assert {path.name for path in tmp_path.iterdir()} == names
    polygons, classes = layers(output)
    assert len(polygons) == result.polygons
    assert classes.pixels.sum() == polygons.pixels.sum() == 120 * 140
    assert classes.area_m2.sum() == pytest.approx(120 * 140 * 0.01)
    assert polygons.confidence_min.le(polygons.confidence).all()
    assert result.plan.layer.smooth == 2
    assert result.plan.layer.dissolve


def test_what_lies_beside_a_layer_is_not_replaced_unasked(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(40, 40))
    for name in ("map.qml", "other_by_class.fgb"):
        (tmp_path / name).write_text("mine")
    for output in ("map.fgb", "other.fgb"):
        with pytest.raises(UsageError, match="exists: add --overwrite"):
            segment(source, tmp_path / output, model=Oracle(), dissolve=True)
    segment(source, tmp_path / "other.fgb", model=Oracle())
    assert (tmp_path / "other_by_class.fgb").read_text() == "mine"


def test_geojson_of_a_raster_without_place_is_refused_before_any_work(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    with without_georef_warnings():
        source = write_raster(land_cover(40, 40), crs=None)
    with pytest.raises(UsageError, match="RFC 7946"):
        segment(source, tmp_path / "map.geojson", model=Oracle())
    assert [path.name for path in tmp_path.iterdir()] == ["ortho.tif"]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"smooth": True}, {"dissolve": True}])
def test_these_settings_are_part_of_the_plan(
    tmp_path: Path, write_raster: WriteRaster, settings: dict[str, bool]
) -> None:
    source = write_raster(land_cover(64, 64))
    plain = segment(source, tmp_path / "a.gpkg", model=Oracle()).plan
    other = segment(source, tmp_path / "b.gpkg", model=Oracle(), **settings).plan  # type: ignore[arg-type]
    assert plain.digest != other.digest


def test_ground_units_become_pixels_whole_ones_whatever_the_floats_say() -> None:
    sizes = [(0.05, 0.05), (0.1, 0.3), (1 / 3, 1 / 3)]
    for pixel_m in sizes:
        wanted = MapSettings(min_area_m2=7 * float(np.prod(pixel_m)), simplify_m=2 * pixel_m[0])
        assert LayerPlan.of(wanted, pixel_m).min_pixels == 7
    assert LayerPlan.of(MapSettings(simplify_m=0.1), (0.05, 0.05)).tolerance_px == pytest.approx(2)
    assert LayerPlan.of(MapSettings(), (1, 1), 0).min_pixels == 0


def test_a_model_that_answers_on_every_second_pixel_leaves_no_staircase(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    rows, cols = np.mgrid[:80, :80]
    slanted = (rows + 0.3 * cols > 50).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    source = write_raster(np.stack([slanted, np.full_like(slanted, 90), slanted]))
    vertices = {}
    for step in (1, 2):
        model = Oracle(card=replace(CARD, answer_step_px=step))
        raster, rated = tmp_path / f"{step}.tif", tmp_path / f"rated{step}.tif"
        result = segment(source, tmp_path / f"{step}.gpkg", model=model, raster=raster, confidence=rated)
        assert result.plan.layer.tolerance_px == 1.5 * step
        again = tmp_path / f"again{step}.gpkg"
        polygonize(raster, again, confidence=rated, min_area_m2=1)
        drawn = [pyogrio.read_dataframe(path, layer="landcover") for path in (tmp_path / f"{step}.gpkg", again)]
        assert drawn[0].to_wkb().equals(drawn[1].to_wkb())
        vertices[step] = int(shapely.get_num_coordinates(drawn[0].geometry.values).sum())
    assert vertices[1] > 40
    assert vertices[2] <= 14
    with pytest.raises(ModelError, match="answer_step_px 0"):
        replace(CARD, answer_step_px=0)
