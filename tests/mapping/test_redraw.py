"""Another layer of a kept run: the network is not asked again, and the layer is that of a clean run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aerialseg.mapping.segment import segment
from aerialseg.progress import Silent
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Flaky, Oracle
from tests.mapping.test_segment import read_layer

LAYERS: list[dict[str, Any]] = [
    {"min_area_m2": 3.0},
    {"simplify_m": 0},
    {"smooth": True},
    {"dissolve": True},
    {"min_area_m2": 0, "simplify_m": 0.4, "smooth": True},
]


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def refusing(tmp_path: Path) -> Flaky:
    """A predictor that fails when it is asked once."""
    return Flaky(tmp_path / "log", 1)


@pytest.mark.slow
@pytest.mark.parametrize("settings", LAYERS, ids=str)
@pytest.mark.parametrize("ending", [".gpkg", ".parquet"])
def test_another_layer_of_a_kept_run_is_drawn_without_the_network(
    tmp_path: Path, write_raster: WriteRaster, settings: dict[str, Any], ending: str
) -> None:
    source, run = write_raster(land_cover(150, 200)), tmp_path / "run"
    segment(source, tmp_path / "first.gpkg", model=Oracle(), keep_run=run, block_px=64)
    heard = Heard()
    again = segment(
        source,
        tmp_path / f"again{ending}",
        model=refusing(tmp_path),
        keep_run=run,
        raster=tmp_path / "again.tif",
        block_px=64,
        progress=heard,
        **settings,
    )
    clean = segment(
        source, tmp_path / f"clean{ending}", model=Oracle(), raster=tmp_path / "clean.tif", block_px=64, **settings
    )
    assert "blocks" not in again.seconds
    assert any("no network needed" in note for note in heard.notes)
    assert again.plan.digest == clean.plan.digest
    assert (again.polygons, again.valid_px) == (clean.polygons, clean.valid_px)
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()
    if ending == ".gpkg":
        one, other = (read_layer(tmp_path / f"{name}.gpkg") for name in ("again", "clean"))
        assert one.to_wkb().equals(other.to_wkb())
    else:
        assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "clean.parquet").read_bytes()


def test_what_changed_is_named_by_its_option(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, heard = write_raster(land_cover(64, 64)), Heard()
    segment(source, tmp_path / "a.gpkg", model=Oracle(), keep_run=tmp_path / "run")
    options = {"min_area_m2": 3, "smooth": True}
    segment(source, tmp_path / "b.gpkg", model=Oracle(), keep_run=tmp_path / "run", progress=heard, **options)
    assert "this run was made with another --min-area and --smooth: drawing its polygons again" in "".join(heard.notes)


def test_an_interrupted_run_resumes_with_other_settings_of_the_layer(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, output = write_raster(land_cover(128, 128)), tmp_path / "map.gpkg"
    with pytest.raises(RuntimeError, match="died"):
        segment(source, output, model=Flaky(tmp_path / "log", 12), block_px=32)
    done = len(list((tmp_path / "map.gpkg.run" / "blocks").glob("*.tif")))
    (tmp_path / "log").write_text("")
    segment(source, output, model=Flaky(tmp_path / "log", 1000), block_px=32, min_area_m2=2)
    assert len((tmp_path / "log").read_text()) == 16 - done
    clean = tmp_path / "clean.gpkg"
    segment(source, clean, model=Oracle(), block_px=32, min_area_m2=2)
    assert read_layer(output).to_wkb().equals(read_layer(clean).to_wkb())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes.tif", "confidence.tif", "mosaic.json"])
def test_a_mosaic_that_was_touched_is_made_of_its_blocks_again(
    tmp_path: Path, write_raster: WriteRaster, name: str
) -> None:
    source, run = write_raster(land_cover(64, 64)), tmp_path / "run"
    segment(source, tmp_path / "a.gpkg", model=Oracle(), keep_run=run)
    if name.endswith(".tif"):
        (run / name).write_bytes(b"II*\0")
    else:
        os.remove(run / name)
    segment(source, tmp_path / "b.gpkg", model=refusing(tmp_path), keep_run=run, min_area_m2=1)
    segment(source, tmp_path / "clean.gpkg", model=Oracle(), min_area_m2=1)
    assert read_layer(tmp_path / "b.gpkg").to_wkb().equals(read_layer(tmp_path / "clean.gpkg").to_wkb())
