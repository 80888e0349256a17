"""The algorithms, in the order of the toolbox's groups."""

from __future__ import annotations

from .draw_demo import DrawDemo
from .evaluate_map import EvaluateMap
from .map_land_cover import MapLandCover
from .polygonize_class_raster import PolygonizeClassRaster
from .redraw_polygons import RedrawPolygons

ALGORITHMS = (MapLandCover, RedrawPolygons, PolygonizeClassRaster, EvaluateMap, DrawDemo)
