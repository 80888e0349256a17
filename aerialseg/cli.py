"""The commands: each parses, calls one library function and prints.

Nothing heavy is imported at the top, so that ``--help`` answers at once. stdout carries the paths made and nothing
else; everything for people goes to stderr.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from aerialseg._version import __version__
from aerialseg.errors import AerialsegError, Interrupted, ResourceError

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


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


SEGMENT_OPTIONS = _options(
    click.argument("source", metavar="INPUT.tif"),
    click.argument("output", metavar="OUTPUT.gpkg", type=click.Path(path_type=Path)),
    click.option("--model", metavar="DIR|NAME", help="Model to use.  [default: the one inside]"),
    click.option(
        "--raster", metavar="CLASSES.tif", type=click.Path(path_type=Path), help="Also write the class raster."
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Also write the confidence raster (0-100).",
    ),
    click.option(
        "--min-area",
        "min_area_m2",
        metavar="M2",
        type=float,
        help="Merge smaller regions into their neighbours.  [default: 100 pixels of the class raster]",
    ),
    click.option(
        "--simplify",
        "simplify_m",
        metavar="M",
        type=float,
        help="Tolerance of simplification; 0 keeps pixel edges.  [default: 1.5 pixels of the class raster]",
    ),
    click.option("--bands", metavar="1,2,3", type=Numbers(int, "1,2,3"), help="Bands that are red, green, blue."),
    click.option(
        "--gsd",
        "gsd_m",
        type=Gsd(),
        metavar="M|native",
        help="Work at M metres per pixel (without CRS: the raster's pixel is M metres), or at its native size."
        "  [default: the model's]",
    ),
    click.option(
        "--scale",
        metavar="LOW,HIGH",
        type=Numbers(float, "LOW,HIGH", 2),
        help="Source values that become 0 and 255, for 16 bit or float.",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
    click.option(
        "--keep-run", metavar="DIR", type=click.Path(path_type=Path), help="Keep the run's directory here; resume it."
    ),
    click.option(
        "--on-read-error",
        type=click.Choice(["fail", "nodata"]),
        default="fail",
        show_default=True,
        help="What to do with pixels that cannot be read.",
    ),
    click.option(
        "--max-pixels",
        metavar="N",
        type=Count(),
        help="Refuse more working pixels than this.  [default: 1e10, 100,000 px square]",
    ),
    click.option("--require-crs", is_flag=True, help="Refuse a raster without a coordinate reference system."),
    click.option("--allow-remote", is_flag=True, help="Allow URLs and /vsi paths as input."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)

SEGMENT_HELP = """Map the land cover of the orthophoto INPUT.tif into the GeoPackage OUTPUT.gpkg.

The layer `landcover` covers every valid pixel exactly once and opens in QGIS named and coloured.
Memory does not grow with the raster. A run that was cut off goes on when the same command is given
again.

Exit codes: 0 done, 2 usage, 3 input, 4 model, 5 output, 6 resources, 130 interrupted.
"""


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="aerialseg")
def cli() -> None:
    """Aerial imagery into land-cover maps that people trust."""


@cli.command("segment", context_settings=CONTEXT, help=SEGMENT_HELP)
@SEGMENT_OPTIONS
def segment_command(
    quiet: bool, debug: bool, source: str, output: Path, max_pixels: int | None, **options: Any
) -> None:
    with _errors(debug):
        from aerialseg import console
        from aerialseg.executor import aside
        from aerialseg.job import segment

        if max_pixels is not None:
            options["max_pixels"] = max_pixels
        with console.progress(quiet) as progress, _leaving(output, options["keep_run"]):
            result = aside(lambda: segment(source, output, progress=progress, **options))
        if not quiet:
            console.show_result(result)
        _print_paths(result.paths)


@cli.command("demo", context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed draws another scene.")
@click.option(
    "--size",
    metavar="COLS,ROWS",
    type=Numbers(int, "COLS,ROWS", 2),
    default="1200,900",
    show_default=True,
    help="Pixels of 3.5 cm.",
)
@click.option("--overwrite", is_flag=True, help="Replace a scene that is there.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def demo_command(folder: Path, seed: int, size: tuple[int, int], overwrite: bool, debug: bool) -> None:
    """Draw a small georeferenced scene and its truth into DIR, to try things on."""
    with _errors(debug):
        from aerialseg.demo import draw_demo

        _print_paths(draw_demo(folder, width=size[0], height=size[1], seed=seed, overwrite=overwrite))


@cli.command("train", context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option(
    "--out", metavar="MODEL_DIR", type=click.Path(path_type=Path), required=True, help="Where the model goes."
)
@click.option(
    "--encoder-weights", metavar="FILE", type=click.Path(path_type=Path), help="Weights that the encoder starts from."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def train_command(config: Path, data: Path, out: Path, encoder_weights: Path | None, debug: bool) -> None:
    """Train a model as CONFIG.toml says and score it on the held-out frames.

    Needs the extra `train`: pip install 'aerialseg[train]'.
    """
    with _errors(debug):
        from aerialseg import console
        from aerialseg.training import train

        with console.progress() as progress:
            path = train(config, data, out, encoder_weights=encoder_weights, progress=progress.note)
        _print_paths([path])


def main() -> NoReturn:
    """Entry point of ``aerialseg``."""
    sys.exit(cli(prog_name="aerialseg"))


def segment_raster() -> NoReturn:
    """Entry point of ``segment-raster``, the same as ``aerialseg segment``."""
    sys.exit(segment_command(prog_name="segment-raster"))


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    """One line on stderr (before it the traceback, if asked for) and the right exit code, for whatever goes wrong."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as error:
        _say(error, debug, "interrupted")
        os._exit(Interrupted.exit_code)  # a block in the middle of the network would keep the process for long
    except MemoryError as error:
        _say(error, debug, "error: out of memory: close other programs, or use a smaller raster")
        sys.exit(ResourceError.exit_code)
    except AerialsegError as error:
        _say(error, debug, f"error: {_one_line(error)}")
        sys.exit(error.exit_code)
    except Exception as error:
        _say(error, debug, f"error: {type(error).__name__}: {_one_line(error)} (a bug: --debug shows where)")
        sys.exit(1)


def _say(error: BaseException, debug: bool, message: str) -> None:
    if debug:
        traceback.print_exception(error)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
    with suppress(OSError):
        click.echo(message + notes, err=True)
        sys.stderr.flush()


@contextmanager
def _leaving(output: Path, keep_run: Path | None) -> Iterator[None]:
    """Told to stop, say what stays. Nothing is removed: the directory may be another run's, which we waited for."""
    from aerialseg.run import run_folder

    try:
        yield
    except KeyboardInterrupt as error:
        folder = keep_run or run_folder(Path(os.path.abspath(output)))
        if os.path.isdir(folder):
            error.add_note(f"what is done is kept in {folder}: the same command goes on from there")
        raise


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _print_paths(paths: Iterable[Path]) -> None:
    """Paths on stdout; a reader that has gone away does not undo what is done."""
    try:
        for path in paths:
            click.echo(str(path))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
