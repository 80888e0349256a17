"""What the GDAL that is installed here can read and write of what aerialseg knows."""

from __future__ import annotations

import pyogrio
import rasterio

from aerialseg.raster.drivers import DRIVERS

VECTOR_DRIVERS = ("GPKG", "FlatGeobuf", "GeoJSON", "ESRI Shapefile")


def gdal_version() -> str:
    return str(rasterio.__gdal_version__)


def drivers_found() -> dict[str, bool]:
    """Each driver that aerialseg names, and whether this GDAL has it: rasters first, then vectors."""
    with rasterio.Env() as environment:
        rasters = set(environment.drivers())
    vectors = pyogrio.list_drivers()
    return {name: name in rasters for name in DRIVERS} | {name: name in vectors for name in VECTOR_DRIVERS}
