"""A .vrt as input is the list of its files, read without GDAL; GDAL's own reading of it is the oracle."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from aerialseg.errors import InputError
from aerialseg.mapping.source_files import find_sources
from aerialseg.raster.grid import Box
from aerialseg.raster.vrt import read_vrt
from tests.batch.conftest import Folder, folder
from tests.fakes import Oracle
from tests.mapping.test_mosaics import CORNER, cut, run, scene, write_tile

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(
    shutil.which("gdalbuildvrt") is None, reason="gdalbuildvrt is not installed (apt-get install gdal-bin)"
)


def gdal(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def build(vrt: Path, *arguments: object) -> Path:
    gdal("gdalbuildvrt", *arguments[:-1], vrt, *arguments[-1])
    return vrt


def classes(path: Path) -> np.ndarray:
    """The class raster's pixels. GDAL's VRT loses the last digit of their size."""
    with rasterio.open(path) as file:
        return file.read(1)


def overlapping(folder: Path, **profile: Any) -> list[Path]:
    """Three tiles that show different things where they overlap; the names say nothing of the order."""
    folder.mkdir(parents=True)
    boxes = {"b.tif": Box(0, 0, 70, 80), "c.tif": Box(20, 40, 110, 130), "a.tif": Box(50, 10, 120, 70)}
    return [
        write_tile(folder / name, scene(120, 130, seed=number), box, **profile)
        for number, (name, box) in enumerate(boxes.items())
    ]


@pytest.mark.slow
def test_the_map_of_a_vrt_is_that_of_what_gdal_makes_of_it(tmp_path: Path) -> None:
    vrt = build(tmp_path / "m.vrt", overlapping(tmp_path / "tiles"))
    gdal("gdal_translate", "-a_nodata", "0", vrt, tmp_path / "one.tif")  # the corners that no tile covers
    result, found, _ = run(vrt, tmp_path, "a")
    run(tmp_path / "one.tif", tmp_path, "b")
    assert np.array_equal(classes(tmp_path / "a.tif"), classes(tmp_path / "b.tif"))
    assert [Path(piece.path).name for piece in result.plan.view.pieces] == ["a.tif", "c.tif", "b.tif"]
    assert run(vrt, tmp_path, "c", order="name")[1] != found


@pytest.mark.slow
def test_the_map_of_a_vrt_is_that_of_its_files(tmp_path: Path) -> None:
    tiles = cut(scene(), tmp_path / "tiles", (101, 160), (64, 203), 17)
    vrt = build(tmp_path / "m.vrt", tiles)
    assert run(vrt, tmp_path, "a")[1] == run(tmp_path / "tiles", tmp_path, "b")[1]


@pytest.mark.slow
def test_nodata_and_masks_are_those_of_the_files(tmp_path: Path) -> None:
    tiles = overlapping(tmp_path / "tiles", nodata=0)
    with rasterio.open(tiles[2], "r+") as file:
        pixels = file.read()
        pixels[:, 10:30] = 0
        file.write(pixels)
    vrt = build(tmp_path / "m.vrt", tiles)
    assert "ComplexSource" in vrt.read_text()
    gdal("gdal_translate", vrt, tmp_path / "one.tif")
    run(vrt, tmp_path, "a")
    run(tmp_path / "one.tif", tmp_path, "b")
    assert np.array_equal(classes(tmp_path / "a.tif"), classes(tmp_path / "b.tif"))
    masked = overlapping(tmp_path / "masked")
    for path in masked:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(file.width) % np.full((file.height, 1), 40) > 9)
    vrt = build(tmp_path / "masked.vrt", masked)
    assert "mask" in vrt.read_text()
    assert run(vrt, tmp_path, "c")[1] == run(masked[::-1], tmp_path, "d", order="given")[1]


def test_absolute_paths_below_the_folder_are_read(tmp_path: Path) -> None:
    tiles = cut(scene(60, 60), tmp_path / "tiles", (30,), ())
    vrt = build(tmp_path / "m.vrt", tiles)
    text = vrt.read_text().replace('relativeToVRT="1">', f'relativeToVRT="0">{tmp_path}/')
    vrt.write_text(text)
    assert sorted(find_sources([vrt])) == sorted(map(str, tiles))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-separate"], "other files in one band than in another|takes band 1 of"),
        (["-addalpha"], "has a <|takes band|other files in one band"),
        (["-b", "3", "-b", "2", "-b", "1"], "takes band 3 of .* for its band 1: --bands"),
        (["-te", "500005", "4999992", "500015", "5000000"], "takes a part of|scales"),
        (["-tr", "0.05", "0.05"], "scales .*b.tif"),
        (["-srcnodata", "0"], r"has the nodata value None, and the VRT says 0: .* gdal_edit.py -a_nodata 0"),
        (["-vrtnodata", "7"], "has the nodata value None, and the VRT says 7"),
        (["-a_srs", "EPSG:32632"], r"another coordinate system \(WGS 84 / UTM zone 33N .*than the VRT says"),
    ],
)
def test_what_is_no_plain_mosaic_is_refused_and_says_what(tmp_path: Path, arguments: list[str], reason: str) -> None:
    vrt = build(tmp_path / "m.vrt", *arguments, overlapping(tmp_path / "tiles"))
    with pytest.raises(InputError, match=reason):
        run(vrt, tmp_path)


def test_a_vrt_that_does_not_fit_its_files_any_more_is_refused(tmp_path: Path) -> None:
    tiles = overlapping(tmp_path / "tiles")
    vrt = build(tmp_path / "m.vrt", tiles)
    moved = CORNER @ Affine.translation(0, 0.4)
    with rasterio.open(tiles[0], "r+") as file:
        file.transform = moved
    with pytest.raises(InputError, match=r"b.tif lies elsewhere than the VRT says, by up to 0.4 of its pixels"):
        run(vrt, tmp_path)
    write_tile(tiles[0], scene(90, 90), Box(0, 0, 90, 90))
    with pytest.raises(InputError, match=r"b.tif has 90 x 90 px and the VRT takes 80 x 70 of it"):
        run(vrt, tmp_path)
    os.unlink(tiles[0])
    with pytest.raises(InputError, match=r"b.tif: No such file"):
        run(vrt, tmp_path)


def test_sources_below_a_pixel_apart_are_where_the_vrt_says(tmp_path: Path) -> None:
    tiles = overlapping(tmp_path / "tiles")
    with rasterio.open(tiles[0], "r+") as file:
        file.transform = file.transform @ Affine.translation(0.4, 0.3)
    result, _, _ = run(build(tmp_path / "m.vrt", tiles), tmp_path)
    assert len(result.plan.view.sheets) == 2


def test_a_batch_job_refuses_a_vrt_of_which_it_would_not_see_the_changes(folder: Folder) -> None:
    build(folder.path / "in" / "m.vrt", sorted((folder.path / "in").glob("*.tif")))
    assert folder.run(inputs={"glob": "in/*.vrt"}, predictor=Oracle()).exit_code == 1
    assert "names other rasters" in next(iter(folder.entries().values())).error


@pytest.mark.slow
def test_ten_thousand_tiles_are_read_in_seconds(tmp_path: Path) -> None:
    vrt = build(tmp_path / "m.vrt", overlapping(tmp_path / "tiles"))
    text = vrt.read_text()
    start, end = text.index("    <SimpleSource>"), text.index("    </SimpleSource>") + len("    </SimpleSource>\n")
    many = "".join(text[start:end].replace("b.tif", f"{number:05d}.tif") for number in range(10_000))
    head, tail = text[:start], text[text.index("  </VRTRasterBand>") :]
    rest = tail[tail.index("  <VRTRasterBand") :]
    bands = "".join(
        f'  <VRTRasterBand dataType="Byte" band="{n}">\n'
        + many.replace("<SourceBand>1<", f"<SourceBand>{n}<")
        + "  </VRTRasterBand>\n"
        for n in (2, 3)
    )
    assert rest
    vrt.write_text(f"{head}{many}  </VRTRasterBand>\n{bands}</VRTDataset>\n")
    assert len(read_vrt(vrt)) == 10_000
