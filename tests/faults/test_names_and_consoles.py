"""FAULTS.md 25, 41 and the hints of 26: names that few expect, consoles that cannot show them, advice that is right."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from aerialseg.cli.batch_commands import _events
from aerialseg.datasets.chips import make_chips
from aerialseg.errors import AerialsegError, InputError, OutputError, UsageError
from aerialseg.evaluation.map_accuracy import assess_map
from aerialseg.legend import LandClass, Legend
from aerialseg.mapping.polygonize import polygonize
from aerialseg.mapping.segment import segment
from aerialseg.raster.describe import describe
from aerialseg.raster.features import open_features
from aerialseg.raster.opening import local_path, without_georef_warnings
from aerialseg.raster.view import make_view
from tests.batch.conftest import draw
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle
from tests.vector.drawn import NORTH_UP, blobs, write

NAMES = ["!orthos", "a;b!c?", "line\nbreak", "-dash", "Zdjęcia łąka #%&'\""]
NOT_UTF_8 = "\udcff"
TWO = Legend((LandClass(0, "a", (1, 1, 1)), LandClass(1, "b", (200, 2, 2))))
MARS = (
    'PROJCS["Mars eqc",GEOGCS["GCS_Mars_2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000",3396190,169.894447]],'
    'PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]],PROJECTION["Equirectangular"],'
    'PARAMETER["central_meridian",180],PARAMETER["standard_parallel_1",0],UNIT["Meter",1]]'
)


def halves(name: Path, **options: object) -> Path:
    """Two polygons, a and b, over 4.8 m x 4.8 m of the drawn orthophoto."""
    boxes = [shapely.box(500_000 + x, 5_000_000 - 4.8, 500_002.4 + x, 5_000_000) for x in (0, 2.4)]
    geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=boxes, crs=32633).to_file(name, **options)
    return name


def run(*arguments: str | Path, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """``aerialseg`` as a process of its own, with the redirections of ``shell``."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "aerialseg", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["gpkg", "fgb"])
def test_row_25_outputs_of_any_folder_and_name_arrive_there_and_nowhere_else(tmp_path, name, ending):
    (tmp_path / name).mkdir()
    source = draw(tmp_path / name / "ortho.tif", land_cover(48, 48))
    layer, raster = tmp_path / name / f"{name}.{ending}", tmp_path / name / f"{name}.tif"
    made = segment(source, layer, model=Oracle(), raster=raster, dissolve=True)
    again = polygonize(raster, layer, overwrite=True)
    assert all(path.is_file() for path in (*made.paths, *again.paths))
    assert os.listdir(tmp_path) == [name]
    assert not [entry for entry in os.listdir(tmp_path / name) if "part" in entry]


def test_row_25_an_output_whose_name_or_folder_is_not_utf_8_is_refused_at_once(tmp_path):
    source = draw(tmp_path / "ortho.tif", land_cover(48, 48))
    (tmp_path / NOT_UTF_8).mkdir()
    for layer in (tmp_path / NOT_UTF_8 / "lc.gpkg", tmp_path / f"{NOT_UTF_8}.gpkg"):
        with pytest.raises(OutputError, match="not valid UTF-8"):
            segment(source, layer, model=Oracle())
    assert not os.listdir(tmp_path / NOT_UTF_8)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, NOT_UTF_8])
@pytest.mark.parametrize("ending", ["gpkg", "shp", "fgb", "geojson"])
def test_row_25_labels_of_any_folder_and_name_are_read(tmp_path, name, ending):
    (tmp_path / name).mkdir()
    plain = halves(tmp_path / f"labels.{ending}")
    for part in tmp_path.glob("labels.*"):
        part.rename(tmp_path / name / f"{name}{part.suffix}")
    labels = tmp_path / name / f"{name}{plain.suffix}"
    classes = write(tmp_path / "classes.tif", np.repeat([[0, 1]], 48, axis=0).repeat(24, axis=1), NORTH_UP)
    found = open_features(labels, "class")
    assert sorted(found.values) == ["a", "b"]
    assert len(found.near(found.bounds)[1]) == 2
    assert assess_map(classes, labels, legend=TWO).confusion.counts.sum() > 0


def test_row_25_chips_are_cut_below_a_folder_of_any_name(tmp_path):
    (tmp_path / "!data;").mkdir()
    ortho = draw(tmp_path / "!data;" / "ortho.tif", np.tile(land_cover(128, 128), (1, 2, 2)))
    boxes = [shapely.box(500_000 + x, 5_000_000 - 25.6, 500_003.2 + x, 5_000_000) for x in np.arange(0, 25.6, 3.2)]
    frame = geopandas.GeoDataFrame({"class": ["a", "b"] * 4}, geometry=boxes, crs=32633)
    frame.to_file(tmp_path / "labels.gpkg")
    (tmp_path / "labels.gpkg").rename(tmp_path / "!data;" / "!labels.gpkg")
    out = tmp_path / "!data;" / "set"
    make_chips(
        [ortho],
        tmp_path / "!data;" / "!labels.gpkg",
        out,
        legend=TWO,
        size=(64, 64),
        resolution_m="native",
        block_m=6.4,
    )
    assert (out / "chips.gpkg").stat().st_size
    assert os.listdir(tmp_path) == ["!data;"]


def test_row_25_a_layer_beside_others_in_a_folder_with_an_exclamation_mark(tmp_path):
    (tmp_path / "!x").mkdir()
    halves(tmp_path / "p.gpkg", layer="parcels")
    place = (tmp_path / "p.gpkg").rename(tmp_path / "!x" / "p.gpkg")
    polygonize(write(tmp_path / "c.tif", blobs(40, 40)), place, overwrite=True)
    with closing(sqlite3.connect(place)) as database:
        found = database.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchall()
    assert {name for (name,) in found} == {"parcels", "landcover"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".gpkg", ".fgb"])
@pytest.mark.parametrize("length", [245, 250, 255, 256])
@pytest.mark.parametrize("letter", ["n", "ł"])
def test_row_25_a_long_name_works_or_is_refused_before_the_network_runs(tmp_path, ending, length, letter):
    source = draw(tmp_path / "ortho.tif", land_cover(48, 48))
    count, rest = divmod(length - len(ending), len(letter.encode()))
    layer = tmp_path / (letter * count + "n" * rest + ending)
    asked: list[str] = []

    class Watched(Oracle):
        def predict(self, tile):
            asked.append("network")
            return super().predict(tile)

    for work in (
        lambda: segment(source, layer, model=Watched(), dissolve=True, overwrite=True),
        lambda: polygonize(write(tmp_path / "c.tif", blobs(40, 40)), layer, overwrite=True, dissolve=True),
    ):
        asked.clear()
        try:
            assert all(path.is_file() for path in work().paths)
        except OutputError:
            assert not asked


@pytest.mark.slow
def test_row_41_a_name_that_the_console_cannot_show_is_escaped_and_the_run_has_succeeded(tmp_path):
    classes = write(tmp_path / "c.tif", blobs(40, 40))
    done = run("polygonize", classes, tmp_path / "łąka.gpkg", "--overwrite", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/\\u0142\\u0105ka.gpkg\n"), done.stderr


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("shell", [">/dev/full", "2>/dev/full", ">&- 2>&-"])
def test_row_41_a_console_that_is_closed_or_full_leaves_the_exit_code_as_it_is(tmp_path, shell):
    classes = write(tmp_path / "c.tif", blobs(40, 40))
    assert run("polygonize", classes, tmp_path / "a.gpkg", shell=shell).returncode == 0
    assert (tmp_path / "a.gpkg").is_file()
    assert run("polygonize", classes, tmp_path / "a.gpkg", shell=shell).returncode == 2
    for command in (("model", "list"), ("model", "show", "--json")):
        assert run(*command, shell=shell).returncode == 0, command


def test_row_41_a_full_log_of_a_batch_leaves_the_exit_code_as_it_is_and_is_said(capsys):
    with _events("/dev/full", quiet=True) as events:
        events.say("done", "a message that does not fit")
    assert "warning: the log /dev/full is not complete: No space left" in capsys.readouterr().err
    with _events("-", quiet=True) as events:
        events.say("done", "a message")
    assert json.loads(capsys.readouterr().err)["message"] == "a message"


@pytest.mark.slow
def test_row_41_events_to_a_full_console_leave_the_exit_code_as_it_is(tmp_path):
    draw(tmp_path / "in/a.tif", land_cover(48, 48) * 30)
    job = tmp_path / "job.toml"
    job.write_text('[inputs]\nglob = "in/*.tif"\n[outputs]\nlayer = "{stem}.gpkg"\n[settings]\nresolution = "native"\n')
    done = run("batch", job, "--json-log", "-", shell="2>/dev/full")
    assert (done.returncode, (tmp_path / "a.gpkg").is_file()) == (0, True)


@pytest.mark.slow
def test_row_41_models_as_json_are_json_in_any_encoding():
    done = run("model", "show", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["name"]


def advised(path: Path, message: str, *options: str) -> Path:
    """The file made by the gdal_translate that the message advises."""
    assert "gdal_translate" in message
    made = path.with_name(f"advised-{path.stem}.tif")
    subprocess.run(["gdal_translate", "-q", *options, path, made], check=True)
    return made


def refusal(work: object, kind: type[AerialsegError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        work()  # type: ignore[operator]
    return str(caught.value)


def test_hints_for_files_that_are_no_geotiff_say_what_helps(tmp_path):
    from PIL import Image

    for content, advice in ((b"", "export it again"), (b"<html>", "fetch it again"), (b"PK\3\4", "extract it")):
        (tmp_path / "a.tif").write_bytes(content)
        message = refusal(lambda: local_path(tmp_path / "a.tif"))
        assert advice in message
        assert "gdal_translate" not in message
    for name in ("a.bmp",):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
        message = refusal(lambda name=name: local_path(tmp_path / name))
        assert describe(advised(tmp_path / name, message, "-of", "GTiff")).geo.shape == (8, 8)


def test_hints_for_scale_give_the_values_of_the_file(write_raster: WriteRaster, tmp_path):
    pixels = (land_cover(48, 48) * 16).astype(np.uint16)
    bits = describe(write_raster(pixels, "bits.tif", nbits=12))
    assert "--scale 0,4095" in refusal(lambda: make_view(bits, model_gsd_m=None))
    for dtype in ("int16", "uint16", "float32"):
        path = write_raster(pixels.astype(dtype), f"{dtype}.tif")
        message = refusal(lambda path=path: make_view(describe(path), model_gsd_m=None))
        assert "gdalinfo -mm" in message
        said = subprocess.run(["gdalinfo", "-mm", path], check=True, capture_output=True, text=True).stdout
        assert "Computed Min/Max=" in said


def test_hints_for_a_codec_that_is_lacking_name_it(write_raster: WriteRaster):
    path = write_raster(land_cover(16, 16))
    content = bytearray(path.read_bytes())
    place = struct.unpack("<I", content[4:8])[0]
    for entry in range(place + 2, place + 2 + 12 * struct.unpack("<H", content[place : place + 2])[0], 12):
        if struct.unpack("<H", content[entry : entry + 2])[0] == 259:
            content[entry + 8 : entry + 10] = struct.pack("<H", 50002)
    path.write_bytes(content)
    message = refusal(lambda: describe(path))
    assert "JXL" in message
    assert "damaged" not in message
    assert "fetch" not in message


def test_hints_for_a_mask_of_another_raster_name_the_mask(write_raster: WriteRaster):
    path = write_raster(land_cover(64, 64))
    with (
        without_georef_warnings(),
        rasterio.open(f"{path}.msk", "w", driver="GTiff", count=1, height=32, width=32, dtype="uint8") as file,
    ):
        file.update_tags(INTERNAL_MASK_FLAGS_1="2", INTERNAL_MASK_FLAGS_2="2", INTERNAL_MASK_FLAGS_3="2")
    assert refusal(lambda: describe(path)).endswith("move it elsewhere")
    Path(f"{path}.msk").unlink()
    assert describe(path).mask == "none"


def test_hints_for_labels_say_what_is_wrong_with_them(tmp_path):
    labels = halves(tmp_path / "l.shp")
    (tmp_path / "l.dbf").unlink()
    assert "l.dbf" in refusal(lambda: open_features(labels, "class"))
    frame = geopandas.GeoDataFrame({"class": ["a"]}, geometry=[shapely.box(388000, 5819998, 388001, 5820000)])
    features = json.loads(frame.to_json())["features"]
    (tmp_path / "l.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert "EPSG:4326" in refusal(lambda: open_features(tmp_path / "l.geojson", "class"))


@pytest.mark.slow
def test_hints_for_labels_that_another_program_has_locked_say_so(tmp_path):
    labels = halves(tmp_path / "l.gpkg")
    lock = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); d.execute('BEGIN EXCLUSIVE')"
    command = [sys.executable, "-c", f"{lock}; print(flush=True); sys.stdin.read()", labels]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert refusal(lambda: open_features(labels, "class")).endswith("close it in the other program")
        other.communicate(b"")
    assert len(open_features(labels, "class").fids) == 2


@pytest.mark.parametrize("layer", ["[x]", "-x", "gpkg", "gpkgx", "", " ", "x\1", "sqlite_x", "rtree_x"])
def test_hints_for_a_layer_name_are_about_the_name(tmp_path, layer):
    classes = write(tmp_path / "c.tif", blobs(40, 40))
    assert "--layer" in refusal(lambda: polygonize(classes, tmp_path / "o.gpkg", layer=layer), UsageError)


@pytest.mark.slow
def test_hints_for_another_planet_name_a_format_that_works(tmp_path):
    classes = write(tmp_path / "c.tif", blobs(40, 40), crs=MARS)
    assert "write .gpkg" in refusal(lambda: polygonize(classes, tmp_path / "o.geojson"), UsageError)
    assert polygonize(classes, tmp_path / "o.gpkg").polygons
