"""Inputs from STAC: an ItemCollection, a page of an API's answer, or one Item, saved as JSON."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, UsageError
from aerialseg.raster.opening import is_remote
from aerialseg.toml import nearest

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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the STAC items {path}: {getattr(error, 'strerror', None) or error}") from error
    kind = values.get("type") if isinstance(values, Mapping) else None
    if kind not in ("FeatureCollection", "Feature"):
        raise InputError(f"{path} is no STAC ItemCollection: its type is {kind!r}, wanted 'FeatureCollection'")
    if any(link.get("rel") == "next" for link in values.get("links", [])):
        logger.warning("%s is one page of several: save the next ones, too, and name them all in inputs.stac", path)
    for feature in values["features"] if kind == "FeatureCollection" else [values]:
        try:
            yield _item(path, feature, asset)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: an item lacks {error}: is it a STAC item?") from error


def _item(path: Path, feature: Mapping[str, Any], asset: str | None) -> Item:
    assets, properties = feature["assets"], feature.get("properties", {})
    key = asset or _image(assets)
    if key not in assets:
        raise UsageError(f"{path}: the item {feature['id']} has no asset {key!r}: {nearest(key or '', assets)}")
    found = assets[key]
    fields = {
        "id": str(feature["id"]),
        "stem": str(feature["id"]),
        "name": os.path.basename(found["href"]),
        "folder": str(feature.get("collection") or ""),
        "collection": str(feature.get("collection") or ""),
        "datetime": str(properties.get("datetime") or ""),
    }
    parts = (found.get("file:checksum"), found.get("file:size"), found.get("updated"), properties.get("updated"))
    return Item(fields["id"], _href(path, found["href"]), fields, " ".join(str(part) for part in parts if part))


def _image(assets: Mapping[str, Mapping[str, Any]]) -> str:
    """The asset that is meant when none is named: a GeoTIFF, best one with the role "data" or "visual"."""
    tiffs = [key for key, one in assets.items() if str(one.get("type", "")).startswith(TIFF)]
    best = [key for key in tiffs if {"data", "visual"} & set(assets[key].get("roles") or [])]
    return next(iter(best or tiffs), "visual")


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
        raise UsageError(f"{path}: the href {href!r} of an asset holds a NUL or half a character: remove it") from None
