"""Area by class, within each zone of another layer (parcels, districts, protected areas) or of the whole map."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import absolute, printable, write_atomically
from aerialseg.mapping.kinds import split_layer
from aerialseg.progress import Progress, Silent
from aerialseg.raster.features import FeatureFile, Geometries, open_features

PathLike = str | Path
UNNAMED = "(no name)"
STALE = 0.01
"""A polygon whose area_m2 is off by more than this share of its area was changed since, and is measured anew."""


@dataclass(frozen=True, slots=True)
class ZoneArea:
    """Area of one class in one zone; ``share`` of the mapped area of that zone, 0 to 1."""

    zone: str
    class_name: str
    area_m2: float
    share: float


def areas_by_zone(
    layer: PathLike,
    zones: PathLike | None = None,
    *,
    by: str | None = None,
    out: PathLike | None = None,
    progress: Progress | None = None,
) -> tuple[ZoneArea, ...]:
    """Area by class of a land-cover layer: of the whole, or within each zone; zones by name, the largest class first.

    Polygons are cut by the zones' outlines. A cut polygon counts with its share of ``area_m2``, so zones that cover the
    map without overlaps add up to it. Where ``area_m2`` is not that of the polygon as it is drawn now (somebody has
    split or moved it), its area on the ellipsoid counts.

    Parameters
    ----------
    layer : path
        A layer that aerialseg made (or of the same fields: class_name, area_m2); FILE:LAYER names one of several.
        Default: ``landcover``, where the file has it.
    zones : path
        Polygons in any coordinate reference system; also FILE:LAYER. Default: the whole map.
    by : str
        Field of the zones that names them; zones of one name are one zone, whose overlaps count once.
    out : path
        Also write the table as CSV.
    progress : Progress
        Listener for the zones.

    Raises
    ------
    InputError
        A file cannot be read, lacks the field, the layer has no areas, or the two do not share a place.
    OutputError
        The table cannot be written.
    """
    path, name = _placed_layer(layer)
    names, areas = (open_features(path, field, name) for field in ("class_name", "area_m2"))
    values = np.asarray(areas.values, np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{printable(names.path)} has polygons without area_m2: wanted a layer with all its areas")
    values = _as_drawn(areas, values)
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    if zones is None:
        _add(totals["all"], names.values, values)
    else:
        place, chosen = split_layer(str(zones))
        found = open_features(absolute(place), by, chosen or None)
        if (found.crs is None) != (names.crs is None):
            without = found if found.crs is None else names
            raise InputError(
                f"{printable(without.path)} has no coordinate reference system: assign it in QGIS, and save"
            )
        places, outlines = found.near(found.bounds)
        labels = np.array([_name(value) for value in found.values[places]] if by else ["all"] * len(places))
        placed = _placed(outlines, found, names)
        listener = progress or Silent()
        listener.stage("zones", len(set(labels)))
        for label in dict.fromkeys(labels):
            which, shares = _cut(names, shapely.union_all(placed[labels == label]))
            _add(totals[label], names.values[which], values[which] * shares)
            listener.advance(1)
    rows = tuple(_rows(totals))
    if out is not None:
        with write_atomically(Path(out)) as part:
            part.write_text(to_csv(rows), encoding="utf-8")
    return rows


def to_csv(rows: Sequence[ZoneArea]) -> str:
    """The table as CSV, areas in m²."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["zone", "class_name", "area_m2", "share"])
    writer.writerows([row.zone, row.class_name, round(row.area_m2, 3), round(row.share, 6)] for row in rows)
    return text.getvalue()


def _name(value: Any) -> str:
    return UNNAMED if value is None or value != value else str(value)


def _placed_layer(layer: PathLike) -> tuple[Path, str | None]:
    """Path and layer of FILE or FILE:LAYER; of a GeoPackage with several layers, ours unless one is named."""
    path, name = split_layer(str(layer))
    place = absolute(path)
    return place, name or _own_layer(place)


def _own_layer(path: PathLike) -> str | None:
    import pyogrio

    from aerialseg.raster.feature_opening import reading
    from aerialseg.vector.formats import LAYER_NAME

    if Path(path).suffix.lower() != ".gpkg" or not Path(path).is_file():
        return None
    with reading(Path(path)) as name:
        return LAYER_NAME if LAYER_NAME in pyogrio.list_layers(name)[:, 0] else None


def _placed(outlines: Geometries, zones: FeatureFile, layer: FeatureFile) -> Geometries:
    """The zones in the layer's CRS, valid."""
    outlines = shapely.make_valid(outlines)
    if zones.crs is None or layer.crs is None or zones.crs == layer.crs:
        return outlines
    from pyproj import Transformer

    change = Transformer.from_crs(zones.crs, layer.crs, always_xy=True)
    moved = shapely.transform(outlines, lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1])))
    placed: Geometries = shapely.make_valid(moved)
    return placed


def _cut(layer: FeatureFile, outline: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(places of polygons, the share of each that lies within the outline)."""
    bounds = shapely.bounds(outline)
    if not np.isfinite(bounds).all():
        return np.zeros(0, np.int64), np.zeros(0)
    which, polygons = layer.near(tuple(bounds.tolist()))
    shapely.prepare(outline)
    shares = np.ones(len(which))
    cut = ~shapely.covers(outline, polygons)
    shares[cut] = shapely.area(shapely.intersection(outline, polygons[cut])) / shapely.area(polygons[cut])
    return which, shares


def _as_drawn(layer: FeatureFile, stated: NDArray[np.float64]) -> NDArray[np.float64]:
    """The areas stated, but of polygons changed since as they are now; on the ellipsoid if there is a CRS."""
    which, polygons = layer.near(layer.bounds)
    drawn = shapely.area(polygons) if layer.crs is None else _on_ellipsoid(polygons, layer.crs)
    if layer.crs is None and len(drawn):  # in pixels, or in metres by a size that the user said
        drawn = drawn * np.median(stated[which] / np.maximum(drawn, np.finfo(float).tiny))
    stale = np.abs(stated[which] - drawn) > STALE * drawn
    areas = stated.copy()
    areas[which[stale]] = drawn[stale]
    return areas


def _on_ellipsoid(polygons: Geometries, crs: Any) -> NDArray[np.float64]:
    """Areas in m², edges being straight in longitude and latitude (Karney 2013, by pyproj)."""
    from pyproj import CRS, Geod, Transformer

    system = CRS.from_user_input(crs)
    ellipsoid = system.get_geod() or Geod(ellps="WGS84")
    change = Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    moved = shapely.transform(polygons, lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1])))
    return np.array([abs(ellipsoid.geometry_area_perimeter(one)[0]) for one in shapely.orient_polygons(moved)])


def _add(totals: dict[str, float], names: NDArray[Any], areas: NDArray[np.float64]) -> None:
    present, number = np.unique(np.asarray(names, str), return_inverse=True)
    for name, area in zip(present.tolist(), np.bincount(number, areas, len(present)).tolist(), strict=True):
        totals[name] += area


def _rows(totals: dict[str, dict[str, float]]) -> Iterator[ZoneArea]:
    for zone in sorted(totals):
        whole = sum(totals[zone].values())
        for name, area in sorted(totals[zone].items(), key=lambda item: (-item[1], item[0])):
            if area > 0:
                yield ZoneArea(zone, name, area, area / whole)
