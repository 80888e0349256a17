"""``aerialseg teach``: from orthophotos and a few labels to a model, in seconds and then in minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from aerialseg.errors import ModelError, UsageError
from aerialseg.files import absolute
from aerialseg.locks import locked
from aerialseg.mapping.settings import MapSettings, warn_of_old_names
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, model_dir
from aerialseg.model.network import Network
from aerialseg.model.store import load_network
from aerialseg.progress import Progress, Silent
from aerialseg.training.teaching.candidates import LEAST_STEPS, SCRATCH, TaughtModel, Teaching, finish
from aerialseg.training.teaching.lesson import TEACHING, OrthoReading, PathLike, prepare_lesson

WORK, CHIPS, LOCK = "teaching", "chips", ".lock"
"""Folders inside the model's folder, gone when the model is finished."""


def teach(
    orthos: PathLike | Sequence[PathLike],
    labels: PathLike,
    out: PathLike,
    *,
    field: str | None = None,
    layer: str | None = None,
    width_m: float | None = None,
    resolution_m: float | Literal["native"] = "native",
    pixel_size_m: float | None = None,
    bands: Sequence[int] | None = None,
    scale: Sequence[float] | None = None,
    alpha: Literal["auto", "none"] | None = None,
    minutes: float = 10.0,
    steps: int | None = None,
    start: PathLike | None = None,
    more: PathLike | None = None,
    licence: str = "",
    held_out: float = 0.2,
    seed: int = 2026,
    overwrite: bool = False,
    progress: Progress | None = None,
    gsd: float | Literal["native"] | None = None,
) -> TaughtModel:
    """The model that labels on orthophotos teach, in the folder ``out``, with its scores on held-out ground.

    First a linear classifier on each stage of the frozen encoder, which takes seconds; then fine-tuning from there, as
    much as fits into the time; then the mean of the weights before and after it. Ground that none of the three has seen
    decides which is the model. An interrupted teaching resumes when it is called again with the same arguments.

    Parameters
    ----------
    orthos : path or sequence of paths
        Orthophotos that are read as one: files, folders, patterns, VRT mosaics. May be empty with ``more``.
    labels : path
        Polygons, lines or points whose field says the class (.gpkg, .geojson, .shp, .fgb, .parquet), or a class raster
        (.tif). Of a layer with a field ``checked`` only features that have it true count.
    out : path
        Folder of the model: ``card.json``, ``weights.safetensors``, ``report/report.html``, and the labels.
    field : str
        Field that says the class. Default: class, class_name, label ..., or the only one of text.
    layer : str
        Layer of the labels, where the file has several.
    width_m : float, m
        Width of points and lines. Default: 5 pixels.
    resolution_m : float, m/px, or "native"
        Metres per pixel that the model learns; "native": those of the orthophotos.
    pixel_size_m : float, m/px
        Metres per pixel of orthophotos that do not know their own, as those without a CRS.
    bands, scale, alpha : see segment
        Which bands are red, green and blue, values that become 0 and 255, whether a band flagged alpha is a mask.
        With ``more`` those of its teaching, unless given.
    minutes : float
        Time for all of it. 0: the linear classifiers alone.
    steps : int
        Steps of fine-tuning, instead of minutes: the same number gives the same model.
    start : path, name or "scratch"
        Model whose encoder is the start. Default: the bundled model, whose licence then holds for the new one, too.
    more : path
        A taught model that goes on learning from more labels: its old labels, classes and held-out ground are kept.
    licence : str
        What you say of your own part in the model; licences of its parents stay.
    held_out : float
        Share of the labels to hold out, in blocks of ground.
    seed : int
        Seed of all random numbers.
    overwrite : bool
        Replace a taught model that is there.
    progress : Progress
        Listener for stages and messages.
    gsd : float, m/px, or "native"
        Old name of ``resolution_m`` and, for orthophotos without a CRS, of ``pixel_size_m``: works until version 0.3.

    Raises
    ------
    InputError
        Orthophotos or labels cannot be read, do not lie on each other, or the labels cannot be meant so.
    ModelError
        The model to start from cannot be used.
    UsageError
        The arguments contradict one another, or ``out`` exists.
    OutputError
        ``out`` cannot be written, or is in use.
    """
    warn_of_old_names({"gsd_m": gsd})
    clock, progress, out = time.monotonic(), progress or Silent(), absolute(out)
    given = [orthos] if isinstance(orthos, (str, Path)) else list(orthos)
    _check_numbers(minutes, steps, width_m, held_out)
    _check(given, out, start, more, overwrite)
    parent, network = _start(start if more is None else more)
    lesson = prepare_lesson(
        given,
        labels,
        field=field,
        layer=layer,
        width_m=width_m,
        resolution=resolution_m,
        more=model_dir(more) if more else None,
        legend=parent.legend if more and parent else None,
        progress=progress,
        reading=_reading(bands, scale, alpha, pixel_size_m),
        gsd=gsd,
    )
    work = out / WORK
    with locked(out / LOCK, lambda: f"{out} is in use by another teaching: wait for it", remove=True):
        made = lesson.cut(work / CHIPS, progress, held_out=held_out, seed=seed)
        room = Teaching(work, lesson, made, parent, network, seed, licence, progress)
        room.begin(minutes, steps)
        budget = None if steps is not None else max(0.0, minutes * 60 - (time.monotonic() - clock))
        return finish(room, out, room.teach(steps if minutes or steps else 0, budget))


def _reading(bands: Any, scale: Any, alpha: Any, pixel_size_m: Any) -> OrthoReading:
    """Raises UsageError."""
    checked = MapSettings(bands=bands, scale=scale, alpha=alpha or "auto", pixel_size_m=pixel_size_m)
    return OrthoReading(checked.bands, checked.scale, checked.alpha, checked.pixel_size_m)


def _check_numbers(minutes: float, steps: int | None, width_m: float | None, held_out: float) -> None:
    if not 0 <= minutes <= 24 * 60:
        raise UsageError(f"--minutes {minutes:g}: wanted 0 (seconds) to 1440")
    if steps is not None and steps != 0 and steps < LEAST_STEPS:
        raise UsageError(f"--steps {steps}: wanted 0 (the linear classifiers alone), or {LEAST_STEPS} or more")
    if width_m is not None and not 0 < width_m < math.inf:
        raise UsageError(f"--width {width_m:g}: wanted metres above 0")
    if not 0 < held_out < 1:
        raise UsageError(f"--held-out {held_out:g}: wanted a share between 0 and 1, such as 0.2")


def _check(
    orthos: Sequence[PathLike], out: Path, start: PathLike | None, more: PathLike | None, overwrite: bool
) -> None:
    if not orthos and more is None:
        raise UsageError("no orthophoto: wanted ORTHO... LABELS, the orthophotos first and the labels last")
    if start is not None and more is not None:
        raise UsageError("--from starts anew from a model, --more continues a taught one: give one of the two")
    if out.exists() and not out.is_dir():
        raise UsageError(f"output {out} is no folder: give another name")
    others = {path.name for path in out.iterdir()} - {WORK, LOCK} if out.exists() else set()
    if others and not others & {CARD, TEACHING}:
        raise UsageError(f"output {out} holds {sorted(others)[0]} and other files: give a new folder")
    if (out / CARD).exists() and not ((out / TEACHING).exists() and overwrite):
        what = "--overwrite replaces it" if (out / TEACHING).exists() else "'aerialseg teach' has not made it"
        raise UsageError(f"output {out} holds a model; {what}: or give another folder")
    if more is not None and model_dir(more) == out:
        raise UsageError(f"--more {more} and --out are one folder: give the new model another name")


def _start(ref: PathLike | None) -> tuple[ModelCard | None, Network | None]:
    """The model that the encoder comes from. Raises ModelError where no such encoder can be taught."""
    if ref is not None and str(ref) == SCRATCH:
        return None, None
    card, network = load_network(ref)
    if network.inexact or card.bands != ("red", "green", "blue"):
        raise ModelError(
            f"the model {card.name!r} cannot be the start of teaching: wanted an exact model with the bands "
            "red, green, blue"
        )
    return card, network
