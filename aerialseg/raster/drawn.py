"""What a person has drawn: all features of a layer, of whatever geometry, with all their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.feature_opening import check_file, is_layer, reading
from aerialseg.raster.features import Geometries, choose_layer


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLayer:
    """fids: the features' own numbers, ascending; geometries and ``fields`` (name -> values) lie beside them."""

    path: Path
    layer: str | None
    crs: str | None
    fids: NDArray[np.int64]
    geometries: Geometries
    fields: Mapping[str, NDArray[Any]]

    def take(self, rows: NDArray[Any]) -> DrawnLayer:
        """Some of the features."""
        fields = {name: values[rows] for name, values in self.fields.items()}
        return DrawnLayer(self.path, self.layer, self.crs, self.fids[rows], self.geometries[rows], fields)


def read_drawn(path: str | Path, layer: str | None = None) -> DrawnLayer:
    """The features that have a geometry. Raises InputError: no such file or layer, or no features in it."""
    if not is_layer(path):
        raise InputError(f"{printable(path)} is no vector file: wanted .gpkg, .geojson, .shp, .fgb or .parquet")
    place = check_file(Path(path))
    with reading(place) as name:
        found = _parquet(place) if place.suffix.lower() == ".parquet" else _layer(place, name, layer)
    found = found.take(~(shapely.is_missing(found.geometries) | shapely.is_empty(found.geometries)))
    if not len(found.fids):
        raise InputError(f"{printable(place)} has no features: draw some labels first")
    return found


def _layer(place: Path, name: str, layer: str | None) -> DrawnLayer:
    import pyogrio
    import pyogrio.raw

    chosen = choose_layer(place, [str(one) for one, _ in pyogrio.list_layers(name)], layer, "--layer")
    about, fids, wkb, columns = pyogrio.raw.read(name, layer=chosen, return_fids=True, force_2d=True)
    order = np.argsort(fids, kind="stable")
    fields = {str(one): values[order] for one, values in zip(about["fields"], columns, strict=True)}
    geometries = np.full(len(fids), None, np.object_) if wkb is None else shapely.from_wkb(wkb)
    return DrawnLayer(place, chosen, about["crs"], fids[order], geometries[order], fields)


def _parquet(place: Path) -> DrawnLayer:
    import geopandas

    frame = geopandas.read_parquet(place)
    geometries = np.asarray(shapely.force_2d(frame.geometry.to_numpy()), dtype=np.object_)
    names = [str(name) for name in frame.columns if name != frame.geometry.name]
    fields = {name: frame[name].to_numpy(dtype=object) for name in names}
    crs = None if frame.crs is None else frame.crs.to_wkt()
    return DrawnLayer(place, None, crs, np.arange(len(frame)), geometries, fields)
