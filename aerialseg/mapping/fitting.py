"""How rasters are read for a model; where they do not fit it, which model would."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aerialseg.errors import MisfitError
from aerialseg.mapping.settings import MapSettings
from aerialseg.model.card import ModelCard
from aerialseg.model.listing import find_models, offers
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.view import View, make_view
from aerialseg.raster.working_grid import MAX_COARSER, split_gsd, spoken_gsd

COARSER = 2.0
"""A model is suggested for imagery up to this many times coarser than its own, and MAX_COARSER times finer."""
SUGGESTED = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """A model: what to type for it, and what it takes and tells apart."""

    command: str
    gsd_m: float
    bands: tuple[str, ...]
    classes: int

    def fits(self, gsd_m: float | None, bands: tuple[str, ...]) -> bool:
        times = 1.0 if gsd_m is None else gsd_m / self.gsd_m
        return 1 / MAX_COARSER <= times <= COARSER and (not bands or set(self.bands) <= set(bands))


def view_for(infos: Sequence[RasterInfo], card: ModelCard, settings: MapSettings) -> View:
    """How the rasters are read, as one, for a model. Raises InputError, with what would fit them, and UsageError."""
    resolution, pixel_size = split_gsd(infos, settings.gsd_m, settings.resolution_m, settings.pixel_size_m)
    try:
        return make_view(
            infos,
            model_gsd_m=card.gsd_m,
            wanted=card.bands,
            bands=settings.bands,
            alpha=settings.alpha,
            resolution_m=resolution,
            pixel_size_m=pixel_size,
            scale=settings.scale,
            usual_scale=card.scale,
            on_read_error=settings.on_read_error,
            collar=settings.nodata_colour,
            max_pixels=settings.max_pixels if settings.aoi is None else sys.maxsize,
            require_crs=settings.require_crs,
            reproject=settings.reproject,
        )
    except MisfitError as error:
        raise MisfitError(f"{error}; {advise(error)}", error.gsd_m, error.bands) from error


def advise(error: MisfitError) -> str:
    """What fits the raster instead, as the rest of a sentence: models here, models to be had, or one of one's own."""
    gsd_m = max(error.gsd_m) if error.gsd_m else None
    fitting = [choice for choice in _choices() if choice.fits(gsd_m, error.bands)]
    fitting.sort(key=lambda choice: abs(math.log(choice.gsd_m / gsd_m)) if gsd_m else 0.0)
    said = [
        f"{choice.command} ({spoken_gsd(choice.gsd_m)}, {choice.classes} classes)" for choice in fitting[:SUGGESTED]
    ]
    what = ", ".join([*([spoken_gsd(gsd_m)] if gsd_m else []), *error.bands])
    return f"for {what or 'this raster'}: {', or '.join([*said, 'teach a model of your own (aerialseg teach)'])}"


def _choices() -> Iterator[Choice]:
    for entry in find_models():
        if entry.card is not None:
            card = entry.card
            yield Choice(f"--model {entry.ref}", card.gsd_m, card.bands, len(card.legend) - len(card.void))
    for name, offer in offers().items():
        classes = len(offer.classes) - len(offer.void)
        yield Choice(f"aerialseg model add {name}", offer.gsd_m, offer.bands, classes)
