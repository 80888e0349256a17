"""TOML files as frozen dataclasses: unknown keys, missing ones and values of the wrong kind are named."""

from __future__ import annotations

import difflib
import textwrap
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable, read_text

T = TypeVar("T")
SPOKEN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
SPOKEN |= {dict: "a table", list: "a list"}


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file, which is a ``what``. Raises InputError."""
    try:
        return tomllib.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"cannot read the {what} {printable(path)}: {reason}") from error


@contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """A block in which UsageErrors say first in which file."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{printable(path)}: {error}") from None


def quoted(name: str) -> str:
    """A name from a file as a message quotes it: damaged files have names of any length."""
    return repr(name if len(name) <= MAX_QUOTED else name[:MAX_QUOTED] + "...")


MAX_QUOTED = 80


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'X'?``, or the known words where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def build(kind: type[T], values: object, where: str = "") -> T:
    """``kind(**values)`` for a dataclass; tables inside become the dataclasses of its fields.

    where: the table's name, for messages; "" is the whole file. Where ``kind.REMOVED`` has a key that is not known any
    more, the message says what it says. Raises UsageError.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {_shortened(values)}: wanted a table, [{where}]")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    removed: Mapping[str, str] = getattr(kind, "REMOVED", {})
    inside = f" in [{where}]" if where else ""
    for name in values:
        if name not in known:
            raise UsageError(f"unknown key {quoted(name)}{inside}: {removed.get(name) or nearest(name, known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise UsageError(f"{f'[{where}]' if where else 'the file'} lacks the key {name!r}")
    prefix = f"{where}." if where else ""
    return kind(**{name: convert(value, hints[name], f"{prefix}{name}") for name, value in values.items()})


def convert(value: object, hint: Any, where: str) -> Any:
    """The value as the type says, or UsageError. Lists become tuples, one value for a list of them is understood."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in args:
            raise UsageError(f"{where} is {_shortened(value)}: wanted one of {', '.join(map(repr, args))}")
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, [arg for arg in args if arg is not type(None)], where)
    if origin is dict:
        return {key: convert(one, args[1], f"{where}.{key}") for key, one in convert(value, dict, where).items()}
    if origin is tuple:
        return _tuple(value, args, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _as_float(value, where)
    if not isinstance(value, origin or hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where} is {_shortened(value)}: wanted {_spoken(hint)}")
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{where} is {_shortened(value)}: wanted text without NUL characters")
    return value


def _as_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"{where} is {_shortened(value)}: wanted a number below 1.8e308") from None


def _tuple(value: object, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if Ellipsis in args:
        tables = is_dataclass(args[0])
        return tuple(convert(one, args[0], f"{where}[{n}]" if tables else where) for n, one in enumerate(values))
    if len(values) != len(args):
        raise UsageError(
            f"{where} is {_shortened(value)}: wanted {len(args)} values, [{', '.join(map(_spoken, args))}]"
        )
    return tuple(convert(one, arg, where) for one, arg in zip(values, args, strict=True))


def _one_of(value: object, hints: list[Any], where: str) -> Any:
    if len(hints) == 1:
        return convert(value, hints[0], where)
    for hint in hints:
        try:
            return convert(value, hint, where)
        except UsageError:
            continue
    raise UsageError(f"{where} is {_shortened(value)}: wanted {' or '.join(map(_spoken, hints))}")


def _spoken(hint: Any) -> str:
    return SPOKEN.get(dict if get_origin(hint) is Mapping else hint, str(hint))


def _shortened(value: object) -> str:
    return textwrap.shorten(repr(value), 200)
