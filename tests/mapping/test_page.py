"""The page of a run: everything is inside it, and it tells nobody where its files lie."""

from __future__ import annotations

import base64
import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import UsageError
from aerialseg.mapping.page_pictures import CELL_PX, PLACES
from aerialseg.mapping.result import Result, areas_csv
from aerialseg.mapping.segment import segment
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle


def made(folder: Path, write_raster: WriteRaster, side: int = 700) -> tuple[Result, str]:
    page = folder / "run.html"
    result = segment(write_raster(land_cover(side, side)), folder / "map.gpkg", model=Oracle(), report=page)
    assert page in result.paths
    return result, page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_holds_everything_and_asks_for_nothing(tmp_path: Path, write_raster: WriteRaster) -> None:
    result, text = made(tmp_path, write_raster)
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', text)
    assert len(links) > 2 * PLACES
    assert all(one.startswith("data:") or two.startswith("data:") for one, two in links)
    assert not re.search(r"https?://", text)
    assert str(tmp_path) not in text
    assert "Where the model is least certain" in text
    assert all(line.name in text and line.color in text for line in result.classes)


def test_the_areas_in_the_page_are_those_of_the_result(tmp_path: Path, write_raster: WriteRaster) -> None:
    result, text = made(tmp_path, write_raster, side=200)
    found = re.search(r'download="areas\.csv" href="data:text/csv;charset=utf-8;base64,([^"]*)"', text)
    assert found
    rows = list(csv.DictReader(base64.b64decode(found[1]).decode().splitlines()))
    assert [row["class_name"] for row in rows] == [line.name for line in result.classes]
    assert sum(float(row["area_m2"]) for row in rows) == pytest.approx(200 * 200 * 0.01)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)


def test_the_least_certain_place_comes_first(tmp_path: Path, write_raster: WriteRaster) -> None:
    pixels = np.full((3, 4 * CELL_PX, 4 * CELL_PX), 90, np.uint8)
    pixels[0] = 1
    pixels[1, CELL_PX : 2 * CELL_PX, 2 * CELL_PX : 3 * CELL_PX] = 20
    segment(write_raster(pixels), tmp_path / "map.gpkg", model=Oracle(), report=tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    shown = re.findall(r"confidence (\d+)%<br>", text)
    assert shown[0] == "20"
    assert set(shown[1:]) == {"90"}


def test_a_report_of_another_ending_is_refused(tmp_path: Path, write_raster: WriteRaster) -> None:
    with pytest.raises(UsageError, match=r"must end in \.json or \.html"):
        segment(write_raster(land_cover(9, 9)), tmp_path / "m.gpkg", model=Oracle(), report=tmp_path / "r.pdf")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser_without_errors(tmp_path: Path, write_raster: WriteRaster, width: int) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium: install the Debian package chromium")
    made(tmp_path, write_raster)
    picture, printed = tmp_path / "page.png", tmp_path / "page.pdf"
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    common.append(f"--user-data-dir={tmp_path / 'profile'}")
    for more in ([f"--window-size={width},2000", f"--screenshot={picture}"], [f"--print-to-pdf={printed}"]):
        page = (tmp_path / "run.html").as_uri()
        done = subprocess.run([*common, *more, page], capture_output=True, text=True, timeout=240, check=True)
        assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 20_000
    assert printed.read_bytes().startswith(b"%PDF")


def test_areas_as_csv_are_those_of_the_page(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, areas = write_raster(land_cover(60, 70)), tmp_path / "areas.csv"
    result = segment(source, tmp_path / "map.gpkg", model=Oracle(), areas=areas)
    assert areas in result.paths
    assert areas.read_text(encoding="utf-8") == areas_csv(result)
    with pytest.raises(UsageError, match=r"areas\.txt must end in \.csv"):
        segment(source, tmp_path / "other.gpkg", model=Oracle(), areas=tmp_path / "areas.txt")
    with pytest.raises(UsageError, match=r"areas\.csv exists: add --overwrite"):
        segment(source, tmp_path / "other.gpkg", model=Oracle(), areas=areas)
