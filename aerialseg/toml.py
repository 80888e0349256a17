"""Tables of a TOML file into frozen dataclasses: unknown keys are named with the nearest known one."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from aerialseg.errors import UsageError

T = TypeVar("T")
SPOKEN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?``, or the known words where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def build(kind: type[T], values: object, where: str) -> T:
    """``kind(**values)`` for a dataclass of plain fields; ``where`` is the table's name. Raises UsageError."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {values!r}: wanted a table, [{where}]")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UsageError(f"unknown key {name!r} in [{where}]: {nearest(name, known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise UsageError(f"[{where}] lacks the key {name!r}")
    return kind(**{name: convert(value, hints[name], f"{where}.{name}") for name, value in values.items()})


def convert(value: object, hint: Any, where: str) -> Any:
    """The value as the type says, or UsageError. Lists become tuples, one value for a list of them is understood."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in args:
            raise UsageError(f"{where} is {value!r}: wanted one of {', '.join(map(repr, args))}")
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, [arg for arg in args if arg is not type(None)], where)
    if origin is tuple:
        values = value if isinstance(value, list) else [value]
        return tuple(convert(one, args[0], where) for one in values)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where} is {value!r}: wanted {SPOKEN.get(hint, hint.__name__)}")
    return value


def _one_of(value: object, hints: list[Any], where: str) -> Any:
    for hint in hints[:-1]:
        try:
            return convert(value, hint, where)
        except UsageError:
            continue
    try:
        return convert(value, hints[-1], where)
    except UsageError:
        wanted = " or ".join(SPOKEN.get(hint, str(hint)) for hint in hints)
        raise UsageError(f"{where} is {value!r}: wanted {wanted}") from None
