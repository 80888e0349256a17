"""segment-raster, which is aerialseg segment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from aerialseg.cli.cluster import CLUSTER_OPTIONS, cluster_of
from aerialseg.cli.failures import errors, print_paths
from aerialseg.cli.options import BANDS, CONTEXT, DEBUG, DISSOLVE, QUIET, SCALE, SMOOTH, Count, Gsd, options

SEGMENT_OPTIONS = options(
    click.argument("source", metavar="INPUT.tif"),
    click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path)),
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
    SMOOTH,
    DISSOLVE,
    BANDS,
    click.option(
        "--gsd",
        "gsd_m",
        type=Gsd(),
        metavar="M|native",
        help="Work at M metres per pixel (without CRS: the raster's pixel is M metres), or at its native size."
        "  [default: the model's]",
    ),
    SCALE,
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "int8"]),
        default="auto",
        show_default=True,
        help="Numbers to compute in; auto: the fastest without loss that the processor has.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(["auto", "torch", "openvino"]),
        default="auto",
        show_default=True,
        help="auto: OpenVINO on a CPU where it is installed, torch otherwise.",
    ),
    click.option(
        "--tiling",
        type=click.Choice(["exact", "approximate"]),
        default="exact",
        show_default=True,
        help="Tiles that equal the whole image, or approximations with seams (less work, or any network).",
    ),
    click.option(
        "--halo",
        "halo_px",
        metavar="PX",
        type=int,
        help="Pixels around an approximate tile.  [default: 256 for a model that can be exact, else its card's]",
    ),
    click.option(
        "--tta", is_flag=True, help="Average over the eight flips and turns of each tile: eight times the work."
    ),
    CLUSTER_OPTIONS,
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
    click.option("--timeline", is_flag=True, help="Show at the end how long each stage was at work."),
    click.option(
        "--report",
        metavar="FILE.json",
        type=click.Path(path_type=Path),
        help="Also write what was found and where the time went.",
    ),
    QUIET,
    DEBUG,
)

SEGMENT_HELP = """Map the land cover of the orthophoto INPUT.tif into the layer OUTPUT.

The ending of OUTPUT is its format: .gpkg, .fgb, .parquet or .geojson.

The layer `landcover` covers every valid pixel exactly once and opens in QGIS named and coloured.
Memory does not grow with the raster. A run that was cut off goes on when the same command is given
again.

Exit codes: 0 done, 2 usage, 3 input, 4 model, 5 output, 6 resources, 130 interrupted.
"""


@click.command("segment", context_settings=CONTEXT, help=SEGMENT_HELP)
@SEGMENT_OPTIONS
def segment_command(
    quiet: bool,
    debug: bool,
    source: str,
    output: Path,
    max_pixels: int | None,
    dask: str | None,
    workers: int | None,
    timeline: bool,
    **options: Any,
) -> None:
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.executor import aside
        from aerialseg.mapping.segment import segment

        if max_pixels is not None:
            options["max_pixels"] = max_pixels
        with (
            display.progress(quiet) as progress,
            _leaving(output, options["keep_run"]),
            cluster_of(dask, workers) as cluster,
        ):
            result = aside(lambda: segment(source, output, progress=progress, cluster=cluster, **options))
        if not quiet:
            display.show_result(result)
        if timeline:
            display.show_timeline(result.timeline)
        print_paths(result.paths)


@contextmanager
def _leaving(output: Path, keep_run: Path | None) -> Iterator[None]:
    """Told to stop, say what stays. Nothing is removed: the directory may be another run's, which we waited for."""
    from aerialseg.mapping.run import run_folder

    try:
        yield
    except KeyboardInterrupt as error:
        folder = keep_run or run_folder(Path(os.path.abspath(output)))
        if os.path.isdir(folder):
            error.add_note(f"what is done is kept in {folder}: the same command goes on from there")
        raise
