"""A decoded copy holds the very pixels, in bounded memory, whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aerialseg.errors import InputError, OutputError, ResourceError
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.transcode import copy_bytes, decoded_copy
from aerialseg.raster.view import View
from tests.raster.drawing import describe, picture, view_of, write
from tests.raster.formats import EXACT, draw, edit_tile


def read(view: View) -> tuple[np.ndarray, np.ndarray]:
    with Source(view) as source:
        return source.read(Box(0, 0, *view.shape))


def copied_view(view: View, folder: Path) -> View:
    copy = decoded_copy(view.pieces[0], folder).piece
    return replace(view, path=copy.path, pieces=(copy,))


def check_equal(view: View, folder: Path) -> View:
    copy = copied_view(view, folder)
    pixels, valid = read(view)
    copied, copied_valid = read(copy)
    assert np.array_equal(copied, pixels)
    assert np.array_equal(copied_valid, valid)
    assert Path(copy.path).stat().st_size < copy_bytes(view.pieces[0]) + 100_000
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("driver", [*EXACT, "JPEG", "MBTiles", "GTiff"])
@pytest.mark.parametrize("resolution", ["native", 0.25])
def test_a_copy_is_equal_pixel_for_pixel(tmp_path, driver, resolution):
    path = draw(tmp_path, driver, picture(512, 768))
    pixel_size = None if describe(path).gsd_m else 0.1
    check_equal(view_of(path, resolution_m=resolution, pixel_size_m=pixel_size), tmp_path / "copies")


@pytest.mark.parametrize("driver", ["PNG", "WEBP", "GPKG"])
def test_alpha_is_copied(tmp_path, driver):
    alpha = np.full((1, 300, 400), 255, np.uint8)
    alpha[:, 100:200] = 0
    view = view_of(draw(tmp_path, driver, np.concatenate([picture(300, 400), alpha])), resolution_m="native")
    copy = check_equal(view, tmp_path / "copies")
    assert not read(copy)[1][100:200].any()


def test_a_mask_beside_a_jpeg_nodata_and_other_bands_are_copied(tmp_path):
    path = draw(tmp_path, "JPEG", picture(300, 400))
    mask = np.full((1, 300, 400), 255, np.uint8)
    mask[:, :, :50] = 0
    shutil.move(write(tmp_path / "mask.tif", mask, INTERNAL_MASK_FLAGS_1="2"), path.with_name("a.jpg.msk"))
    view = view_of(path, bands=(3, 1, 1))
    check_equal(view, tmp_path / "copies")
    wide = picture(300, 400, bands=3).astype(np.uint16) * 16
    wide[:, :20] = 0
    path = draw(tmp_path, "JP2OpenJPEG", wide, stem="b")
    bands = "".join(f'<PAMRasterBand band="{n}"><NoDataValue>0</NoDataValue></PAMRasterBand>' for n in (1, 2, 3))
    path.with_name("b.jp2.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    copy = check_equal(view_of(path, scale=(0, 4095)), tmp_path / "copies")
    assert not read(copy)[1][:20].any()


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from(["PNG", "JP2OpenJPEG", "WEBP"]))
def test_copies_of_any_size_are_equal(tmp_path, height, width, driver):
    check_equal(view_of(draw(tmp_path, driver, picture(height, width))), tmp_path / "copies")


def test_a_copy_is_made_once_and_again_when_the_file_or_its_sidecars_change(tmp_path):
    view = view_of(draw(tmp_path, "PNG", picture(300, 400)))
    done: list[int] = []
    first = decoded_copy(view.pieces[0], tmp_path / "copies", done.append)
    assert sum(done) == 300 * 400
    assert decoded_copy(view.pieces[0], tmp_path / "copies", done.append) == first
    assert sum(done) == 300 * 400
    (tmp_path / "a.pgw").write_text("1\n0\n0\n-1\n0\n0\n")
    assert decoded_copy(view.pieces[0], tmp_path / "copies").piece.path != first.piece.path


def test_row_03_pixels_that_are_lost_are_known_of_the_copy_too(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    path = draw(tmp_path, "MBTiles", picture(512, 768))
    edit_tile(path, lambda _: b"")
    view = view_of(path, resolution_m="native", on_read_error="nodata")
    check_equal(view, tmp_path / "copies")
    for _ in range(2):  # the second time from the file
        copy = decoded_copy(view.pieces[0], tmp_path / "copies")
        assert sum(box.area for box in copy.lost) == 256 * 256
        assert read(replace(view, pieces=(copy.piece,)))[1].sum() == 512 * 768 - 256 * 256


def test_row_03_a_copy_that_fails_names_the_window_and_leaves_nothing(tmp_path):
    path = draw(tmp_path, "PNG", picture(600, 400))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cannot read rows \d+\.\.\d+.*a\.png"):
        decoded_copy(view_of(path).pieces[0], tmp_path / "copies")
    assert not os.listdir(tmp_path / "copies")


def test_row_21_a_disk_without_room_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    view = view_of(draw(tmp_path, "PNG", picture(300, 400)))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(ResourceError, match="when it is decoded"):
        decoded_copy(view.pieces[0], tmp_path / "copies")
    assert not os.listdir(tmp_path / "copies")


LIMITED = """
import resource, sys
from pathlib import Path
from aerialseg.errors import OutputError
from aerialseg.raster.transcode import decoded_copy
from tests.raster.drawing import view_of
import signal
view = view_of(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    decoded_copy(view.pieces[0], Path(sys.argv[2]))
except OutputError as error:
    print("refused", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_row_21_a_file_that_cannot_be_written_to_its_end_is_no_copy(tmp_path, share):
    view = view_of(draw(tmp_path, "PNG", picture(600, 800)))
    limit = str(int(copy_bytes(view.pieces[0]) * share))
    command = [sys.executable, "-c", LIMITED, view.path, str(tmp_path / "copies"), limit]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.startswith("refused cannot write"), done.stderr
    assert not os.listdir(tmp_path / "copies")


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    view = view_of(draw(tmp_path, "PNG", picture(30, 40)))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        decoded_copy(view.pieces[0], tmp_path / "file" / "copies")


MEMORY = """
import sys
from pathlib import Path
from aerialseg.raster.transcode import decoded_copy
from tests.raster.drawing import view_of
from tests.faults.commands import peak_kb
view = view_of(Path(sys.argv[1]), resolution_m="native")
before = peak_kb()
decoded_copy(view.pieces[0], Path(sys.argv[2]))
print((peak_kb() - before) // 1024)
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("driver", ["PNG", "JPEG", "JP2OpenJPEG", "GPKG"])
def test_memory_is_bounded(tmp_path, driver):
    smooth = np.linspace(1, 255, 9000).astype(np.uint8)[None, None].repeat(3, 0).repeat(9000, 1)
    path = draw(tmp_path, driver, smooth)
    command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "copies")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2], check=True)
    assert int(done.stdout) < 200, f"{done.stdout} MB for an image of 243 MB"
