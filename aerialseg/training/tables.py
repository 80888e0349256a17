"""Tables of a TOML file as dataclasses: unknown keys, missing ones and values of the wrong kind are named."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from aerialseg.errors import InputError, UsageError


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file, which is a ``what``. Raises InputError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the {what} {path}: {error}") from error


def table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table of that name, empty where there is none. Raises UsageError where it is something else."""
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} is {table!r} in the training configuration; wanted a table, [{name}]")
    return table


def build(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """A ``kind``, a dataclass, of a table at ``where``. Raises UsageError for a key or value that it does not have."""
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"the training configuration has an unknown key {where}{unknown[0]}; known: {sorted(known)}")
    needed = {e.name for e in fields(kind) if e.default is MISSING and e.default_factory is MISSING}
    missing = sorted(needed - set(values))
    if missing:
        raise UsageError(f"the training configuration lacks {where}{missing[0]}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _is(value, hints[name]):
            wanted = str(next(entry.type for entry in fields(kind) if entry.name == name)).removesuffix(" | None")
            raise UsageError(f"{where}{name} is {value!r} in the training configuration; wanted {wanted}")
    return kind(**values)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of TOML, lists as tuples, is what an annotation says; an int is a float too, a bool is not."""
    parts, origin = get_args(hint), get_origin(hint)
    if origin in (Union, UnionType):
        return any(_is(value, part) for part in parts)
    if origin is tuple:
        inner = parts[:1] * len(value) if isinstance(value, tuple) and Ellipsis in parts else parts
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_is, value, inner))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
