"""Any box equals that part of the whole; nodata stays nodata; profiles do not matter."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import InputError
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from tests.raster.drawing import TILED, picture, read_all, view_of, write

HEIGHT, WIDTH = 233, 311
MODELS = (0.1, 0.237, 0.131, 0.0631, 0.03)  # as it is; shrinking; enlarging
KINDS = ("plain", "alpha", "internal", "nodata", "rotated", "strips")


def blobs(seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.random((-(-HEIGHT // 9), -(-WIDTH // 9))) < 0.7, np.ones((9, 9), bool))[:HEIGHT, :WIDTH]


def draw(folder: Path, kind: str) -> Path:
    pixels, valid, path = picture(HEIGHT, WIDTH), blobs(), folder / f"{kind}.tif"
    if kind == "alpha":
        rgba = np.concatenate([pixels, valid[None] * np.uint8(255)])
        return write(path, rgba, photometric="RGB", alpha="YES", compress="deflate", **TILED)
    if kind == "internal":
        return write(path, pixels, mask=valid, **TILED)
    if kind == "nodata":
        return write(path, pixels * valid, nodata=0, compress="zstd", **TILED)
    if kind == "rotated":
        transform = Affine(0.0857, 0.0515, 5e5, 0.0515, -0.0857, 5e6)
        return write(path, pixels, transform=transform, **TILED)
    return write(path, pixels, **({"compress": "lzw"} if kind == "strips" else TILED))


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """(kind, model's size) -> view, pixels and validity of everything at once."""
    folder, found = tmp_path_factory.mktemp("wholes"), {}
    for kind in KINDS:
        path = draw(folder, kind)
        for model in MODELS:
            view = view_of(path, model_gsd_m=model)
            with Source(view) as source:
                found[kind, model] = (view, *source.read(Box(0, 0, *view.shape)))
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_box_is_that_part_of_the_whole(wholes, kind, model):
    view, pixels, valid = wholes[kind, model]
    margin = 17
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin)))
    padded_valid = np.pad(valid, margin)
    rows, cols = (st.tuples(*2 * [st.integers(-margin, size + margin)]).map(sorted) for size in view.shape)

    with Source(view) as source:

        @given(rows, cols)
        def check(rows: list[int], cols: list[int]) -> None:
            box = Box(rows[0], cols[0], rows[1], cols[1])
            part, good = source.read(box)
            where = box.grow(0).relative_to(Box(-margin, -margin, 0, 0)).slices
            assert part.shape == (3, *box.shape)
            assert (part == padded[(slice(None), *where)]).all()
            assert (good == padded_valid[where]).all()

        check()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[1:])
def test_cutting_a_read_into_steps_changes_nothing(wholes, model, monkeypatch):
    monkeypatch.setattr("aerialseg.raster.source.MAX_SOURCE_PX", 997)
    view, pixels, valid = wholes["internal", model]
    with Source(view) as source:
        part, good = source.read(Box(0, 0, *view.shape))
    assert (part == pixels).all()
    assert (good == valid).all()


@pytest.mark.parametrize("kind", ["alpha", "internal", "nodata"])
def test_what_lies_under_nodata_never_shows(wholes, kind, tmp_path):
    """Other values under the mask: not one byte of the result changes. Values of valid pixels come from valid ones."""
    for model in MODELS:
        _, pixels, valid = wholes[kind, model]
        assert 0.5 < valid.mean() < 0.9
        assert (pixels[:, ~valid] == 0).all()
        assert (pixels[:, valid] > 0).all()  # the picture has no 0: a 0 would have bled in
    if kind == "internal":
        other = picture(HEIGHT, WIDTH)
        other[:, ~blobs()] = 77
        path = write(tmp_path / "other.tif", other, mask=blobs(), **TILED)
        for model in MODELS:
            again, good = read_all(path, model_gsd_m=model)
            assert (again == wholes[kind, model][1]).all()
            assert (good == wholes[kind, model][2]).all()


def test_three_ways_of_saying_nodata_agree(wholes):
    for model in MODELS:
        (_, first, good), *others = (wholes[kind, model] for kind in ("alpha", "internal", "nodata"))
        for _, pixels, valid in others:
            assert (pixels == first).all()
            assert (valid == good).all()


def test_at_its_own_size_a_raster_reads_back_as_it_is(wholes):
    view, pixels, valid = wholes["plain", 0.1]
    assert not view.resampled
    assert valid.all()
    assert (pixels == picture(HEIGHT, WIDTH)).all()


PROFILES = {
    "strips": {"compress": "lzw", "predictor": 2},
    "one-row strips": {"blockysize": 1, "compress": "deflate"},
    "planar": {"interleave": "band", "compress": "deflate", **TILED},
    "planar strips": {"interleave": "band"},
    "zstd": {"compress": "zstd", **TILED},
    "big": {"bigtiff": "YES", **TILED},
    "not marked as RGB": {"photometric": "MINISBLACK", **TILED},
}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_row_16_strips_and_planes_read_as_the_tiled_rgb_copy(tmp_path, profile):
    pixels, valid = read_all(write(tmp_path / "a.tif", picture(150, 170), **profile))
    assert valid.all()
    assert (pixels == picture(150, 170)).all()


@pytest.mark.parametrize("layout", [TILED, {}], ids=["tiles", "strips"])
def test_row_16_ycbcr_jpeg_reads_as_its_rgb_copy(tmp_path, layout):
    smooth = np.linspace(0, 255, 150 * 170).reshape(1, 150, 170).repeat(3, 0).astype(np.uint8)
    jpeg = write(tmp_path / "jpeg.tif", smooth, compress="jpeg", photometric="YCbCr", **layout)
    pixels, _ = read_all(jpeg)
    assert np.abs(pixels.astype(int) - smooth).max() < 8
    copy, _ = read_all(write(tmp_path / "copy.tif", pixels, photometric="RGB", **TILED))
    assert (copy == pixels).all()


def test_a_pixel_is_nodata_when_all_bands_are(tmp_path):
    pixels = np.array([[0, 0, 0, 9], [0, 0, 9, 9], [0, 9, 9, 9]], np.uint8).reshape(3, 1, 4)
    _, valid = read_all(write(tmp_path / "a.tif", pixels, nodata=0))
    assert valid.tolist() == [[False, True, True, True]]


def test_nodata_outside_of_the_type_marks_nothing(tmp_path):
    _, valid = read_all(write(tmp_path / "a.tif", np.zeros((3, 4, 4), np.int16), nodata=-9999), scale=(0, 10))
    assert valid.all()


def test_nan_is_nodata_and_scale_clips(tmp_path):
    row = [0, 0.5, 1, 2, -1, np.inf, -np.inf, np.nan]
    pixels = np.stack([np.array([row], np.float32)] * 3)
    pixels[1, 0, 1] = np.nan
    values, valid = read_all(write(tmp_path / "a.tif", pixels), scale=(0, 1))
    assert valid.tolist() == [[True, False, True, True, True, False, False, False]]
    assert values[0].tolist() == [[0, 0, 255, 255, 0, 0, 0, 0]]


def test_sixteen_bits_with_a_scale(tmp_path):
    pixels = np.stack([np.array([[0, 100, 1100, 2100, 65535]], np.uint16)] * 3)
    values, _ = read_all(write(tmp_path / "a.tif", pixels), scale=(100, 2100))
    assert values[2].tolist() == [[0, 0, 128, 255, 255]]


def test_bands_are_taken_in_the_order_asked_for(tmp_path):
    path = write(tmp_path / "a.tif", picture(20, 30, 5), photometric="MINISBLACK")
    values, _ = read_all(path, bands=(5, 1, 1))
    assert (values == picture(20, 30, 5)[[4, 0, 0]]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 65), (65, 1), (31, 33), (129, 128)])
@pytest.mark.parametrize("model", [0.1, 0.03, 0.31, 5.0])
def test_tiny_and_odd_rasters(tmp_path, shape, model):
    path, sizes = write(tmp_path / "a.tif", picture(*shape)), [side * 0.1 / model for side in shape]
    # The centres of all working pixels may lie beside a tiny one.
    with contextlib.suppress(InputError) if min(sizes) < 1 else contextlib.nullcontext():
        pixels, valid = read_all(path, model_gsd_m=model)
        assert valid.all()
        assert all(abs(side - size) < 1 for side, size in zip(pixels.shape[1:], sizes, strict=True))


def test_sources_in_several_threads_agree(wholes):
    view, pixels, _ = wholes["alpha", 0.131]

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        with Source(view) as source:
            for _ in range(10):
                top, left = (int(rng.integers(0, side - 50)) for side in view.shape)
                box = Box(top, left, top + 50, left + 50)
                if not (source.read(box)[0] == pixels[(slice(None), *box.slices)]).all():
                    return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(8)))


def test_no_handle_stays_open(tmp_path):
    path = write(tmp_path / "a.tif", picture(70, 70), **TILED)
    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_all(path)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_view_travels(wholes):
    view = wholes["nodata", 0.131][0]
    assert pickle.loads(pickle.dumps(view)) == view
