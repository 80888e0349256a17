"""Kinds of values and options that several commands share: each is written once, here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aerialseg.errors import UsageError
from aerialseg.mapping.kinds import Kind
from aerialseg.mapping.settings import Setting, warn_of_old_name

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic only from click 8.3 on
    _ParamType = click.ParamType


class Numbers(_ParamType):
    """Comma-separated numbers."""

    def __init__(self, of: type, metavar: str, count: int | None = None) -> None:
        self.of, self.name, self.count = of, metavar, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(self.of(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r}: wanted {self.name}", param, ctx)
        if self.count is not None and len(numbers) != self.count:
            self.fail(f"{value!r}: wanted {self.count} numbers, {self.name}", param, ctx)
        return numbers


class KindType(_ParamType):
    """Values of one kind of setting."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.name = kind, kind.metavar or "flag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError, OverflowError):
            self.fail(f"{value!r}: wanted {self.kind.wanted}", param, ctx)


def setting_option(setting: Setting, default_text: str = "") -> Callable[[F], F]:
    """The option of a setting, None where it is not given."""
    name = f"--{setting.option}"
    if not setting.kind.metavar:
        return click.option(name, setting.key, is_flag=True, help=setting.help)
    default = default_text or setting.default_text or setting.default
    text = f"{setting.help}  [default: {default}]"
    kind = click.Choice(setting.kind.choices) if setting.kind.choices else KindType(setting.kind)
    if setting.default == ():  # may be given several times
        check = KindType(setting.kind)
        return click.option(
            name,
            setting.key,
            metavar=setting.kind.metavar,
            multiple=True,
            help=text,
            callback=lambda ctx, param, value: check.convert(value, param, ctx) if value else None,
        )
    return click.option(name, setting.key, metavar=setting.kind.metavar, type=kind, help=text)


def old_option(name: str, key: str, kind: Kind) -> Callable[[F], F]:
    """An option by its old name, which help does not show; what takes its value says what to write instead."""
    return click.option(f"--{name}", key, metavar=kind.metavar, type=KindType(kind), hidden=True)


def use_new_name(given: dict[str, Any], old: str, key: str, new: str) -> None:
    """Make the value of an option that was given by its old name that of ``key``, with a warning. Raises UsageError."""
    value = given.pop(old)
    if value is None:
        return
    if given[key] is not None:
        raise UsageError(f"--{old} is the old name of {new}: leave --{old} out")
    warn_of_old_name(old, new)
    given[key] = value


def gone(old: str, successor: str) -> Callable[[F], F]:
    """An option that is no more: an error that names what to use instead."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            raise click.UsageError(f"--{old} is gone: use {successor}", ctx)

    return click.option(f"--{old}", metavar="X", hidden=True, expose_value=False, callback=refuse)


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


GROUPS = click.option(
    "--groups",
    metavar="GROUPS.csv",
    type=click.Path(path_type=Path),
    help="Compare groups of classes; a table (class,group) as for 'aerialseg model regroup'.",
)
REPORT_OPTIONS = options(
    click.option(
        "--out",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help="Write report.html, scores.json and tables (CSV) to this folder.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace existing files."),
)
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Show only errors.")
