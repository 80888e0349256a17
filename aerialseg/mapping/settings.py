"""The settings of a map, each declared once.

The options of ``segment-raster``, the keys of a job file's ``[settings]``, the keywords of ``aerialseg.segment`` with
their documentation, the two digests of a plan and the table of docs/batch.md all come from the fields of `MapSettings`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal

from aerialseg.errors import UsageError
from aerialseg.mapping.kinds import (
    AOI,
    AREA,
    BANDS,
    COLOURS,
    CRS,
    DEVICE,
    FLAG,
    LENGTH,
    ORDER,
    PIXEL_SIZE,
    PIXELS,
    POLYGON_FILES,
    RESOLUTION,
    SCALE,
    TILING,
    Kind,
    choice,
)
from aerialseg.raster.grid import MAX_PIXELS
from aerialseg.toml import nearest

MIN_PIXELS = 100
"""Minimum mapping unit by default, in pixels of the class raster (0.25 m² at 5 cm)."""

TOLERANCE_PX = 1.5
"""Simplification by default, in steps on which the model answers: pixels of the class raster, or twice as many."""

SMOOTHING = 2
"""Steps of rounding corners, where that is asked for (vector/smooth.py)."""

BLOCK_PX = 2048
"""Side of a block. Larger ones spend less on halos, smaller ones need less memory and lose less when killed: at 2048 px
the bundled network does 1.56 times the work of the whole image at once, at 1024 px 2.34 times."""

logger = logging.getLogger(__name__)

Decides = Literal["blocks", "raster", "layer", "nothing"]
"""What a setting decides: the blocks (the network must compute them again), which of them make up the class raster, the
layer alone, or no result at all."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: ``key`` is the keyword of ``segment`` (its ending is the unit), ``option`` its name for people.

    default_text: the default in words, where its value does not say it. shared: it belongs to the model, which all
    inputs of a job have in common. listed: an option and a key of job files; else for Python alone. instead: of an old
    name, what to write in its place; it is taken until `OLD_NAMES_END`, and shown nowhere.
    """

    key: str
    type: str
    kind: Kind
    default: Any
    help: str
    decides: Decides
    default_text: str
    shared: bool
    listed: bool
    instead: str

    @property
    def option(self) -> str:
        return re.sub(r"_(m2|m|px)$", "", self.key).replace("_", "-")

    @property
    def type_text(self) -> str:
        """Its type as a docstring says it, with the unit."""
        kind = self.type.removesuffix(" | None")
        if kind == "str" or self.kind.choices:
            return self.kind.wanted
        return ", ".join(filter(None, (kind, self.kind.unit)))

    def parse(self, value: Any, where: str) -> Any:
        """The value; ``where`` names it in the error. Raises UsageError."""
        if value is None and self.default is None:
            return None
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError, OverflowError):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise UsageError(f"{where} is {shown}: wanted {self.kind.wanted}") from None


def _setting(
    default: Any,
    kind: Kind,
    decides: Decides,
    help: str,
    *,
    default_text: str = "",
    shared: bool = False,
    listed: bool = True,
    instead: str = "",
) -> Any:
    """A field of MapSettings that says all there is to say of a setting."""
    about = {"kind": kind, "decides": decides, "help": help, "default_text": default_text, "instead": instead}
    return field(default=default, metadata={**about, "shared": shared, "listed": listed and not instead})


@dataclass(frozen=True, slots=True)
class OldNames:
    """Settings that have other names now, and work until version `OLD_NAMES_END`."""

    gsd_m: float | Literal["native"] | None = _setting(
        None,
        RESOLUTION,
        "blocks",
        "Old name of resolution and pixel size.",
        instead="--resolution METRES|native, or --pixel-size METRES for a raster that does not know its own pixel size",
    )


@dataclass(frozen=True, slots=True)
class MapSettings(OldNames):
    """How a raster becomes a map. Values are checked and brought to their types; raises UsageError."""

    min_area_m2: float | None = _setting(
        None, AREA, "layer", "Merge smaller regions into neighbours.", default_text="100 pixels of the class raster"
    )
    simplify_m: float | None = _setting(
        None,
        LENGTH,
        "layer",
        "How far simplification may move lines, in metres; 0 keeps the pixel edges.",
        default_text="1.5 pixels of the class raster; 3 if the model predicts every second pixel",
    )
    smooth: bool = _setting(False, FLAG, "layer", "Round the corners of the lines.")
    dissolve: bool = _setting(False, FLAG, "layer", "Add a layer with one multipolygon for each class.")
    bands: tuple[int, ...] | None = _setting(
        None,
        BANDS,
        "blocks",
        "Numbers of the bands to use, in the model's order (red, green, blue).",
        default_text="as the file declares its bands",
    )
    alpha: Literal["auto", "none"] = _setting(
        "auto",
        choice("auto", "none"),
        "blocks",
        "auto: a band flagged as alpha is a mask (valid above 0); none: it is not used as a mask.",
    )
    resolution_m: float | Literal["native"] | None = _setting(
        None, RESOLUTION, "blocks", "Metres per pixel to map at; native: the raster's own.", default_text="the model's"
    )
    pixel_size_m: float | None = _setting(
        None, PIXEL_SIZE, "blocks", "Metres per pixel of a raster without a CRS.", default_text="the file's"
    )
    scale: tuple[float, ...] | None = _setting(
        None, SCALE, "blocks", "Values to map to 0 and 255, for all bands or each.", default_text="8 bit unchanged"
    )
    nodata_colour: tuple[Any, ...] = _setting(
        (),
        COLOURS,
        "blocks",
        "A colour that is nodata where it is connected to the outside (a collar); auto: near black and near white.",
        default_text="none",
    )
    order: str = _setting(
        "auto",
        ORDER,
        "blocks",
        "Which raster counts in overlaps: first by name, newest, first given, or by a FIELD of the tile index.",
        default_text="that of the .vrt, otherwise name",
    )
    crs: str | None = _setting(None, CRS, "blocks", "CRS of a raster that has none.", default_text="the file's")
    reproject: bool = _setting(False, FLAG, "blocks", "Resample rasters of another CRS onto the grid of the others.")
    aoi: str | None = _setting(
        None,
        AOI,
        "raster",
        "Map only this area of interest: the polygons of a file, or a box in the raster's CRS or in another one "
        "(...@EPSG:4326).",
        default_text="the whole raster",
    )
    corrections: tuple[str, ...] = _setting(
        (),
        POLYGON_FILES,
        "raster",
        "Polygons with `checked` = true keep their class; where files differ, the last one counts.",
        default_text="none",
    )
    device: str = _setting(
        "auto", DEVICE, "nothing", "Device that runs the network; cuda:1 is the second GPU.", shared=True
    )
    precision: str = _setting(
        "auto",
        choice("auto", "fp32", "bf16", "fp16", "int8"),
        "blocks",
        "Number format of the network; auto: the fastest without loss of accuracy on this processor.",
        shared=True,
    )
    runtime: str = _setting(
        "auto",
        choice("auto", "torch", "openvino"),
        "blocks",
        "Library that runs the network; auto: OpenVINO on a CPU if it is installed, otherwise torch.",
        shared=True,
    )
    tiling: str = _setting(
        "exact",
        TILING,
        "blocks",
        "exact: no seams; approximate: seams, but less work, and for any network; PX: pixels of context around each "
        "tile (256 for a model that can be exact, otherwise its card's).",
        shared=True,
    )
    tta: bool = _setting(
        False,
        FLAG,
        "blocks",
        "Test-time augmentation (8 flips and rotations): about +1 percentage point accuracy at 8 times the run time.",
        shared=True,
    )
    on_read_error: Literal["fail", "nodata"] = _setting(
        "fail", choice("fail", "nodata"), "blocks", "If pixels cannot be read: fail, or take them as nodata."
    )
    max_pixels: int = _setting(
        MAX_PIXELS, PIXELS, "nothing", "Refuse more working pixels than this.", default_text="1e10, 100,000 x 100,000"
    )
    require_crs: bool = _setting(False, FLAG, "nothing", "Refuse a raster without a coordinate reference system.")
    allow_remote: bool = _setting(False, FLAG, "nothing", "Allow URLs and /vsi paths as input.")
    block_px: int = _setting(BLOCK_PX, PIXELS, "blocks", "Side of a block of the output.", listed=False)

    def __post_init__(self) -> None:
        for one in SETTINGS.values():
            object.__setattr__(self, one.key, one.parse(getattr(self, one.key), f"--{one.option}"))

    @property
    def computing(self) -> dict[str, Any]:
        """What ``aerialseg.model.predictor.resolve`` takes: device, precision, runtime, tiling, tta."""
        return {one.key: getattr(self, one.key) for one in SETTINGS.values() if one.shared}


SETTINGS: Mapping[str, Setting] = {
    one.name: Setting(key=one.name, type=str(one.type), default=one.default, **one.metadata)
    for one in fields(MapSettings)
}
"""Key -> setting, in the order in which people see them."""

OPTIONS: Mapping[str, Setting] = {one.option: one for one in SETTINGS.values() if one.listed}
"""Name of an option, and of a job file's key -> setting."""

OLD_NAMES: Mapping[str, Setting] = {one.option: one for one in SETTINGS.values() if one.instead}
OLD_NAMES_END = "0.3"

SUCCESSORS = {"halo": "tiling approximate:PX"}
"""Options that are no more -> what to write instead."""


def settings_deciding(*what: Decides, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values, by their keys, that decide any of ``what``; keys of earlier versions decide the blocks."""
    known = {key: SETTINGS[key].decides if key in SETTINGS else "blocks" for key in values}
    return {key: value for key, value in values.items() if known[key] in what}


def check_settings(values: Mapping[str, Any], keys: Iterable[str] = SETTINGS) -> MapSettings:
    """The settings given as keywords, of which ``keys`` are known. Raises UsageError."""
    for key in values:
        if key not in keys:
            known = [one for one in keys if not SETTINGS[one].instead]
            raise UsageError(f"unknown setting {key!r}: {nearest(key, known)}")
    warn_of_old_names(values)
    return MapSettings(**values)


def warn_of_old_names(values: Mapping[str, Any]) -> None:
    """Say of settings that are given by an old name what to write instead: as a warning, once in a process."""
    for key, value in values.items():
        if value is not None and SETTINGS[key].instead:
            warn_of_old_name(SETTINGS[key].option, SETTINGS[key].instead)


@cache
def warn_of_old_name(option: str, instead: str) -> None:
    logger.warning("--%s works until version %s: write %s", option, OLD_NAMES_END, instead)
