"""Cloud Optimized GeoTIFFs: valid, coloured, named, the same bytes each time, readable by GDAL and QGIS."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from aerialseg.errors import OutputError
from aerialseg.legend import LandClass, Legend
from aerialseg.raster.cog import aux_path, write_cog
from aerialseg.raster.opening import has_transform
from tests.qgis_runner import run_qgis
from tests.raster.drawing import TILED, write

LEGEND = Legend(
    (
        LandClass(0, "grass & <herbs>", (0, 200, 0)),
        LandClass(1, "Straße", (128, 128, 128)),
        LandClass(2, "tree", (0, 90, 0)),
        LandClass(5, "water", (0, 0, 250)),
    )
)


def classes(height: int, width: int) -> np.ndarray:
    ids = np.array([0, 1, 2, 5, 255], np.uint8)
    return ids[np.add.outer(np.arange(height) // 40, np.arange(width) // 70) % 5][None]


def draw(path: Path, pixels: np.ndarray) -> Path:
    return write(path, pixels, nodata=255, compress="zstd", **TILED)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (90, 70), (512, 512), (513, 40), (1100, 1300)])
@pytest.mark.parametrize("legend", [LEGEND, None], ids=["classes", "confidence"])
def test_it_is_a_valid_cog_with_the_same_pixels(tmp_path, shape, legend):
    source, target = draw(tmp_path / "source.tif", classes(*shape)), tmp_path / "cog.tif"
    before = source.read_bytes()
    write_cog(source, target, legend=legend, metadata={"title": "a <b> & ü", "n": "1"})
    valid, errors, warnings = cog_validate(str(target), strict=True, quiet=True)
    assert valid, (errors, warnings)
    with rasterio.open(target) as dataset:
        assert (dataset.read() == classes(*shape)).all()
        assert (dataset.nodata, dataset.compression.name) == (255, "deflate")
        assert dataset.tags()["title"] == "a <b> & ü"
        assert dataset.transform == rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
        assert dataset.crs.to_epsg() == 32633
        assert dataset.overviews(1) == ([2, 4] if max(shape) > 1024 else [2] if max(shape) > 512 else [])
    names = [source.name, target.name] + ([aux_path(target).name] if legend else [])
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert source.read_bytes() == before


def test_overviews_of_classes_take_the_most_frequent_and_never_nodata(tmp_path):
    pixels = np.full((1, 1024, 1024), 255, np.uint8)
    pixels[0, ::2] = 5
    pixels[0, 1::2, ::2] = 2
    write_cog(draw(tmp_path / "a.tif", pixels), tmp_path / "cog.tif", legend=LEGEND, metadata={})
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as dataset:
        assert (dataset.read(1) == 5).all()


def test_overviews_of_confidence_average_what_is_valid(tmp_path):
    pixels = np.full((1, 1024, 1024), 255, np.uint8)
    pixels[0, ::2], pixels[0, 1::2, ::2] = 40, 70
    write_cog(draw(tmp_path / "a.tif", pixels), tmp_path / "cog.tif", legend=None, metadata={})
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as dataset:
        assert (dataset.read(1) == 50).all()
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert dataset.descriptions == ("confidence, per cent",)
        assert dataset.colorinterp[0].name == "gray"


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(tmp_path):
    source = draw(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 3, (1, 1500, 1500), dtype=np.uint8))
    for name in ("b.tif", "c.tif"):
        write_cog(source, tmp_path / name, legend=LEGEND, metadata={"a": "1"})
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "c.tif").read_bytes()


@pytest.mark.parametrize("stored", [True, False])
def test_a_raster_without_a_place_keeps_what_it_stores(tmp_path, stored):
    place = {"transform": rasterio.Affine.identity()} if stored else {"transform": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        source = write(tmp_path / "a.tif", classes(9, 9), nodata=255, crs=None, **place)
        write_cog(source, tmp_path / "cog.tif", legend=LEGEND, metadata={})
        with rasterio.open(source) as given, rasterio.open(tmp_path / "cog.tif") as made:
            assert has_transform(given) == has_transform(made) == stored
            assert made.crs is None
            assert (made.read() == classes(9, 9)).all()


@pytest.mark.parametrize("legend", [LEGEND, None], ids=["classes", "confidence"])
def test_statistics_are_in_the_file_and_gdal_measures_the_same(tmp_path, legend):
    pixels = classes(300, 400) if legend else np.where(classes(300, 400) == 255, 255, 20 + 7 * classes(300, 400))
    write_cog(
        draw(tmp_path / "source.tif", pixels.astype(np.uint8)), path := tmp_path / "cog.tif", legend=legend, metadata={}
    )
    with rasterio.open(path) as dataset:
        tags = dataset.tags(1)
    valid = pixels[pixels != 255].astype(float)
    low, high = (valid.min(), valid.max()) if legend else (0, 100)
    assert [float(tags[f"STATISTICS_{name}"]) for name in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")] == pytest.approx(
        [low, high, valid.mean(), valid.std()], rel=1e-5
    )
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(100 * len(valid) / pixels.size, rel=1e-3)


def test_a_raster_of_nodata_has_no_statistics(tmp_path):
    source = draw(tmp_path / "source.tif", np.full((1, 30, 40), 255, np.uint8))
    write_cog(source, path := tmp_path / "cog.tif", legend=None, metadata={})
    with rasterio.open(path) as dataset:
        assert not [name for name in dataset.tags(1) if name.startswith("STATISTICS")]


@pytest.mark.qgis
def test_qgis_stretches_two_confidence_rasters_alike_and_writes_nothing_beside_them(tmp_path):
    for name, values in (("low", (20, 60)), ("high", (90, 99))):
        pixels = np.linspace(*values, 300 * 400).reshape(1, 300, 400).astype(np.uint8)
        write_cog(draw(tmp_path / "source.tif", pixels), tmp_path / f"{name}.tif", legend=None, metadata={})
    (tmp_path / "source.tif").unlink()
    script = """
answer["ranges"] = []
for path in args:
    layer = QgsRasterLayer(path, "confidence")
    layer.setDefaultContrastEnhancement()
    stretch = layer.renderer().contrastEnhancement()
    found = layer.dataProvider().bandStatistics(1, QgsRasterBandStats.Min | QgsRasterBandStats.Max)
    answer["ranges"].append([stretch.minimumValue(), stretch.maximumValue(), found.minimumValue, found.maximumValue])
"""
    assert run_qgis(script, *(str(tmp_path / f"{name}.tif") for name in ("low", "high"))) == {
        "ranges": [[0, 100, 0, 100]] * 2
    }
    assert sorted(os.listdir(tmp_path)) == ["high.tif", "low.tif"]


def test_confidence_drops_the_names_of_an_older_raster(tmp_path):
    source = draw(tmp_path / "a.tif", classes(9, 9))
    write_cog(source, tmp_path / "cog.tif", legend=LEGEND, metadata={})
    write_cog(source, tmp_path / "cog.tif", legend=None, metadata={})
    assert not aux_path(tmp_path / "cog.tif").exists()


@pytest.mark.parametrize("name", ["with space.tif", "ü地 & <x> 'q'.tif", "-dash.tif", "100%.tif", "new\nline.tif"])
def test_odd_names(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    source = draw(folder / "a.tif", classes(30, 40)).rename(folder / name)
    write_cog(source, folder / ("cog" + name), legend=LEGEND, metadata={})
    assert sorted(os.listdir(folder)) == sorted([name, "cog" + name, "cog" + name + ".aux.xml"])


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    source = draw(tmp_path / "a.tif", classes(9, 9))
    for target in (tmp_path / "missing" / "cog.tif", source / "cog.tif", tmp_path / ("x" * 250 + ".tif")):
        with pytest.raises(OutputError, match=r"cannot write .*tif"):
            write_cog(source, target, legend=LEGEND, metadata={})
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not there; apt-get install gdal-bin")
def test_gdal_shows_names_colours_and_table(tmp_path):
    write_cog(draw(tmp_path / "a.tif", classes(90, 80)), tmp_path / "cog.tif", legend=LEGEND, metadata={})
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GDAL", "PROJ"))}
    text = subprocess.run(
        ["gdalinfo", str(tmp_path / "cog.tif")], capture_output=True, text=True, check=True, env=clean
    ).stdout
    assert "ColorInterp=Palette" in text
    assert "0: grass & <herbs>\n" in text
    assert "5: water\n" in text
    assert "1: 128,128,128,255" in text
    assert "Color Table (RGB with 6 entries)" in text
    assert text.count("<Row index=") == 4
    for name, usage in (("value", 5), ("name", 2), ("r", 6), ("g", 7), ("b", 8)):
        head = text[text.index(f"<Name>{name}</Name>") :]
        assert head[: head.index("</FieldDefn>")].split("<Usage>")[1].startswith(f"{usage}<")


def test_rasterio_has_the_colours_without_the_file_beside(tmp_path):
    write_cog(draw(tmp_path / "a.tif", classes(90, 80)), tmp_path / "cog.tif", legend=LEGEND, metadata={})
    aux_path(tmp_path / "cog.tif").unlink()
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert dataset.colormap(1)[5] == (0, 0, 250, 255)


QGIS = """
layer = QgsRasterLayer(args[0], "map")
renderer = layer.renderer()
answer = {"valid": layer.isValid(), "type": renderer.type(), "crs": layer.crs().authid()}
if renderer.type() == "paletted":
    answer["classes"] = [[int(entry.value), entry.label, entry.color.name()] for entry in renderer.classes()]
answer["nodata"] = layer.dataProvider().sourceNoDataValue(1)
"""


@pytest.mark.qgis
def test_qgis_shows_the_classes_by_name_and_colour_and_nothing_else(tmp_path):
    legend = Legend(tuple(LandClass(i, f"class {i} ü", (i, 2 * i, 255 - i)) for i in range(24)))
    pixels = (np.arange(600 * 600).reshape(1, 600, 600) // 999 % 24).astype(np.uint8)
    write_cog(draw(tmp_path / "a.tif", pixels), tmp_path / "cog.tif", legend=legend, metadata={})
    answer = run_qgis(QGIS, tmp_path / "cog.tif")
    assert (answer["valid"], answer["type"], answer["crs"], answer["nodata"]) == (True, "paletted", "EPSG:32633", 255)
    assert answer["classes"] == [[entry.id, entry.name, entry.hex] for entry in legend]
    write_cog(tmp_path / "a.tif", tmp_path / "conf.tif", legend=None, metadata={})
    assert run_qgis(QGIS, tmp_path / "conf.tif")["type"] == "singlebandgray"
