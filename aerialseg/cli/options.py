"""Kinds of values and options that several commands share: each is written once, here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

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


class Gsd(_ParamType):
    """Metres, or the word native."""

    name = "M|native"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "native" or not isinstance(value, str):
            return value
        try:
            metres = float(value)
        except ValueError:
            metres = 0.0
        if not 0 < metres < float("inf"):
            self.fail(f"{value!r}: wanted metres per pixel (0.05) or 'native'", param, ctx)
        return metres


class Count(_ParamType):
    """A number of things, 1 or more; 1e9 is understood."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 1 <= number < math.inf:
            self.fail(f"{value!r}: wanted a number, 1 or more", param, ctx)
        return int(number)


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


BANDS = click.option("--bands", metavar="1,2,3", type=Numbers(int, "1,2,3"), help="Bands that are red, green, blue.")
SCALE = click.option(
    "--scale",
    metavar="LOW,HIGH",
    type=Numbers(float, "LOW,HIGH", 2),
    help="Source values that become 0 and 255, for 16 bit or float.",
)
SMOOTH = click.option("--smooth", is_flag=True, help="Round the corners of the lines.")
DISSOLVE = click.option("--dissolve", is_flag=True, help="Add a layer with one multipolygon for each class.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
