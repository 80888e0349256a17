"""Rasters that cannot be read or mapped: the right error, one line of it, at once, and nothing else opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.segment import segment
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.view import make_view
from tests.fakes import Oracle
from tests.raster.drawing import TILED, picture, read_all, tiff, view_of, write


def refused(path: object, match: str, **options: object) -> str:
    """The message of the InputError; it is one line, names the raster and says what to do."""
    with pytest.raises(InputError, match=match) as caught:
        view_of(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert Path(str(path)).name in message
    assert caught.value.exit_code == 3
    return message


def test_row_01_a_path_that_is_missing_a_folder_or_no_regular_file_is_refused(tmp_path):
    refused(tmp_path / "no.tif", "No such file.*give the path")
    refused(tmp_path, "is a folder")
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "a.tif", "Not a directory")
    with pytest.raises(InputError, match="null"):
        describe(str(tmp_path / "a\0b.tif"))
    os.mkfifo(tmp_path / "pipe.tif")
    refused(tmp_path / "pipe.tif", "not a regular file")


def test_row_01_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", picture(8, 8))
    path.chmod(0)
    mine = os.geteuid()
    if mine == 0:  # root may read everything
        os.seteuid(NOBODY)
    try:
        refused(path, "Permission denied")
    finally:
        os.seteuid(mine)


NOBODY = 65534


NO_RASTER = {
    "empty": (b"", "it is empty"),
    "random": (np.random.default_rng(0).bytes(5000), "not a raster"),
    "html": (b"\n<!DOCTYPE html><html>404", "HTML page"),
    "png": (b"\x89PNG\r\n\x1a\n", "no readable PNG"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n", "no readable JPEG 2000"),
    "zip": (b"PK\x03\x04", "ZIP archive; extract it"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z archive; extract it"),
    "mrsid": (b"msid\1\0", "gdal_translate.*MrSID plugin"),
}


@pytest.mark.parametrize(("content", "match"), NO_RASTER.values(), ids=NO_RASTER)
def test_row_02_what_is_no_raster_is_refused_and_named(tmp_path, content, match):
    (tmp_path / "a.tif").write_bytes(content)
    refused(tmp_path / "a.tif", match)


def test_row_02_ecw_is_refused_by_its_ending(tmp_path):
    (tmp_path / "a.ecw").write_bytes(b"e\2\0\0")
    refused(tmp_path / "a.ecw", "gdal_translate.*ECW plugin")


@pytest.mark.parametrize("keep", [4, 8, 50, 200])
def test_row_03_a_file_cut_in_its_header_is_refused(tmp_path, keep):
    path = write(tmp_path / "a.tif", picture(64, 64), **TILED)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "no readable GeoTIFF|cannot be read")


POINTERS = {
    "vrt": '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    "<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    "raw vrt": '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" '
    'subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename></VRTRasterBand></VRTDataset>',
    "mrf": "<MRF_META><Raster><Size x='8' y='8' c='1'/><DataFile>{secret}</DataFile></Raster></MRF_META>",
}


@pytest.mark.parametrize("text", POINTERS.values(), ids=POINTERS)
def test_row_06_a_pointer_renamed_to_tif_is_not_followed(tmp_path, monkeypatch, text):
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("GDAL must not see it"))
    (tmp_path / "a.tif").write_text(text.format(secret="/etc/passwd"))
    refused(tmp_path / "a.tif", "not followed")


@pytest.mark.parametrize(
    "address",
    [
        "/vsicurl/http://127.0.0.1:{port}/a.tif",
        "http://127.0.0.1:{port}/a.tif",
        "HTTPS://127.0.0.1:{port}/a.tif",
        "/vsizip/vsicurl/http://127.0.0.1:{port}/a.zip/a.tif",
        "zip+http://127.0.0.1:{port}/a.zip!a.tif",
        "/vsizip//tmp/a.zip/a.tif",
        "GTIFF_DIR:1:/tmp/a.tif",
        "GTIFF_RAW:/tmp/a.tif",
        "s3://bucket/a.tif",
        "/vsis3/bucket/a.tif",
        "/vsimem/a.tif",
        "/vsistdin/a.tif",
        "file:///tmp/a.tif",
        "VRT:///tmp/a.tif",
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_row_07_addresses_are_refused_before_anything_is_opened(monkeypatch, address, kind):
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("GDAL must not see it"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        with pytest.raises(InputError, match=r"not a local file.*--allow-remote"):
            describe(kind(address.format(port=server.getsockname()[1])))
        with pytest.raises(TimeoutError):
            server.accept()


def test_row_07_allowed_addresses_reach_gdal_and_only_as_geotiff(tmp_path):
    path = write(tmp_path / "a.tif", picture(8, 8))
    view = make_view(describe(f"GTIFF_DIR:1:{path}", allow_remote=True), model_gsd_m=0.1)
    with pytest.raises(InputError, match="--allow-remote"):
        Source(view)
    with Source(view, allow_remote=True) as source:
        assert (source.read(Box(0, 0, 8, 8))[0] == picture(8, 8)).all()
    (tmp_path / "b.tif").write_text(POINTERS["vrt"].format(secret=path))
    with pytest.raises(InputError, match="no readable GeoTIFF"):
        describe(f"/vsisubfile/0,{tmp_path / 'b.tif'}", allow_remote=True)


HOSTILE = """
    import resource, sys, time
    from aerialseg.errors import InputError
    from aerialseg.raster.describe import describe
    from aerialseg.raster.view import make_view
    for path in sys.argv[1:]:
        start = time.perf_counter()
        try:
            make_view(describe(path), model_gsd_m=0.1)
        except InputError as error:
            print(error)
        assert time.perf_counter() - start < 5, path
    # VmHWM, not ru_maxrss: that one counts what the parent had when it started this process
    peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    assert peak_kb < 500_000
"""


@pytest.mark.slow
def test_row_08_and_row_09_bombs_are_refused_at_once_in_little_memory(tmp_path):
    width, height, bits, compression, photometric, samples = 256, 257, 258, 259, 262, 277
    common = [(compression, 3, 1), (photometric, 3, 1), (bits, 3, 8)]
    (tmp_path / "bands.tif").write_bytes(
        tiff(*common, (width, 3, 16), (height, 3, 16), (samples, 3, 65529), (273, 4, 0), (278, 3, 16), (279, 4, 0))
    )
    tile = [(322, 4, 32768), (323, 4, 32768), (324, 4, 0), (325, 4, 0)]
    (tmp_path / "tile.tif").write_bytes(tiff(*common, (width, 3, 1), (height, 3, 1), (samples, 3, 1), *tile))
    with rasterio.open(
        tmp_path / "sparse.tif",
        "w",
        driver="GTiff",
        width=200_000,
        height=200_000,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=Affine(0.1, 0, 5e5, 0, -0.1, 5e6),
        **{**TILED, "blockxsize": 512, "blockysize": 512},
        sparse_ok=True,
        bigtiff="YES",
    ):
        pass
    paths = [tmp_path / f"{name}.tif" for name in ("bands", "tile", "sparse")]
    assert paths[2].stat().st_size < 4e6
    command = [sys.executable, "-c", textwrap.dedent(HOSTILE), *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert "65,529 bands" in lines[0]
    assert "32768 x 32768" in lines[1]
    assert "TILED=YES" in lines[1]
    assert "40,000,000,000 px to map" in lines[2]
    assert "--max-pixels 10,000,000,000" in lines[2]
    assert len(lines) == 3


def test_row_10_without_crs_it_runs_with_a_note_or_not_at_all(tmp_path, caplog):
    path = write(tmp_path / "plain.tif", picture(8, 8), crs=None, transform=TEN_CM_LOCAL)
    view = view_of(path)
    assert (view.geo.crs, view.gsd_m, view.resampled) == (None, None, False)
    assert view.geo.transform == tuple(TEN_CM_LOCAL)[:6]
    assert "no coordinate system (--crs EPSG:CODE names it)" in view.note
    assert "no coordinate system" in caplog.text
    assert "0.1 units per pixel, lengths and areas 0.02 m" in view_of(path, pixel_size_m=0.02).note
    assert "units per pixel" not in view_of(path, pixel_size_m=0.1).note
    refused(path, r"no coordinate system \(CRS\).*gdal_edit", require_crs=True)


TEN_CM_LOCAL = Affine(0.1, 0, 7, 0, -0.1, 9)


def test_row_10_a_picture_without_any_place_runs_with_a_note_or_not_at_all(tmp_path, recwarn):
    with rasterio.Env(), pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "plain.tif", picture(8, 8), crs=None, transform=Affine.identity())
    info = describe(path)
    assert not info.georeferenced
    assert view_of(path).note.startswith("no georeference; ")
    assert read_all(path)[1].all()
    refused(path, "no transform", require_crs=True)


@pytest.mark.parametrize(
    "transform",
    [Affine(0.08, 0.06, 5e5, 0.06, -0.08, 5e6), Affine(0.1, 0.03, 5e5, 0, -0.1, 5e6), Affine(0.1, 0, 5e5, 0, 0.1, 5e6)],
    ids=["rotated", "sheared", "south-up"],
)
def test_row_11_any_affine_transform_is_carried(tmp_path, transform):
    view = view_of(write(tmp_path / "a.tif", picture(40, 60), transform=transform), model_gsd_m=0.05)
    assert view.geo.at(view.geo.width, view.geo.height) == pytest.approx(transform @ (60, 40), abs=0.5 * 0.05)
    assert view.geo.at(0, 0) == transform @ (0, 0)


def test_row_11_a_view_of_control_points_only_is_refused(tmp_path):
    points = [GroundControlPoint(row, col, 10 + col / 1e5, 50 - row / 1e5) for row in (0, 8) for col in (0, 8)]
    path = tmp_path / "gcp.tif"
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write(path, picture(8, 8), crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, rasterio.CRS.from_epsg(4326)
    refused(path, "ground control points.*gdalwarp -tps")


@pytest.mark.parametrize("bands", [1, 2, 4, 5])
def test_row_12_a_number_of_bands_that_says_nothing_is_refused_with_what_to_type(tmp_path, bands):
    path = write(tmp_path / "a.tif", picture(8, 8, bands), photometric="MINISBLACK")
    message = refused(path, f"has {bands} band.*the model wants 3.*--bands")
    chosen = [int(band) for band in message.rsplit("--bands ", 1)[1].split(",")]
    assert view_of(path, bands=chosen).bands == tuple(chosen)  # what the message proposes works


def test_row_12_alpha_is_a_mask_and_no_band(tmp_path):
    path = write(tmp_path / "a.tif", np.full((4, 8, 8), 255, np.uint8), photometric="RGB", alpha="YES")
    assert (view_of(path).bands, view_of(path).pieces[0].alpha) == ((1, 2, 3), 4)
    refused(path, "there is no band 5", bands=(1, 2, 5))
    refused(path, "there is no band 0", bands=(0, 1, 2))
    refused(path, "the model wants 3", bands=(1, 2))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int8", "uint32"])
def test_row_13_other_types_need_a_scale(tmp_path, dtype):
    path = write(tmp_path / "a.tif", np.ones((3, 8, 8), dtype))
    refused(path, f"holds {dtype}.*--scale LOW,HIGH.* 'gdalinfo -mm FILE'")
    assert read_all(path, scale=(0, 1))[0].min() == 255


@pytest.mark.parametrize(
    "options",
    [{"scale": (3, 3)}, {"scale": (0, np.nan)}, {"resolution_m": 0}, {"resolution_m": np.nan}, {"pixel_size_m": "x"}],
)
def test_row_13_and_row_28_options_that_make_no_sense_are_refused(tmp_path, options):
    path = write(tmp_path / "a.tif", picture(8, 8))
    with pytest.raises(UsageError, match=f"--{next(iter(options)).removesuffix('_m').replace('_', '-')} .*wanted"):
        view_of(path, **options)


def test_row_13_a_scale_is_shown_as_the_command_line_takes_it(tmp_path):
    path = write(tmp_path / "a.tif", picture(8, 8))
    with pytest.raises(UsageError, match=r"--scale 3,3: .*such as 0,4095"):
        view_of(path, scale=(3, 3))


def test_row_13_complex_numbers_have_no_scale(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((3, 8, 8), np.complex64))
    refused(path, "complex", scale=(0, 1))


def test_row_14_all_nodata_is_no_error(tmp_path):
    pixels, valid = read_all(write(tmp_path / "a.tif", np.zeros((3, 40, 40), np.uint8), nodata=0), model_gsd_m=0.07)
    assert not valid.any()
    assert not pixels.any()


def test_row_16_a_palette_is_refused_with_the_way_out(tmp_path):
    path = write(tmp_path / "a.tif", picture(8, 8, 1), photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (1, 2, 3, 255)})
    refused(path, "gdal_translate -expand rgb")
    refused(path, "gdal_translate -expand rgb", bands=(1, 1, 1))


def test_row_16_products_have_our_profile_whatever_the_inputs_is(tmp_path):
    smooth = np.linspace(0, 255, 64 * 64).reshape(1, 64, 64).repeat(3, 0).astype(np.uint8)
    path = write(tmp_path / "a.tif", smooth, compress="jpeg", photometric="YCbCr", interleave="pixel", **TILED)
    segment(path, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", confidence=tmp_path / "sure.tif")
    for name in ("c.tif", "sure.tif"):
        with rasterio.open(tmp_path / name) as made:
            assert (made.profile["compress"], made.profile.get("photometric")) == ("deflate", None)
            assert (made.count, made.dtypes, made.nodata) == (1, ("uint8",), 255)


def test_row_28_imagery_much_coarser_than_the_model_is_refused_and_other_is_resampled(tmp_path):
    path = write(tmp_path / "a.tif", picture(100, 200), transform=Affine(1, 0, 5e5, 0, -1, 5e6))
    refused(path, "20 times coarser.*5 cm.*--resolution native", model_gsd_m=0.05)
    assert view_of(path, model_gsd_m=0.25).resampled
    assert view_of(path, model_gsd_m=0.05, resolution_m="native").shape == (100, 200)
    assert view_of(path, model_gsd_m=0.05, resolution_m=0.5).shape == (200, 400)
    refused(path, "px to map.*--max-pixels 1,000,000", model_gsd_m=0.05, resolution_m=0.05, max_pixels=1_000_000)


def test_row_28_a_resolution_that_the_user_chose_against_the_models_is_said_and_stays_in_the_metadata(
    tmp_path,
):
    path = write(tmp_path / "a.tif", picture(64, 64))
    assert "poor" not in view_of(path, model_gsd_m=0.108, resolution_m="native").note
    assert "poor" not in view_of(path, model_gsd_m=0.05).note
    finer = view_of(path, model_gsd_m=0.2, resolution_m="native").note
    assert finer == "10 cm per pixel, used as it is, 2 times finer than the model's 20 cm: expect a poorer map"
    assert "4 times coarser than the model's 5 cm" in view_of(path, model_gsd_m=0.05, resolution_m=0.2).note
    coarse = write(tmp_path / "coarse.tif", picture(64, 64), transform=Affine(1, 0, 5e5, 0, -1, 5e6))
    result = segment(coarse, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", resolution_m="native")
    warning = "10 times coarser than the model's 10 cm: expect a wrong map"
    assert warning in result.plan.summary
    with rasterio.open(tmp_path / "c.tif") as made:
        assert warning in made.tags()["source_note"]


NAMES = [
    "with space.tif",
    "ümläut 地.tif",
    "new\nline.tif",
    "-dash.tif",
    "a#b?c=1&d!e.tif",
    "x" * 251 + ".tif",
    "a:b.tif",
]


@pytest.mark.parametrize("name", NAMES)
def test_row_25_an_input_of_any_file_name_works(tmp_path, monkeypatch, name):
    write(tmp_path / "a.tif", picture(8, 8)).rename(tmp_path / name)
    assert read_all(tmp_path / name)[1].all()
    monkeypatch.chdir(tmp_path)
    assert describe(name).path == str(tmp_path / name)
    with pytest.raises(InputError) as caught:
        view_of(name, bands=(9, 9, 9))
    assert "\n" not in str(caught.value)
