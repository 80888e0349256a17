"""Settings by their old names: they work for one release, and say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from affine import Affine
from click.testing import CliRunner

from aerialseg.cli.segment_command import segment_command
from aerialseg.errors import UsageError
from aerialseg.mapping.segment import plan_run, segment
from aerialseg.mapping.settings import OLD_NAMES, OPTIONS, check_settings, warn_of_old_name
from tests.fakes import Oracle
from tests.raster.drawing import picture, write

SAID = (
    "--gsd works until version 0.3: write --resolution METRES|native, or --pixel-size METRES for a raster that does "
    "not know its own pixel size"
)


@pytest.fixture(autouse=True)
def _say_it_again() -> None:
    warn_of_old_name.cache_clear()


@pytest.fixture
def ortho(tmp_path: Path) -> Path:
    return write(tmp_path / "ortho.tif", picture(64, 96))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "plain.tif", picture(64, 96), crs=None, transform=Affine(3, 0, 0, 0, -3, 0))


def test_the_old_name_is_the_resolution_for_a_raster_that_knows_its_pixel_size(ortho: Path, tmp_path: Path) -> None:
    old, new = (
        segment(ortho, tmp_path / f"{key}.fgb", model=Oracle(), raster=tmp_path / f"{key}.tif", **{key: 0.2})
        for key in ("gsd_m", "resolution_m")
    )
    assert old.plan.view.shape == (32, 48)
    assert old.plan.blocks_digest == new.plan.blocks_digest
    assert (tmp_path / "gsd_m.tif").read_bytes() == (tmp_path / "resolution_m.tif").read_bytes()


def test_the_old_name_is_the_pixel_size_for_one_that_does_not(plain: Path, tmp_path: Path) -> None:
    old, new = (
        segment(plain, tmp_path / f"{key}.fgb", model=Oracle(), keep_run=tmp_path / "run", **{key: 0.05})
        for key in ("gsd_m", "pixel_size_m")
    )
    assert old.plan.view.gsd_m == pytest.approx((0.1, 0.1)), "resampled from 5 cm to the fake's 10 cm"
    assert old.plan.digest == new.plan.digest, "a run that was kept by the old name is taken up by the new one"


def test_the_warning_comes_once_and_names_both_successors(
    ortho: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        plan_run(ortho, tmp_path / "map.fgb", model=Oracle(), gsd_m="native")
    assert [record.getMessage() for record in caplog.records].count(SAID) == 1
    caplog.clear()
    plan_run(ortho, tmp_path / "map.fgb", model=Oracle(), resolution_m="native")
    assert "--gsd" not in caplog.text


def test_both_names_are_refused(ortho: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in place of --gsd"):
        plan_run(ortho, tmp_path / "map.fgb", model=Oracle(), gsd_m=0.2, resolution_m=0.2)


@pytest.mark.slow
def test_the_command_line_warns_and_its_help_does_not_show_the_old_name(ortho: Path, tmp_path: Path) -> None:
    arguments = [str(ortho), str(tmp_path / "map.gpkg"), "--gsd", "native", "--dry-run"]
    done = CliRunner().invoke(segment_command, arguments)
    assert done.exit_code == 0, done.stderr
    assert f" warning: {SAID}\n" in done.stderr
    shown = CliRunner().invoke(segment_command, ["--help"]).stdout
    assert "--resolution M|native" in shown
    assert "--pixel-size M " in shown
    assert "--gsd" not in shown


def test_old_names_are_taken_and_not_proposed() -> None:
    assert set(OLD_NAMES) == {"gsd"}
    assert not set(OLD_NAMES) & set(OPTIONS)
    with pytest.raises(UsageError, match="unknown setting 'gsdm'") as caught:
        check_settings({"gsdm": 1})
    assert "gsd_m" not in str(caught.value)
