"""Fault 40: areas and lengths are those on the ellipsoid within 0.1 %, polygon by polygon, wherever the raster lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer
from rasterio.crs import CRS as RasterioCRS

import aerialseg
from aerialseg.raster.georef import geographic_of
from tests.raster.drawing import write

PIECES = 300
"""Points along an edge of the reference polygons."""
ROTATED_POLE = (
    "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84 +to_meter=0.0174532925199433"
)
WIDE = {
    "Africa in Web Mercator": ("EPSG:3857", Affine(100_000, 0, -2_226_389, 0, -108_000, 4_439_106)),
    "the Pacific in Web Mercator": ("EPSG:3857", Affine(50_000, 0, -22_000_000, 0, -50_000, -3_000_000)),
    "six zones of UTM": ("EPSG:32633", Affine(30_000, 0, -800_000, 0, -30_000, 6_000_000)),
    "the edge of a UTM zone": ("EPSG:32633", Affine(100, 0, 160_000, 0, -100, 50_000)),
    "Europe, conformal": ("EPSG:3034", Affine(40_000, 0, 2_500_000, 0, -40_000, 4_500_000)),
    "Europe, equal area": ("EPSG:3035", Affine(40_000, 0, 2_500_000, 0, -40_000, 5_500_000)),
    "rotated pole": (ROTATED_POLE, Affine(0.5, 0, -20, 0, -0.5, 20)),
    "north pole": ("EPSG:3995", Affine(50_000, 0, -1_975_000, 0, -50_000, 1_975_000)),
}
WORLDS = {
    "0 to 360": Affine(4.5, 0, 0, 0, -4.5, 90),
    "-180 to 180": Affine(4.5, 0, -180, 0, -4.5, 90),
    "half a pixel beyond all edges": Affine(4.5, 0, -2.25, 0, -4.5, 92.25),
    "south up": Affine(4.5, 0, 0, 0, 4.5, -90),
}
UTM_PLACE = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)


def layer_of(folder: Path, crs: str, transform: Affine, shape: tuple[int, int] = (80, 80)) -> shapely.Geometry:
    """The layer of a raster in which each square of 10 x 10 pixels is a polygon."""
    row, col = np.indices(shape) // 10
    system = RasterioCRS.from_string(crs)
    path = write(folder / "c.tif", ((row % 2) * 2 + col % 2)[None].astype(np.uint8), crs=system, transform=transform)
    aerialseg.polygonize(path, folder / "map.gpkg", simplify_m=0, overwrite=True)
    return pyogrio.read_dataframe(folder / "map.gpkg", layer="landcover")


def on_ellipsoid(polygon: shapely.Polygon, system: CRS) -> tuple[float, float]:
    """Area and perimeter by the geodesics between many points of the outline."""
    base = geographic_of(system)
    assert base is not None
    to_degrees = Transformer.from_crs(system, base, always_xy=True)
    fine = shapely.segmentize(polygon, max(shapely.bounds(polygon)[2:] - shapely.bounds(polygon)[:2]) / PIECES)
    lon, lat = to_degrees.transform(*np.array(fine.exterior.coords).T)
    area, perimeter = base.get_geod().polygon_area_perimeter(lon, lat)
    return abs(area), perimeter


@pytest.mark.slow
@pytest.mark.parametrize("place", WIDE)
def test_row_40_areas_and_perimeters_are_those_of_the_ellipsoid(tmp_path: Path, place: str) -> None:
    crs, transform = WIDE[place]
    frame = layer_of(tmp_path, crs, transform)
    system = CRS.from_wkt(RasterioCRS.from_string(crs).to_wkt())
    true = np.array([on_ellipsoid(polygon, system) for polygon in frame.geometry])
    assert len(frame) == 64
    assert np.abs(frame.area_m2 / true[:, 0] - 1).max() < 0.001
    assert np.abs(frame.perimeter_m / true[:, 1] - 1).max() < 0.001


def zone_area(south: np.ndarray, north: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Square metres between two parallels, over so many degrees of longitude (Snyder 1987, p. 16)."""
    geod = Geod(ellps="WGS84")
    e = np.sqrt(geod.es)

    def q(lat: np.ndarray) -> np.ndarray:
        sine = np.sin(np.radians(np.clip(lat, -90, 90)))
        return (sine / (1 - geod.es * sine**2) + np.arctanh(e * sine) / e) * geod.b**2 / 2

    return np.radians(degrees) * (q(north) - q(south))


@pytest.mark.parametrize("world", WORLDS)
def test_row_40_areas_of_a_world_in_degrees_add_up_to_the_earth(tmp_path: Path, world: str) -> None:
    height = 41 if "half" in world else 40
    frame = layer_of(tmp_path, "EPSG:4326", WORLDS[world], (height, 80))
    left, bottom, right, top = frame.geometry.bounds.to_numpy().T
    true = zone_area(bottom, top, right - left)
    assert np.abs(frame.area_m2 / true - 1).max() < 0.001
    assert frame.area_m2.sum() == pytest.approx(510_065_621_724_089, rel=1e-4)
    assert np.isfinite(frame.perimeter_m).all()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", UTM_PLACE),
        ("EPSG:27700", Affine(0.25, 0, 530_000, 0, -0.25, 180_000)),
        ("EPSG:2154", Affine(0.2, 0, 650_000, 0, -0.2, 6_860_000)),
    ],
)
def test_row_40_areas_are_exact_in_the_plane_where_it_is_true_to_scale(
    tmp_path: Path, crs: str, transform: Affine
) -> None:
    frame = layer_of(tmp_path, crs, transform)
    assert (frame.area_m2 == 2 * frame.pixels * (abs(transform.determinant) / 2)).all()
    assert (frame.perimeter_m == frame.geometry.length).all()


def test_row_40_where_the_raster_reaches_beyond_the_world_areas_are_null_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = layer_of(tmp_path, "ESRI:54030", Affine(450_000, 0, -18_000_000, 0, -450_000, 9_000_000), (40, 80))
    assert len(frame) == 32
    assert frame.area_m2.isna().all()
    assert "areas and lengths are null" in caplog.text
