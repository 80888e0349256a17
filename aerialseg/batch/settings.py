"""Settings of segment-raster in a job file: its own options, by their names, checked as on the command line."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from aerialseg.errors import UsageError
from aerialseg.toml import nearest

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec

ELSEWHERE = ("model", "raster", "confidence", "report", "timeline", "overwrite", "keep-run")
"""Options that are no settings: other parts of the job file say them, or the job itself."""
HARMLESS = ("device", "max_pixels", "require_crs", "allow_remote")
"""Keywords that cannot change a result: they refuse inputs, or choose where it is computed."""


@cache
def _options() -> dict[str, click.Option]:
    from aerialseg.cli.segment import segment_command
    from aerialseg.mapping.segment import segment

    keywords = inspect.signature(segment).parameters  # the rest are options of the command: how much it says, and where
    named = {
        max(param.opts, key=len).lstrip("-"): param
        for param in segment_command.params
        if isinstance(param, click.Option) and param.name in keywords
    }
    return {name: param for name, param in named.items() if name not in ELSEWHERE}


def setting_names() -> tuple[str, ...]:
    """What [settings] may hold."""
    return tuple(_options())


def read_settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Keywords of ``aerialseg.segment`` for settings by their names (``min-area = 1``). Raises UsageError."""
    known = _options()
    found = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(f"unknown key {key!r} in [{where}]: {nearest(name, known)}")
        option = known[name]
        converted = _converted(option, value, f"{where}.{key}")
        if converted is not None and option.name is not None:
            found[option.name] = converted
    return found


def _converted(option: click.Option, value: Any, where: str) -> Any:
    if option.multiple:
        values = value if isinstance(value, list) else [value]
        return tuple(_one(option, one, where) for one in values)
    return _one(option, value, where)


def _one(option: click.Option, value: Any, where: str) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}: wanted true or false")
        return value
    if isinstance(value, bool):
        raise UsageError(f"{where} is {str(value).lower()}: wanted {option.metavar or option.type.name}")
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return option.type.convert(text, option, None)
    except click.UsageError as error:
        raise UsageError(f"{where} is {error.message}") from None


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that can change a result, JSON-ready."""
    kept = {name: value for name, value in sorted(settings.items()) if name not in HARMLESS}
    return dict(json.loads(json.dumps(kept, default=str)))


def digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def predictor_of(model: str | None, settings: Mapping[str, Any], *, on_workers: bool = False) -> PredictorSpec:
    """The job's one model, checked. ``on_workers``: this machine need not have the device. Raises ModelError."""
    from aerialseg.model.predictor import resolve

    known = inspect.signature(resolve).parameters
    wanted = {name: value for name, value in settings.items() if name in known}
    if not on_workers:
        return resolve(model, **wanted)
    found = resolve(model, **{**wanted, "device": "cpu"})
    return replace(found, device=wanted.get("device", "auto"))


def of_the_model(name: str) -> bool:
    """Whether a keyword of segment belongs to the model, which all inputs of a job share."""
    from aerialseg.model.predictor import resolve

    return name in inspect.signature(resolve).parameters
