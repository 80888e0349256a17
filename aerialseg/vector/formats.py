"""The formats that a layer can be written in, told by the ending of its name, and which files each makes."""

from __future__ import annotations

from pathlib import Path

from aerialseg.errors import UsageError

GEOPACKAGE, FLATGEOBUF, GEOPARQUET, GEOJSON = ".gpkg", ".fgb", ".parquet", ".geojson"
VERTEX_BYTES = {GEOPACKAGE: 17, FLATGEOBUF: 34, GEOPARQUET: 16, GEOJSON: 45}
"""The formats -> disk that a vertex takes at most (FlatGeobuf is written twice)."""
ENDINGS = tuple(VERTEX_BYTES)

STYLE = ".qml"
"""The ending of the style that lies beside the layer where it cannot lie inside: QGIS takes it by its name."""

LAYER_NAME = "landcover"
"""What the layer is called unless the user says."""

BY_CLASS = "_by_class"
"""Added to the name of the layer: the dissolved one, with one multipolygon for each class."""


def ending_of(output: Path) -> str:
    """The format of a file, as its ending in lower case. Raises UsageError for one that is not known."""
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"output {output} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return ending


def layer_files(output: Path, *, dissolve: bool = False) -> tuple[Path, ...]:
    """All files that the layer ``output`` is made of, itself first.

    A GeoPackage holds everything. Elsewhere a style lies beside the layer, and the dissolved layer is a file of its
    own: ``map.fgb, map.qml, map_by_class.fgb, map_by_class.qml``.
    """
    if ending_of(output) == GEOPACKAGE:
        return (output,)
    layers = [output, by_class_file(output)] if dissolve else [output]
    return tuple(file for layer in layers for file in (layer, layer.with_suffix(STYLE)))


def by_class_file(output: Path) -> Path:
    """The file of the dissolved layer: the same one where a file can hold several layers."""
    if ending_of(output) == GEOPACKAGE:
        return output
    return output.with_name(output.stem + BY_CLASS + output.suffix)


def check_place(output: Path, crs: str | None) -> None:
    """Raise UsageError where the format needs a place on the Earth and ``crs`` (WKT) has none: GeoJSON."""
    if ending_of(output) != GEOJSON:
        return
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    system = CRS.from_user_input(crs) if crs else None
    if system is None or system.geodetic_crs is None:
        raise UsageError(
            f"{output.name}: GeoJSON is in longitude and latitude (RFC 7946), and the raster has no known coordinate "
            f"reference system; write {GEOPACKAGE} instead, or georeference the raster first"
        )
    try:
        Transformer.from_crs(system, 4326)
    except ProjError:  # of another planet, say
        raise UsageError(
            f"{output.name}: GeoJSON is in longitude and latitude on the Earth (RFC 7946), which cannot be had from "
            f"{system.name!r}; write {GEOPACKAGE} instead"
        ) from None
