"""Faults 10 and 11: rasters that lie nowhere, and rasters without a place."""

from __future__ import annotations

import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.control import GroundControlPoint

from aerialseg.cli import cli
from aerialseg.errors import InputError
from aerialseg.mapping.segment import segment
from aerialseg.raster.mosaic import read_tile
from tests.fakes import Oracle
from tests.raster.drawing import UTM, picture, write

SIDE = 64
NOWHERE = {
    "no height": (UTM, Affine(0.1, 0, 5e5, 0, 0, 5e6), "no area"),
    "NaN": (UTM, Affine(math.nan, 0, 5e5, 0, -0.1, 5e6), "not finite"),
    "infinite": (UTM, Affine(0.1, 0, math.inf, 0, -0.1, 5e6), "not finite"),
    "singular": (UTM, Affine(0.1, 0.2, 5e5, 0.1, 0.2, 5e6), "no area"),
    "huge": (None, Affine(-1.2e200, 0, 0, 0, -1.2e200, 3.5e-310), "farther than any place"),
    "tiny": (None, Affine(-7e-245, 0, 1.8e-307, 0, -1.7e-307, 1.8e-307), "no area"),
    "too fine": (None, Affine(1e-12, 0, 5e5, 0, -1e-12, 5e6), "told apart"),
    "beyond UTM": (UTM, Affine(0.1, 0, 5e12, 0, -0.1, 5e12), "beyond the world"),
    "metres called degrees": ("EPSG:4326", Affine(0.1, 0, 5e5, 0, -0.1, 5e6), "beyond the world"),
}


def commands_on(folder: Path, crs: str | None, transform: Affine | None) -> list[list[object]]:
    """Every command that reads a raster, each given one that has that place."""
    place = {"crs": crs, "transform": transform}
    classes = np.ones((1, SIDE, SIDE), np.uint8)
    classes[:, :, SIDE // 2 :] = 2
    for name, pixels, where in (
        ("ortho", picture(SIDE, SIDE), place),
        ("classes", classes, place),
        ("good_ortho", picture(SIDE, SIDE), {}),
        ("good", classes, {}),
    ):
        write(folder / f"{name}.tif", pixels, **where)
    (folder / "legend.csv").write_text("id,name,r,g,b\n1,grass,90,170,60\n2,roof,170,60,50\n")
    legend = ["--legend", folder / "legend.csv"]
    return [
        ["segment", folder / "ortho.tif", folder / "s.gpkg", "--resolution", "native"],
        ["polygonize", folder / "classes.tif", folder / "p.gpkg"],
        ["chips", folder / "ortho.tif", folder / "good.tif", *legend, "--out", folder / "chips"],
        ["chips", folder / "good_ortho.tif", folder / "classes.tif", *legend, "--out", folder / "chips2"],
        ["accuracy", folder / "classes.tif", folder / "good.tif", *legend],
        ["accuracy", folder / "good.tif", folder / "classes.tif", *legend],
    ]


def check_refused(folder: Path, commands: list[list[object]], why: str) -> None:
    before = sorted(folder.iterdir())
    for command in commands:
        done = CliRunner().invoke(cli, [*map(str, command)])
        last = done.stderr.splitlines()[-1]
        assert (done.exit_code, last.startswith("error: ")) == (3, True), (command, done.stderr)
        assert why in last
    with pytest.raises(InputError, match=why):  # what collect reads
        read_tile(folder / "classes.tif")
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", NOWHERE)
def test_row_11_a_transform_that_leads_nowhere_is_refused_at_planning(tmp_path: Path, place: str) -> None:
    crs, transform, why = NOWHERE[place]
    check_refused(tmp_path, commands_on(tmp_path, crs, transform), why)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_row_11_control_points_only_are_refused_with_the_tool_to_warp_with(tmp_path: Path) -> None:
    commands = commands_on(tmp_path, None, Affine.identity())
    points = [GroundControlPoint(row, col, 10 + col / 1e5, 50 - row / 1e5) for row in (0, 8) for col in (0, 8)]
    for name in ("ortho", "classes"):
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as dataset:
            dataset.gcps = points, rasterio.CRS.from_epsg(4326)
    check_refused(
        tmp_path, commands, "is placed by ground control points only, not by a transform; warp it first: gdalwarp"
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", [(None, Affine(0.5, 0, 7, 0, -0.5, 9)), (UTM, None), (None, None)])
def test_row_10_without_a_place_areas_and_lengths_are_in_pixels_and_called_so(
    tmp_path: Path, place: tuple[str | None, Affine | None]
) -> None:
    commands_on(tmp_path, *place)
    layer = tmp_path / "map.gpkg"
    command = ["polygonize", str(tmp_path / "classes.tif"), str(layer), "--simplify", "0", "--dissolve"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.stderr
    assert "in pixels (px, px²)" in done.stderr
    assert "2,048 px²" in done.stderr
    assert not re.search(r"m²|\bha\b", done.stderr)
    for name in ("landcover", "landcover_by_class"):
        frame = pyogrio.read_dataframe(layer, layer=name)
        assert frame.area_m2.tolist() == [SIDE * SIDE / 2] * 2
        assert frame.perimeter_m.tolist() == [3 * SIDE] * 2
    with closing(sqlite3.connect(layer)) as database:
        titles = {title for (title,) in database.execute("SELECT title FROM gpkg_data_columns")}
    assert {"Area (px²)", "Perimeter (px)"} <= titles
    assert not any("m²" in title or "(m)" in title for title in titles)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_row_10_segment_counts_pixels_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    commands_on(tmp_path, None, None)
    result = segment(tmp_path / "ortho.tif", tmp_path / "map.gpkg", model=Oracle(), min_area_m2=1, simplify_m=0)
    assert [line.area_m2 for line in result.classes] == [None] * len(result.classes)
    assert sum(line.pixels for line in result.classes) == SIDE * SIDE
    assert sum(line.share for line in result.classes) == pytest.approx(1)
    assert "in pixels (px, px²)" in caplog.text
    assert pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover").area_m2.sum() == SIDE * SIDE


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", [(None, Affine(0.5, 0, 7, 0, -0.5, 9)), (UTM, None)])
def test_row_10_require_crs_refuses_it(tmp_path: Path, place: tuple[str | None, Affine | None]) -> None:
    for command in commands_on(tmp_path, *place)[:2]:
        done = CliRunner().invoke(cli, [*map(str, command), "--require-crs"])
        assert done.exit_code == 3
        assert "gdal_edit.py -a_srs" in done.stderr
