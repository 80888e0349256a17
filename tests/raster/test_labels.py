"""Labels come out where they lie, in any format, CRS and window; what is not in the legend is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import InputError, UsageError
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.labels import Known, Labels, open_labels
from tests.raster.drawing import TEN_CM, UTM, write

LEGEND = Legend(
    (LandClass(3, "grass", (0, 200, 0)), LandClass(7, "roof", (200, 0, 0)), LandClass(300, "pool", (0, 0, 200)))
)
HEIGHT, WIDTH = 40, 60
GROUND = GeoGrid(HEIGHT, WIDTH, tuple(TEN_CM)[:6], UTM)  # type: ignore[arg-type]
FORMATS = [".gpkg", ".fgb", ".shp", ".geojson", ".parquet"]


def area(top: int, left: int, bottom: int, right: int) -> shapely.Polygon:
    """The ground of rows and columns of GROUND."""
    (x0, y0), (x1, y1) = GROUND.at(left, top), GROUND.at(right, bottom)
    return shapely.box(x0, y1, x1, y0)


def layer(path: Path, values: list[Any], shapes: list[Any], *, crs: Any = UTM, to: Any = None, **options: Any) -> Path:
    frame = geopandas.GeoDataFrame({"class": values}, geometry=shapes, crs=crs)
    frame = frame if to is None else frame.to_crs(to)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        if path.suffix == ".geojson":
            options["COORDINATE_PRECISION"] = 12
        if path.suffix == ".fgb":
            options["SPATIAL_INDEX"] = "NO"  # with one, features are stored in an order of its own
        frame.to_file(path, engine="pyogrio", **options)
    return path


def burned(path: Path, geo: GeoGrid = GROUND, legend: Legend | None = LEGEND, **options: Any) -> np.ndarray:
    labels = open_labels(path, legend, **options)
    try:
        return labels.burn(geo)
    finally:
        labels.close()


def drawn() -> np.ndarray:
    """What the two polygons of `two` say: the second lies on the first."""
    ids = np.full((HEIGHT, WIDTH), NODATA, np.uint8)
    ids[5:30, 10:50], ids[20:35, 30:55] = 3, 7
    return ids


def two(path: Path, **options: Any) -> Path:
    return layer(path, ["grass", " roof "], [area(5, 10, 30, 50), area(20, 30, 35, 55)], **options)


@pytest.mark.parametrize("ending", FORMATS)
def test_polygons_of_every_format_burn_to_the_same_pixels_and_the_last_one_is_on_top(
    tmp_path: Path, ending: str
) -> None:
    path = two(tmp_path / f"labels{ending}", to=4326 if ending == ".geojson" else None)
    assert (burned(path) == drawn()).all()


@pytest.mark.parametrize("values", [[3, 7], [3.0, 7.0], ["3", "7 "], ["grass", "roof"], ["grass", "7"]])
def test_a_field_may_hold_ids_or_names(tmp_path: Path, values: list[Any]) -> None:
    path = layer(tmp_path / "labels.gpkg", values, [area(5, 10, 30, 50), area(20, 30, 35, 55)])
    assert (burned(path) == drawn()).all()


@pytest.mark.parametrize("ending", [".gpkg", ".parquet"])
def test_polygons_without_a_value_or_a_geometry_are_no_labels(tmp_path: Path, ending: str) -> None:
    shapes = [area(5, 10, 30, 50), area(0, 0, 40, 60), area(20, 30, 35, 55), None]
    path = layer(tmp_path / f"labels{ending}", ["grass", None, "roof", "roof"], shapes)
    assert (burned(path) == drawn()).all()


def test_a_value_that_the_legend_does_not_know_is_named_with_its_feature(tmp_path: Path) -> None:
    path = layer(tmp_path / "labels.gpkg", ["grass", "lawn"], [area(0, 0, 9, 9), area(9, 9, 20, 20)])
    with pytest.raises(InputError, match=r"class is 'lawn' in feature 2, .* 3 grass, 7 roof"):
        burned(path)
    with pytest.raises(InputError, match=r"class is 'Grass'"):  # matched exactly
        burned(layer(tmp_path / "other.gpkg", ["Grass"], [area(0, 0, 9, 9)]))


def test_unknown_values_that_may_be_ignored_are_void_and_counted(tmp_path: Path) -> None:
    path = layer(tmp_path / "labels.gpkg", ["grass", "lawn"], [area(0, 0, 9, 9), area(0, 20, 5, 27)])
    labels = open_labels(path, LEGEND, ignore_unknown=True)
    ids = labels.burn(GROUND)
    assert (ids[:9, :9] == 3).all()
    assert (ids != NODATA).sum() == 81
    assert labels.ignored == {"lawn": 35}


@pytest.mark.parametrize("to", [4326, 3857, 25833, 3035])
def test_polygons_of_another_crs_lie_where_they_are_to_a_hundredth_of_a_pixel(tmp_path: Path, to: int) -> None:
    shapes = [area(5, 10, 30, 50).buffer(-0.001), area(20, 30, 35, 55).buffer(0.001)]
    path = layer(tmp_path / "labels.gpkg", ["grass", "roof"], [shape.segmentize(0.5) for shape in shapes], to=to)
    assert (burned(path) == drawn()).all()


def test_a_long_line_is_straight_in_its_own_crs(tmp_path: Path) -> None:
    """A parallel is bent in UTM: 20 km of it by metres."""
    square = geopandas.GeoSeries([shapely.box(11.0, 45.0, 11.4, 45.01)], crs=4326)
    path = layer(tmp_path / "labels.gpkg", ["grass"], square.to_list(), crs=4326)
    left, bottom, right, top = square.segmentize(0.001).to_crs("EPSG:32633").total_bounds
    rows, cols = int((top - bottom) / 10), int((right - left) / 10)
    geo = GeoGrid(rows, cols, (10.0, 0.0, left, 0.0, -10.0, top), "EPSG:32633")
    exact = shapely.transform(
        square.segmentize(0.0005).to_crs("EPSG:32633").iloc[0], lambda xy: (xy - (left, top)) / (10.0, -10.0)
    )
    inside = shapely.contains_xy(exact, *np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5))
    assert ((burned(path, geo) == 3) != inside).mean() < 1e-4


def test_a_polygon_that_crosses_itself_is_burned_as_it_is_drawn(tmp_path: Path) -> None:
    (x0, y0), (x1, y1) = GROUND.at(0, 0), GROUND.at(40, 40)
    bow = shapely.Polygon([(x0, y0), (x1, y1), (x1, y0), (x0, y1)])
    ids = burned(layer(tmp_path / "labels.gpkg", ["roof"], [bow]))
    assert (ids[:, 0] == 7).sum() > 35
    assert (ids[:, 39] == 7).sum() > 35
    assert (ids[20, 5:35] == 7).sum() < 30


@given(st.integers(-20, 50), st.integers(-20, 70), st.integers(1, 45), st.integers(1, 45), st.booleans())
def test_any_window_shows_what_the_whole_shows_there(
    labels_of: Callable[[bool], Labels], top: int, left: int, height: int, width: int, as_raster: bool
) -> None:
    around = Box(-70, -70, 120, 120)
    whole = np.full(around.shape, NODATA, np.uint8)
    box = Box(top, left, top + height, left + width)
    whole[Box(0, 0, HEIGHT, WIDTH).within(around)] = drawn()
    assert (labels_of(as_raster).burn(GROUND.part(box)) == whole[box.within(around)]).all()


@pytest.fixture(scope="module")
def labels_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Labels]:
    folder = tmp_path_factory.mktemp("labels")
    raster = open_labels(write(folder / "labels.tif", drawn()[None], nodata=NODATA), LEGEND)
    polygons = open_labels(two(folder / "labels.gpkg"), LEGEND)
    return lambda as_raster: raster if as_raster else polygons


def test_what_was_gathered_for_a_place_does_not_show_elsewhere(tmp_path: Path) -> None:
    labels = open_labels(two(tmp_path / "labels.gpkg"), LEGEND)
    labels.gather(GROUND.part(Box(0, 0, 10, 20)))
    assert (labels.burn(GROUND.part(Box(2, 5, 9, 20))) == drawn()[2:9, 5:20]).all()
    assert (labels.burn(GROUND) == drawn()).all()


def test_a_class_raster_of_another_grid_gives_its_nearest_pixel(tmp_path: Path) -> None:
    coarse = np.array([[3, 7, 3], [7, NODATA, 3]], np.uint8)
    transform = Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000)
    path = write(tmp_path / "labels.tif", coarse[None], nodata=NODATA, transform=transform)
    assert (burned(path) == np.kron(coarse, np.ones((20, 20), np.uint8))).all()


def test_nodata_and_masked_pixels_of_a_class_raster_are_void(tmp_path: Path) -> None:
    ids = np.where(drawn() == NODATA, 7, drawn())
    mask = np.where(drawn() == NODATA, 0, 255).astype(np.uint8)
    assert (burned(write(tmp_path / "masked.tif", ids[None], mask=mask)) == drawn()).all()
    wide = np.where(drawn() == NODATA, np.int16(-1), drawn().astype(np.int16))
    assert (burned(write(tmp_path / "wide.tif", wide[None], nodata=-1)) == drawn()).all()


def test_an_id_that_the_legend_does_not_know_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.tif", np.full((1, HEIGHT, WIDTH), 9, np.uint8))
    with pytest.raises(InputError, match=r"class '9', which the legend does not know; it knows: 3 grass, 7 roof"):
        burned(path)


def test_numbered_labels_are_places_in_the_legend_whatever_its_ids(tmp_path: Path) -> None:
    raster = write(tmp_path / "labels.tif", np.array([[[3, 7, 300]]], np.uint16))
    patch = GROUND.part(Box(0, 0, 1, 3))
    assert burned(raster, patch, numbered=True).tolist() == [[0, 1, 2]]
    polygons = layer(tmp_path / "labels.gpkg", [300, "roof"], [area(0, 0, 1, 1), area(0, 1, 1, 2)])
    assert burned(polygons, patch, numbered=True).tolist() == [[2, 1, NODATA]]


@pytest.mark.parametrize(
    ("name", "values", "options", "said"),
    [
        ("labels.gpkg", ["grass"], {"field": "kind"}, r"no field 'kind'; name one that it has: class"),
        ("labels.gpkg", ["grass"], {"layer": "other"}, r"no layer 'other'; say which with --layer: labels"),
        ("labels.kml", ["grass"], {}, r"wanted polygons \(.gpkg"),
    ],
)
def test_what_is_not_in_the_file_is_named(
    tmp_path: Path, name: str, values: list[str], options: dict[str, str], said: str
) -> None:
    path = tmp_path / name
    layer(path if path.suffix == ".gpkg" else tmp_path / "x.gpkg", values, [area(0, 0, 9, 9)])
    path.touch()
    with pytest.raises(InputError, match=said):
        burned(path, **options)


def test_one_of_several_layers_must_be_chosen(tmp_path: Path) -> None:
    path = two(tmp_path / "labels.gpkg", layer="a")
    layer(path, ["roof"], [area(0, 0, 40, 60)], layer="b", mode="a")
    with pytest.raises(InputError, match="2 layers; say which with --layer: a, b"):
        burned(path)
    assert (burned(path, layer="a") == drawn()).all()
    assert (burned(path, layer="b") == 7).all()


def test_points_are_refused(tmp_path: Path) -> None:
    path = layer(tmp_path / "labels.gpkg", ["grass"], [shapely.Point(*GROUND.at(3, 3))])
    with pytest.raises(InputError, match="holds Point: wanted polygons"):
        burned(path)


def test_labels_without_a_crs_are_refused_on_a_raster_that_has_one(tmp_path: Path) -> None:
    raster = write(tmp_path / "labels.tif", drawn()[None], nodata=NODATA, crs=None)
    with pytest.raises(InputError, match="has no coordinate system"):
        burned(raster)
    lost = replace(GROUND, crs=None)
    assert (burned(raster, lost) == drawn()).all()


def test_a_file_that_points_at_another_one_is_not_followed(tmp_path: Path) -> None:
    other = two(tmp_path / "other.gpkg")
    text = f"<OGRVRTDataSource><OGRVRTLayer name='other'><SrcDataSource>{other}</SrcDataSource></OGRVRTLayer>"
    path = tmp_path / "labels.gpkg"
    path.write_text(text + "</OGRVRTDataSource>")
    with pytest.raises(InputError, match=r"is no \.gpkg file"):
        burned(path)
    with pytest.raises(InputError, match="not a local file"):
        open_labels(f"/vsizip/{tmp_path}/labels.gpkg", LEGEND)


@pytest.mark.parametrize("ending", [".gpkg", ".fgb", ".shp", ".geojson", ".parquet"])
def test_a_damaged_file_is_an_input_error(tmp_path: Path, ending: str) -> None:
    path = two(tmp_path / f"labels{ending}", to=4326 if ending == ".geojson" else None)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError):
        burned(path)


def test_a_table_without_geometries_holds_no_labels(tmp_path: Path) -> None:
    pyogrio.write_dataframe(pandas.DataFrame({"class": ["roof"]}), tmp_path / "a.gpkg")
    with pytest.raises(InputError, match=r"a\.gpkg has no features: wanted polygons"):
        open_labels(tmp_path / "a.gpkg", LEGEND)


def test_a_layer_of_a_class_raster_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="have layers"):
        open_labels(write(tmp_path / "labels.tif", drawn()[None]), LEGEND, layer="a")


def test_pictures_are_no_class_rasters(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 3 bands: wanted a class raster"):
        open_labels(write(tmp_path / "labels.tif", np.zeros((3, 5, 5), np.uint8)), LEGEND)
    with pytest.raises(InputError, match=r"holds 0\.5: wanted class ids"):
        burned(write(tmp_path / "float.tif", np.full((1, HEIGHT, WIDTH), 0.5, np.float32)))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_without_features_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    path = layer(tmp_path / f"empty{ending}", [], [])
    with pytest.raises(InputError, match=f"empty{ending} has no features"):
        open_labels(path, LEGEND)


@pytest.mark.parametrize("field", ["class_id", "class_name"])
def test_a_layer_of_which_one_field_alone_was_edited_is_not_believed(tmp_path: Path, field: str) -> None:
    path = tmp_path / "edited.gpkg"
    squares = [area(5 * at, 0, 5 * at + 5, 5) for at in range(5)]
    values = {"class_id": [3, 3, 7, 7, 7], "class_name": ["grass", "grass", "roof", "roof", "grass"]}
    geopandas.GeoDataFrame(values, geometry=squares, crs=UTM).to_file(path)
    with pytest.raises(InputError, match="in 1 of 5 features, such as 5: 7 is 'roof' elsewhere and 'grass' there"):
        open_labels(path, LEGEND, field=field)
    values["class_name"][-1] = "roof"
    geopandas.GeoDataFrame(values, geometry=squares, crs=UTM).to_file(path)
    assert (burned(path, field=field)[20:25, :5] == 7).all()


def test_a_class_is_known_by_the_title_that_maps_show_too() -> None:
    legend = Legend((LandClass(1, "paved-area", (1, 2, 3), "paved"), LandClass(2, "grass", (3, 4, 5), "paved-area")))
    known = Known(legend)
    assert [known.of(name) for name in ("paved", "paved-area", "grass", 1)] == [1, 1, 2, 1]
