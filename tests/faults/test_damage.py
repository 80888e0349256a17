"""Damage is an error that names the window, or nodata exactly where pixels are lost."""

from __future__ import annotations

import hashlib
import logging
import struct
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import rasterio

from aerialseg.errors import InputError
from aerialseg.mapping.segment import segment
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from tests.conftest import land_cover
from tests.fakes import Oracle
from tests.raster.drawing import TILED, picture, read_all, spoil, tile_bytes, view_of, write


@pytest.fixture
def damaged(tmp_path):
    path = write(tmp_path / "a.tif", picture(200, 200), compress="deflate", **TILED)
    spoil(path, 1, 2)
    return path


def test_row_04_a_damaged_tile_is_an_error_that_names_the_window(damaged):
    message = r"rows 60\.\.99, columns 120\.\.159 of .*a\.tif.*--on-read-error nodata"
    with Source(view_of(damaged)) as source, pytest.raises(InputError, match=message):
        source.read(Box(60, 120, 100, 160))


def test_row_04_the_rest_of_a_damaged_raster_reads(damaged):
    with Source(view_of(damaged)) as source:
        pixels, _ = source.read(Box(0, 0, 64, 200))
        assert (pixels == picture(200, 200)[:, :64]).all()
        assert source.lost_px == 0


def test_row_04_only_the_damaged_tile_becomes_nodata_and_counts_once(damaged, caplog):
    bad = np.zeros((200, 200), bool)
    bad[64:128, 128:192] = True
    with Source(view_of(damaged, on_read_error="nodata")) as source, caplog.at_level(logging.WARNING):
        for box in (Box(90, 90, 150, 150), Box(0, 0, 200, 200), Box(70, 130, 80, 140)):
            pixels, valid = source.read(box)
            assert (valid == ~bad[box.slices]).all()
            assert (pixels == picture(200, 200)[(slice(None), *box.slices)] * valid).all()
        assert source.lost_px == 64 * 64
        assert source.lost_blocks == {(str(damaged), Box(64, 128, 128, 192))}
    assert len([record for record in caplog.records if "filled with nodata" in record.message]) == 1


def test_row_03_a_truncated_file_loses_what_is_missing_and_no_more(tmp_path):
    path = write(tmp_path / "a.tif", picture(200, 200), **TILED)
    offset, _ = tile_bytes(path, 3, 2)
    path.write_bytes(path.read_bytes()[: offset + 10])
    with pytest.raises(InputError, match="cannot read rows"):
        read_all(path)
    _, valid = read_all(path, on_read_error="nodata")
    assert not valid[192:, 128:].any()
    assert valid[:192].all()
    assert valid[192:, :128].all()


def test_row_04_damage_inside_a_jpeg_tile_is_noticed_though_gdal_goes_on(tmp_path, caplog):
    caplog.set_level(logging.ERROR, "rasterio")  # even where nobody wants to hear of it
    path = write(tmp_path / "a.tif", picture(200, 200), compress="jpeg", photometric="YCbCr", **TILED)
    spoil(path, 0, 1, skip=tile_bytes(path, 0, 1)[1] // 3)
    with rasterio.open(path) as dataset:
        dataset.read()  # GDAL has no error to tell of
    with pytest.raises(InputError, match="Corrupt JPEG data"):
        read_all(path)
    with Source(view_of(path, on_read_error="nodata")) as source:
        for _ in range(2):  # the second time GDAL has the made-up pixels in its cache
            _, valid = source.read(Box(0, 0, 200, 200))
            assert not valid[:64, 64:128].any()
            assert valid.sum() == 200 * 200 - 64 * 64


def replace_tile(path, change):
    """Append what ``change`` makes of the tile in row 0, column 1, and point to that."""
    offset, length = tile_bytes(path, 0, 1)
    data = path.read_bytes()
    content = change(data[offset : offset + length])
    data = data.replace(struct.pack("<I", offset), struct.pack("<I", len(data)))
    path.write_bytes(data.replace(struct.pack("<H", length), struct.pack("<H", len(content))) + content)
    assert tile_bytes(path, 0, 1) == (len(data), len(content))


def test_a_jpeg_tile_that_was_cut_short_is_damaged_and_one_with_bytes_to_spare_is_not(tmp_path):
    path = tmp_path / "a.tif"
    for change, damaged in ((lambda tile: tile[:-2] + bytes(5) + tile[-2:], False), (lambda tile: tile[:-2], True)):
        write(path, picture(200, 200), compress="jpeg", photometric="YCbCr", **TILED)
        replace_tile(path, change)
        with rasterio.open(path) as dataset:
            dataset.read()  # GDAL has no error to tell of
        with pytest.raises(InputError, match="Premature end of JPEG") if damaged else nullcontext():
            read_all(path)


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["none", "packbits", "lzw", "jpeg", "webp", "deflate", "zstd"])
def test_row_05_a_flipped_bit_that_no_reader_sees_shows_in_the_hash_of_the_input(tmp_path, compress):
    photometric = "YCbCr" if compress == "jpeg" else "RGB"
    path = write(tmp_path / "a.tif", land_cover(128, 128), compress=compress, photometric=photometric, **TILED)
    sound, before = path.read_bytes(), read_all(path)[0]
    offset, length = tile_bytes(path, 0, 1)
    chance = np.random.default_rng(5)
    for _ in range(60):
        spoilt = bytearray(sound)
        spoilt[offset + chance.integers(length)] ^= 1 << chance.integers(8)
        path.write_bytes(spoilt)
        with suppress(InputError):
            if not np.array_equal(read_all(path)[0], before):
                break
    else:
        pytest.fail(f"a reader notices all damage to {compress}")
    segment(path, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as made:
        assert made.tags()["source_sha256"] == hashlib.sha256(spoilt).hexdigest() != hashlib.sha256(sound).hexdigest()


def test_row_04_damage_in_one_plane_loses_the_pixel(tmp_path):
    path = write(tmp_path / "a.tif", picture(128, 128), interleave="band", compress="deflate", **TILED)
    spoil(path, 0, 0)
    _, valid = read_all(path, on_read_error="nodata")
    assert not valid[:64, :64].any()
    assert valid.sum() == 128 * 128 - 64 * 64


def test_row_04_damage_shows_in_resampled_reading_too(damaged):
    with pytest.raises(InputError, match="cannot read rows"):
        read_all(damaged, model_gsd_m=0.2)
    _, valid = read_all(damaged, model_gsd_m=0.2, on_read_error="nodata")
    assert not valid[32:64, 64:96].any()
    assert valid.sum() == 100 * 100 - 32 * 32


def test_row_26_a_raster_that_changed_its_size_is_refused(tmp_path):
    view = view_of(write(tmp_path / "a.tif", picture(20, 30)))
    write(tmp_path / "a.tif", picture(20, 31))
    with pytest.raises(InputError, match="not the raster it was"):
        Source(view)
