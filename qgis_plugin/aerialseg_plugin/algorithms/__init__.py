"""The algorithms, in the order of the toolbox's groups."""

from __future__ import annotations

from .area_by_zone import AreaByZone
from .draw_demo import DrawDemo
from .evaluate_map import EvaluateMap
from .install_aerialseg import InstallAerialseg
from .map_land_cover import MapLandCover
from .polygonize_class_raster import PolygonizeClassRaster
from .redraw_polygons import RedrawPolygons
from .teach_corrections import TeachCorrections

ALGORITHMS = (
    MapLandCover,
    RedrawPolygons,
    PolygonizeClassRaster,
    AreaByZone,
    TeachCorrections,
    EvaluateMap,
    InstallAerialseg,
    DrawDemo,
)
