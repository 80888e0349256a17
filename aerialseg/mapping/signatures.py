"""Functions that take the settings of a map as keywords: each is spelled out in their signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from aerialseg.mapping.settings import SETTINGS

F = TypeVar("F", bound=Callable[..., Any])


def settings_text(keys: Iterable[str], default_texts: Mapping[str, str]) -> str:
    """The settings as a docstring lists them."""
    lines = []
    for key in keys:
        one = SETTINGS[key]
        default = default_texts.get(key) or one.default_text or one.default
        lines += [
            f"{key} : {one.type_text}",
            f"    {one.help} Default: {default}.",
        ]
    return "\n".join(lines)


def with_settings(*keys: str, **default_texts: str) -> Callable[[F], F]:
    """A decorator that spells out a function's ``**settings`` in its signature and its docstring (all by default).

    default_texts: key -> what the function does without that setting, where this is not the setting's own default.
    """
    wanted = keys or tuple(key for key, one in SETTINGS.items() if not one.instead)

    def spell_out(function: F) -> F:
        signature = inspect.signature(function)
        given = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=SETTINGS[key].default, annotation=SETTINGS[key].type
            )
            for key in wanted
        ]
        function.__signature__ = signature.replace(parameters=given + more)  # type: ignore[attr-defined]
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(
            "{settings}", settings_text(wanted, default_texts)
        )
        return function

    return spell_out
