"""Inputs from STAC: an ItemCollection, a page of an API's answer, or one Item, saved as JSON."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, UsageError
from aerialseg.files import parse_json, printable
from aerialseg.raster.opening import is_remote
from aerialseg.toml import convert, nearest

logger = logging.getLogger("aerialseg.batch")
TIFF = "image/tiff"


@dataclass(frozen=True, slots=True)
class Item:
    """``href`` is absolute (addresses as GDAL takes them); stamp is what the item says of the asset's version."""

    id: str
    href: str
    fields: Mapping[str, str]
    stamp: str


def read_items(path: Path, asset: str | None) -> Iterator[Item]:
    """The items of a JSON file. Raises InputError where it is none, UsageError where an item lacks the asset."""
    values = parse_json(path, "STAC items")
    kind = values.get("type") if isinstance(values, Mapping) else None
    if kind not in ("FeatureCollection", "Feature"):
        said = repr(str(kind)[:80])
        raise InputError(f"{path} is no STAC ItemCollection: its type is {said}, wanted 'FeatureCollection'")
    if any(link.get("rel") == "next" for link in _tables(path, values, "links")):
        logger.warning("%s is one page of several: save the next ones, too, and name them all in inputs.stac", path)
    if kind == "FeatureCollection" and "features" not in values:
        raise InputError(f"{printable(path)} lacks the key 'features': is it a STAC ItemCollection?")
    for number, feature in enumerate(_tables(path, values, "features") if kind == "FeatureCollection" else [values]):
        yield _item(path, feature, asset, f"{printable(path)}: features[{number}]")


def _tables(path: Path, values: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under a key; none where it is null or missing. Raises UsageError."""
    entries = convert(values.get(key) or [], list, f"{printable(path)}: {key}")
    return [convert(entry, dict, f"{printable(path)}: {key}[{n}]") for n, entry in enumerate(entries)]


def _item(path: Path, feature: Mapping[str, Any], asset: str | None, where: str) -> Item:
    name = str(convert(feature.get("id"), str | int, f"{where}.id"))
    properties = convert(feature.get("properties") or {}, dict, f"{where}.properties")
    assets = {
        key: convert(value, dict, f"{where}.assets.{key}")
        for key, value in convert(feature.get("assets"), dict, f"{where}.assets").items()
    }
    key = asset or _image(assets, where)
    if key not in assets:
        raise UsageError(f"{path}: the item {name} has no asset {key!r}: {nearest(key or '', assets)}")
    found = assets[key]
    href = convert(found.get("href"), str, f"{where}.assets.{key}.href")
    fields = {
        "id": name,
        "stem": name,
        "name": os.path.basename(href),
        "folder": str(feature.get("collection") or ""),
        "collection": str(feature.get("collection") or ""),
        "datetime": str(properties.get("datetime") or ""),
    }
    parts = (found.get("file:checksum"), found.get("file:size"), found.get("updated"), properties.get("updated"))
    return Item(name, _href(path, href), fields, " ".join(str(part) for part in parts if part))


def _image(assets: Mapping[str, Mapping[str, Any]], where: str) -> str:
    """The asset that is meant when none is named: a GeoTIFF, best one with the role "data" or "visual"."""
    tiffs = [key for key, one in assets.items() if str(one.get("type", "")).startswith(TIFF)]
    best = [
        key for key in tiffs if any(role in ("data", "visual") for role in _roles(assets[key], f"{where}.assets.{key}"))
    ]
    return next(iter(best or tiffs), "visual")


def _roles(asset: Mapping[str, Any], where: str) -> list[Any]:
    found: list[Any] = convert(asset.get("roles") or [], list, f"{where}.roles")
    return found


def _href(path: Path, href: str) -> str:
    for scheme, prefix in (("s3://", "/vsis3/"), ("gs://", "/vsigs/"), ("file://", "")):
        if href.startswith(scheme):
            return prefix + href[len(scheme) :]
    if href.startswith(("http://", "https://")):
        return f"/vsicurl/{href}"
    if is_remote(href):
        return href
    try:
        return str((path.parent / href).resolve())
    except ValueError:
        raise UsageError(
            f"{path}: the href {href!r} of an asset contains a NUL or an invalid character: remove it"
        ) from None
