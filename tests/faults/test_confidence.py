"""A confidence raster of something else is refused by every command that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import aerialseg
from aerialseg.errors import InputError
from aerialseg.evaluation.map_accuracy import assess_map
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle
from tests.vector.drawn import NORTH_UP, noise, write


def polygons(classes: Path, confidence: Path) -> None:
    aerialseg.polygonize(classes, classes.parent / "map.gpkg", confidence=confidence)


def accuracy(classes: Path, confidence: Path) -> None:
    assess_map(classes, classes, confidence=confidence)


commands = pytest.mark.parametrize("command", [polygons, accuracy])
Command = Callable[[Path, Path], None]


def refused(command: Command, classes: Path, confidence: Path, match: str) -> None:
    with pytest.raises(InputError, match=match):
        command(classes, confidence)
    assert not (classes.parent / "map.gpkg").exists()


@commands
def test_row_39_a_confidence_of_another_scale_is_refused(tmp_path: Path, command: Command) -> None:
    classes = write(tmp_path / "c.tif", noise(20, 30))
    rated = write(tmp_path / "p.tif", np.full((20, 30), 200))
    refused(command, classes, rated, "holds 200: wanted confidence in per cent, 0 to 100")
    with rasterio.open(classes) as file:
        profile = file.profile | {"dtype": "float32", "nodata": None}
    with rasterio.open(rated, "w", **profile) as file:
        file.write(np.full((1, 20, 30), 0.5, np.float32))
    refused(command, classes, rated, "holds float32: wanted confidence in per cent as uint8")


OTHER_GRIDS = {
    "size": ({"shape": (30, 20)}, "has 20 x 30 px: wanted 30 x 20"),
    "place": ({"transform": NORTH_UP @ Affine.translation(1, 0)}, "does not lie on the pixels of"),
    "pixels": ({"transform": NORTH_UP @ Affine.scale(1.1)}, "does not lie on the pixels of"),
    "system": ({"crs": "EPSG:32632"}, "does not lie on the pixels of"),
    "no system": ({"crs": None}, "does not lie on the pixels of"),
}


@commands
@pytest.mark.parametrize(("grid", "match"), OTHER_GRIDS.values(), ids=OTHER_GRIDS)
def test_row_39_a_confidence_on_another_grid_is_refused(
    tmp_path: Path, command: Command, grid: dict[str, object], match: str
) -> None:
    classes = write(tmp_path / "c.tif", noise(20, 30))
    options = dict(grid)
    percent = np.full(options.pop("shape", (20, 30)), 50)  # type: ignore[call-overload]
    refused(command, classes, write(tmp_path / "p.tif", percent, **options), match)  # type: ignore[arg-type]


@pytest.mark.slow
@commands
def test_row_39_a_confidence_of_another_run_is_refused(
    tmp_path: Path, write_raster: WriteRaster, command: Command
) -> None:
    source = write_raster(land_cover(64, 64))
    for name, bands in (("a", (1, 2, 3)), ("b", (2, 1, 3))):
        products = {"raster": tmp_path / f"{name}.tif", "confidence": tmp_path / f"{name}-sure.tif"}
        aerialseg.segment(source, tmp_path / f"{name}.gpkg", model=Oracle(), bands=bands, **products)
    refused(command, tmp_path / "a.tif", tmp_path / "b-sure.tif", "is of another run than")
    command(tmp_path / "a.tif", tmp_path / "a-sure.tif")
