"""The page of a run: one HTML file to mail around, with everything inside it and no request to anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from aerialseg.files import write_atomically
from aerialseg.legend import Legend
from aerialseg.mapping.page_pictures import least_certain, spoken_place, whole_map
from aerialseg.mapping.result import Result, areas_csv
from aerialseg.mapping.run import Run
from aerialseg.progress import spoken_duration
from aerialseg.raster.ramp import CONFIDENCE_RAMP


def write_page(path: Path, result: Result, run: Run, legend: Legend, metadata: Mapping[str, str]) -> None:
    """Write the page of a finished run. metadata: the provenance of its products. Raises InputError, OutputError."""
    classes, confidence = run.classes, run.confidence
    pictures = whole_map(result.plan, classes, confidence, legend) if result.valid_px else {}
    places = least_certain(result.plan, classes, confidence, legend) if result.valid_px else []
    whole = max(result.seconds.get("total", 0.0), 1e-9)
    text = _template().render(
        title=metadata.get("title", "Land cover"),
        about={_LABELS.get(key, key): value for key, value in metadata.items() if key in _LABELS},
        licence=metadata.get("model_licence", ""),
        result=result,
        trust=result.trust,
        pictures=pictures,
        places=[(number, place, spoken_place(place.x, place.y)) for number, place in enumerate(places, 1)],
        ramp=[(step.label, f"rgb{step.color}") for step in CONFIDENCE_RAMP],
        areas=base64.b64encode(areas_csv(result).encode()).decode(),
        stages=[
            (_STAGES[one.stage], 100 * one.begin / whole, 100 * (one.end - one.begin) / whole, one.seconds)
            for one in result.timeline
            if one.stage in _STAGES
        ],
        shape=result.plan.geo.shape,
    )
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")


_LABELS = {
    "source": "Source",
    "source_sha256": "SHA-256 of the source",
    "source_note": "Resolution",
    "area_of_interest": "Area of interest",
    "model": "Model",
    "model_digest": "Digest of the model",
    "numerics": "Computed in",
    "tiling": "Tiles",
    "plan_digest": "Digest of the settings",
    "software": "Software",
}
_STAGES = {
    "decode": "Decoding the input",
    "blocks": "Classifying",
    "mosaic": "Joining blocks",
    "hash": "Hashing the input",
    "polygons": "Drawing polygons",
    "rasters": "Writing rasters",
}


def _area(value: float | None, pixels: int) -> str:
    if value is None:
        return f"{pixels:,} px"
    return f"{value / 10_000:,.2f} ha" if value >= 10_000 else f"{value:,.1f} m²"


def _file_name(text: str) -> str:
    """Of a path the name alone: a page is mailed around."""
    return Path(text).name if text.startswith(("/", "\\")) or text[1:3] in (":\\", ":/") else text


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": spoken_duration, "area": _area, "file_name": _file_name}
    return environment.from_string(files("aerialseg.mapping").joinpath("page.html.j2").read_text("utf-8"))
