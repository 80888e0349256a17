"""The results of a job as a STAC collection: plain files that any STAC tool reads, each item checked by pystac."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__
from aerialseg.batch.ledger import Entry
from aerialseg.errors import AerialsegError, OutputError, UsageError
from aerialseg.files import cannot_write
from aerialseg.legend import Legend
from aerialseg.progress import counted
from aerialseg.raster.georef import GeoGrid, lonlat_outline
from aerialseg.raster.mosaic import SourceTile, read_tile
from aerialseg.raster.palette import read_palette

if TYPE_CHECKING:
    import pystac

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
LAYER_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
}


def write_collection(entries: Sequence[Entry], folder: Path, *, title: str, overwrite: bool = False) -> Path:
    """Write the collection and its items into the new ``folder`` and return the path of collection.json.

    Links and assets are relative. Each item and the collection are validated against the core of STAC before anything
    gets its name. Raises UsageError (no pystac, the folder exists), OutputError.
    """
    try:
        import pystac
    except ModuleNotFoundError as error:
        raise UsageError("--stac needs the extra of that name: pip install 'aerialseg[stac]'") from error
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (overwrite and (folder / "collection.json").is_file()):
        raise UsageError(f"{folder} exists{'' if not overwrite else ' and holds no collection'}: name another folder")
    names = _ids(entries)
    items = [_item(pystac, entry, name) for entry, name in zip(entries, names, strict=True)]
    collection = pystac.Collection(
        id=_slug(title),
        title=title,
        description=f"Land cover by aerialseg {__version__}: {counted(len(items), 'raster')} of the job {title}.",
        license="other",
        extent=_extent(pystac, items),
    )
    collection.add_items(items)
    collection.normalize_hrefs(str(folder))
    collection.make_all_asset_hrefs_relative()
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        collection.save(catalog_type=pystac.CatalogType.SELF_CONTAINED, dest_href=str(part))
        validate(part)
        _replace(part, folder)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / "collection.json"


def validate(folder: Path) -> int:
    """How many JSON files of a collection are valid by the core schemas of STAC. Raises OutputError for one that isn't.

    The schemas come with pystac: nothing is fetched (those of extensions would be).
    """
    import json

    from pystac.errors import STACValidationError
    from pystac.validation import validate_dict

    paths = sorted(folder.rglob("*.json"))
    for path in paths:
        values = json.loads(path.read_text(encoding="utf-8"))
        try:
            validate_dict(values, extensions=[])
        except STACValidationError as error:
            raise OutputError(f"{path.name} would not be valid STAC: {error}: a bug, please report it") from error
    return len(paths)


def _replace(part: Path, folder: Path) -> None:
    """The new folder at its name; an older one is there until then."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _item(pystac: Any, entry: Entry, name: str) -> pystac.Item:
    tile, legend = _place(entry)
    outline = None if tile is None else lonlat_outline(tile.geo)
    properties: dict[str, Any] = {
        "title": f"Land cover of {entry.name}",
        "aerialseg:version": entry.version,
        "aerialseg:model_digest": entry.model,
        "aerialseg:areas_m2": entry.areas,
        "aerialseg:source": entry.source,
    }
    extensions = []
    if tile is not None and tile.geo.crs is not None:
        extensions.append(PROJECTION)
        properties |= _projection(tile.geo)
    item = pystac.Item(
        id=name,
        geometry=None if outline is None else {"type": "Polygon", "coordinates": [outline]},
        bbox=None if outline is None else _bounds(outline),
        datetime=_taken(entry),
        properties=properties,
        stac_extensions=extensions,
    )
    for kind, path in entry.outputs.items():
        item.add_asset(kind, _asset(pystac, kind, path, legend))
    if legend is not None and "raster" in entry.outputs:
        item.stac_extensions.append(CLASSIFICATION)
    return item


def _place(entry: Entry) -> tuple[SourceTile | None, Legend | None]:
    path = entry.outputs.get("raster") or entry.outputs.get("confidence")
    if path is None:
        return None, None
    try:
        return read_tile(path), read_palette(path).legend(()) if "raster" in entry.outputs else None
    except AerialsegError:  # no place on the Earth: an item may have none
        return None, None


def _asset(pystac: Any, kind: str, path: str, legend: Legend | None) -> Any:
    ending = Path(path).suffix.lower()
    media = COG if kind in ("raster", "confidence") else LAYER_TYPES.get(ending)
    titles = {"layer": "land cover, polygons", "raster": "land cover, classes", "confidence": "confidence, per cent"}
    asset = pystac.Asset(os.path.abspath(path), titles.get(kind, kind), media_type=media, roles=["data"])
    if kind == "raster" and legend is not None:
        asset.extra_fields["classification:classes"] = [
            {"value": one.id, "name": _slug(one.name), "title": one.name, "color_hint": one.hex[1:].upper()}
            for one in legend
        ]
    return asset


def _projection(geo: GeoGrid) -> dict[str, Any]:
    from pyproj import CRS

    code = CRS.from_wkt(geo.crs or "").to_authority()
    named = {"proj:code": ":".join(code)} if code else {"proj:code": None, "proj:wkt2": geo.crs}
    return {**named, "proj:shape": [*geo.shape], "proj:transform": [*geo.transform, 0.0, 0.0, 1.0]}


def _taken(entry: Entry) -> datetime:
    """When the image was taken: as its STAC item says, else when its file was last changed."""
    said = entry.source_fields.get("datetime", "")
    try:
        if said:
            when = datetime.fromisoformat(said.replace("Z", "+00:00"))
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        return _moment(os.path.getmtime(entry.source))
    except (ValueError, OSError):
        return _moment(entry.began)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def _bounds(outline: Sequence[Sequence[float]]) -> list[float]:
    lons, lats = [point[0] for point in outline], [point[1] for point in outline]
    return [min(lons), min(lats), max(lons), max(lats)]


def _extent(pystac: Any, items: Sequence[Any]) -> Any:
    boxes = [item.bbox for item in items if item.bbox] or [[-180.0, -90.0, 180.0, 90.0]]
    whole = [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]
    times = [item.datetime for item in items]
    return pystac.Extent(pystac.SpatialExtent([whole]), pystac.TemporalExtent([[min(times), max(times)]]))


def _ids(entries: Sequence[Entry]) -> list[str]:
    """An id for each entry, from its name; equal ones are numbered."""
    slugs = [_slug(os.path.splitext(entry.name)[0]) for entry in entries]
    seen: Counter[str] = Counter()
    found = []
    for slug in slugs:
        seen[slug] += 1
        found.append(slug if slugs.count(slug) == 1 else f"{slug}-{seen[slug]}")
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]+", "-", text).strip("-") or "item"
