"""Provenance that rasters of ours carry on to whatever is made of them later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aerialseg.raster.cog import read_tags

_OF_ONE_RUN = ("source", "source_sha256", "source_count", "source_files", "source_manifest_sha256", "area_of_interest")
_RATED = ("mean_confidence", "low_confidence_share", "confidence_by_class", "warning")
_OF_MODEL = ("source_note", "model", "model_digest", "model_licence", "answer_step_px", "numerics", "tiling")


def carried(raster: str | Path) -> dict[str, str]:
    """What a class raster of ours says of itself: source, model, licence; nothing of others. Raises InputError."""
    tags = _tags(raster)
    return {name: tags[name] for name in ("title", *_OF_ONE_RUN, *_OF_MODEL, *_RATED) if name in tags}


def carried_by_all(rasters: Sequence[str | Path]) -> dict[str, str]:
    """What they all say of their model, in the same words. Raises InputError."""
    first, *others = map(_tags, rasters)
    return {
        name: first[name] for name in _OF_MODEL if name in first and all(o.get(name) == first[name] for o in others)
    }


def answer_step_px(about: Mapping[str, str]) -> int:
    """On every how many pixels the model of a raster answered, by what the raster says of itself."""
    text = about.get("answer_step_px", "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 4 else 1


def _tags(raster: str | Path) -> dict[str, str]:
    tags = read_tags(Path(raster))
    return tags if tags.get("software", "").startswith("aerialseg ") else {}
