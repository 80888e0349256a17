"""Settings of segment-raster in a job file, by the names of its options."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.errors import UsageError
from aerialseg.mapping.kinds import aoi_file, split_layer
from aerialseg.mapping.settings import OLD_NAMES, OPTIONS, SETTINGS, SUCCESSORS, MapSettings
from aerialseg.raster.describe import source_sha256
from aerialseg.toml import nearest, quoted

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec


_NAMED = {**OPTIONS, **OLD_NAMES}
JOB_KEYS = {name: f"settings.{name}" for name in _NAMED} | {"model": "model.path"}
"""Options of segment-raster -> the keys of a job file."""


def message_for_job(message: object) -> str:
    """The message (or error) in one line, with the keys of a job file for the options that it names."""
    line = " ".join(str(message).split())
    return re.sub(r"(?<![^\s(])--([a-z][a-z-]*)", lambda option: JOB_KEYS.get(option[1], option[0]), line)


def read_settings(values: Mapping[str, Any], where: str, at: Callable[[str], Path]) -> dict[str, Any]:
    """Keywords of ``aerialseg.segment`` for settings by their names (``min-area = 1``). Raises UsageError.

    at: makes a path of the job file absolute.
    """
    found = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name in SUCCESSORS:
            successor, _, value = SUCCESSORS[name].partition(" ")
            raise UsageError(f'{where}.{key} was replaced: write {successor} = "{value}"')
        if name not in _NAMED:
            raise UsageError(f"unknown key {quoted(key)} in [{where}]: {nearest(name, OPTIONS)}")
        found[_NAMED[name].key] = _NAMED[name].parse(value, f"{where}.{key}")
    if file := aoi_file(found.get("aoi")):
        found["aoi"] = f"{at(file)}{found['aoi'][len(file) :]}"
    if "corrections" in found:
        files = [(text, split_layer(text)[0]) for text in found["corrections"]]
        found["corrections"] = tuple(f"{at(file)}{text[len(file) :]}" for text, file in files)
    return found


def decisive_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that can change a result, JSON-ready; a file among them with its content."""
    kept = {name: value for name, value in sorted(settings.items()) if SETTINGS[name].decides != "nothing"}
    if kept.get("aoi"):
        kept["aoi"] += _content(aoi_file(kept["aoi"]))
    if kept.get("corrections"):
        kept["corrections"] = [text + _content(split_layer(text)[0]) for text in kept["corrections"]]
    return dict(json.loads(json.dumps(kept)))


def _content(file: str) -> str:
    """What a file holds, in short; "" where there is none."""
    if not os.path.isfile(file):
        return ""
    state = os.stat(file)
    return f" (SHA-256 {_sha256(file, state.st_size, state.st_mtime_ns)[:12]})"


@lru_cache(maxsize=64)
def _sha256(file: str, *_: int) -> str:
    return source_sha256(file)


def digest_json(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def predictor_of(model: str | None, settings: Mapping[str, Any], *, on_workers: bool = False) -> PredictorSpec:
    """The job's one model, checked. ``on_workers``: this machine need not have the device. Raises ModelError."""
    from aerialseg.model.predictor import resolve

    wanted = MapSettings(**settings).computing
    if not on_workers:
        return resolve(model, **wanted)
    return replace(resolve(model, **{**wanted, "device": "cpu"}), device=wanted["device"])
