"""FAULTS.md 24, 38: no hint destroys data. Each command that a message names is run on the file that provoked it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint

import aerialseg
from aerialseg.datasets.chips import _check_alike
from aerialseg.datasets.images import read_image
from aerialseg.errors import AerialsegError, OutputError
from aerialseg.raster.bounds import check_comparable
from aerialseg.raster.classes import ClassRaster
from aerialseg.raster.describe import describe
from aerialseg.raster.features import open_features
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.raster.view import View, make_view
from tests.conftest import land_cover
from tests.faults.test_outputs import project, rows
from tests.faults.test_sidecars import OVERVIEW_FILE, grid_file, pam

SIDE = 48
GRID = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
VALUE = r"(?!IN\b|OUT\b|FILE\b)(?:Byte|GTiff|PROFILE=GeoTIFF|rgba|average|bilinear|[A-Z0-9:=_?]+)(?![A-Za-z])"
TOOLS = re.compile(rf"(?:gdal_translate|gdal_edit\.py|gdalwarp|ogr2ogr)(?: \?| -[a-z_]+(?: {VALUE})*)*")
"""A command in a message, as far as its options; ``?`` stands for what is filled in."""
VALUES = {
    "EPSG:CODE": "EPSG:32633", "ULX": "500000", "ULY": "5000000", "LRX": "500004.8", "LRY": "4999995.2",
    "X": "0", "Y": "0", "COLUMNS": "10", "ROWS": "10",
}  # fmt: skip
LARGE = ("many bands", "metadata")
AS_OTHERS = {
    "gdal_translate -co COMPRESS=DEFLATE": "wants a codec that rasterio lacks and Debian's GDAL has",
    "gdalwarp -rpc -r bilinear -dstalpha": "as with control points, -tps",
    "gdal_translate -ot Byte -scale 0 65535 0 255": "as -scale 0 4095",
    "gdal_translate -of GTiff -co COMPRESS=DEFLATE -co TILED=YES": "for ECW and MrSID, whose plugins Debian lacks",
    "gdal_translate -a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY": "as gdal_edit.py with these",
    "gdal_translate -ot Byte -scale LOW HIGH 0 255": "as -scale 0 4095",
}


def draw(
    path: Path,
    pixels: np.ndarray | None = None,
    crs: str | None = "EPSG:32633",
    at: Affine | None = GRID,
    **more: object,
) -> Path:
    pixels = land_cover(SIDE, SIDE) * 40 if pixels is None else pixels
    count, height, width = pixels.shape
    with without_georef_warnings(), rasterio.open(
        path, "w", "GTiff", width, height, count, crs, at, pixels.dtype, **more
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def classes(path: Path, **more: object) -> Path:
    return draw(path, land_cover(SIDE, SIDE)[:1], **more)


def view(path: Path, **options: object) -> View:
    return make_view(describe(path), model_gsd_m=None, **options)


def pixels_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(bands, valid) of a raster, as GDAL has them; alpha is no band."""
    with without_georef_warnings(), rasterio.open(path) as file:
        bands = [band for band, color in zip(file.indexes, file.colorinterp, strict=True) if color.name != "alpha"]
        return file.read(bands), file.dataset_mask() > 0


def same_pixels(before: Path, after: Path) -> None:
    (one, valid), (other, still_valid) = pixels_of(before), pixels_of(after)
    assert (one == other[: len(one)]).all()
    assert (valid == still_valid).all()


def same_where_valid(before: Path, after: Path) -> None:
    (one, valid), (other, still_valid) = pixels_of(before), pixels_of(after)
    assert (valid == still_valid).all()
    assert (one[:, valid] == other[:, valid]).all()


def warped(before: Path, after: Path) -> None:
    """Values stay in their place, nothing is made up around them, and what was invalid stays so."""
    (one, valid), (other, still_valid) = pixels_of(before), pixels_of(after)
    assert valid.mean() / 2 < still_valid.mean() < valid.mean() + 0.01
    assert abs(float(one[:, valid].mean()) - float(other[:, still_valid].mean())) < 2


@dataclass(frozen=True, slots=True)
class Row:
    """``ask`` says ``command`` (raises or warns) of the file that ``make`` draws, and no more of the one advised."""

    command: str
    make: Callable[[Path], Path]
    ask: Callable[[Path], object]
    kept: Callable[[Path, Path], None] = same_pixels
    values: dict[str, str] = field(default_factory=dict)
    more: str = ""


def as_drawn(_: Path, after: Path) -> None:
    """Where the file itself cannot be read."""
    assert (pixels_of(after)[0] == land_cover(SIDE, SIDE) * 40).all()


def many_bands(path: Path) -> Path:
    return draw(path, np.arange(4097 * 4, dtype=np.uint8).reshape(4097, 2, 2), interleave="pixel")


def first_bands(before: Path, after: Path) -> None:
    assert (pixels_of(before)[0][:3] == pixels_of(after)[0]).all()


def palette(path: Path) -> Path:
    draw(path, land_cover(SIDE, SIDE)[:1], nodata=0, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {value: (value * 50, value * 20, 255 - value, 255) for value in range(6)})
    return path


def expanded(before: Path, after: Path) -> None:
    (ids, valid), (colors, still_valid) = pixels_of(before), pixels_of(after)
    assert (valid == still_valid).all()
    assert (colors == np.stack([ids[0] * 50, ids[0] * 20, 255 - ids[0]]))[:, valid].all()


def nodata_of_each_band(path: Path) -> Path:
    pixels = land_cover(SIDE, SIDE) * 40
    pixels[:, :9] = np.array([0, 255, 255])[:, None, None]
    pixels[0, 9:20] = 0
    values = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for band, value in ((1, 0), (2, 255), (3, 255))
    )
    Path(f"{draw(path, pixels)}.aux.xml").write_text(f"<PAMDataset>{values}</PAMDataset>")
    return path


def text_that_points(path: Path) -> Path:
    source = draw(path.with_name("tile.tif"))
    subprocess.run(["gdalbuildvrt", "-q", path, source], check=True)
    return path


def with_grid(path: Path) -> Path:
    (path.parent / "grid.gsb").touch()
    grid_file(draw(path), path.parent / "grid.gsb")
    return path


def much_metadata(path: Path) -> Path:
    with rasterio.open(draw(path), "r+") as file:
        file.update_tags(log="x" * 17_000_000)
    return path


def with_overviews_elsewhere(path: Path) -> Path:
    Path(f"{draw(path)}.aux.xml").write_text(pam(OVERVIEW_FILE)(path.with_name("other.ovr")))
    return path


def by_points(draws: Callable[..., Path]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        draws(path, at=None)
        corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]
        turned = GRID @ Affine.rotation(20)  # the corners of the warped raster are empty
        with without_georef_warnings(), rasterio.open(path, "r+") as file:
            file.gcps = [GroundControlPoint(row, col, *(turned @ (col, row))) for row, col in corners], "EPSG:32633"
        return path

    return make


def warped_classes(before: Path, after: Path) -> None:
    counts = np.bincount(pixels_of(before)[0].ravel())
    found, valid = pixels_of(after)
    assert np.allclose(np.bincount(found[0][valid]), counts, atol=0.05 * counts.sum())
    assert ClassRaster(after).geo.crs


def ask_mosaic(path: Path) -> View:
    beside = [draw(path.with_name(f"{name}.tif")) for name in "xyz"]  # three say what the mosaic is
    return make_view([describe(one) for one in (*beside, path)], model_gsd_m=None)


def half_masked(path: Path, side: int = SIDE) -> Path:
    draw(path, land_cover(side, side) * 40)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.repeat([[255, 0]], side // 2, axis=1).repeat(side, axis=0).astype(np.uint8))
    return path


def ask_small_blocks(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aerialseg.raster.describe.MAX_BLOCK_BYTES", 400_000)  # of 1 GiB: a test need not hold that
        describe(path)


def labels(path: Path) -> Path:
    import geopandas

    boxes = [shapely.box(500_000 + x, 4_999_996, 500_001 + x, 5_000_000) for x in (0, 2)]
    place = path.with_suffix(".shp")
    geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=boxes, crs=32633).to_file(place)
    place.with_suffix(".prj").unlink()
    return place


def same_features(before: Path, after: Path) -> None:
    import geopandas

    one, other = geopandas.read_file(before), geopandas.read_file(after)
    assert list(one["class"]) == list(other["class"])
    assert (one.geometry.to_wkb() == other.geometry.to_wkb()).all()


def ask_labels(path: Path) -> None:
    check_comparable(path, open_features(path, "class").crs, "ortho.tif", "EPSG:32633")


def ask_pair(path: Path) -> None:
    _check_alike([view(draw(path.with_name("first.tif"))), view(path)])


def globe(path: Path) -> Path:
    side = 17_000_000
    return classes(path, crs="ESRI:54030", at=Affine(2 * side / SIDE, 0, -side, 0, -side / SIDE, side / 2))


def dark_image(path: Path) -> Path:
    Image.fromarray(land_cover(SIDE, SIDE)[0].astype(np.uint16) * 500).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def scaled(before: Path, after: Path) -> None:
    wanted = np.rint(np.asarray(Image.open(before)) * (255 / 4095))
    assert (np.asarray(read_image(after))[..., 0] == wanted).all()


NO_CRS, NO_PLACE = "gdal_edit.py -a_srs EPSG:CODE", "gdal_edit.py -a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY"
TABLE = {
    "no CRS": Row(NO_CRS, lambda path: draw(path, crs=None), lambda path: view(path, require_crs=True)),
    "no transform": Row(NO_PLACE, lambda path: draw(path, crs=None, at=None), lambda p: view(p, require_crs=True)),
    "singular transform": Row(NO_PLACE, lambda path: draw(path, at=Affine(0, 0, 5, 0, 0, 5)), describe),
    "polygonize": Row(
        NO_CRS,
        lambda path: classes(path, crs=None),
        lambda path: aerialseg.polygonize(path, path.with_suffix(".fgb"), overwrite=True),
    ),
    "undeclared nodata": Row(
        "gdal_edit.py -a_nodata -9999",
        lambda path: draw(path, np.where(land_cover(SIDE, SIDE)[:1] == 3, -9999, 1).astype(np.int16)),
        lambda path: aerialseg.polygonize(path, path.with_suffix(".fgb"), overwrite=True),
        lambda before, after: np.testing.assert_array_equal(pixels_of(before)[0], pixels_of(after)[0]),
    ),
    "many bands": Row("gdal_translate -b 1 -b 2 -b 3", many_bands, describe, first_bands),
    "palette": Row("gdal_translate -expand rgba", palette, describe, expanded),
    "nodata of each band": Row("gdalwarp -dstalpha", nodata_of_each_band, describe, same_where_valid),
    "VRT": Row("gdal_translate -of GTiff", text_that_points, describe),
    "grid": Row("gdal_translate -a_srs EPSG:CODE -co PROFILE=GeoTIFF", with_grid, describe, as_drawn),
    "metadata": Row("gdal_translate -a_srs EPSG:CODE -co PROFILE=GeoTIFF", much_metadata, describe),
    "overviews": Row("gdal_translate", with_overviews_elsewhere, lambda path: describe(path)),
    "control points": Row("gdalwarp -tps -r bilinear -dstalpha", by_points(draw), describe, warped),
    "control points of classes": Row(
        "gdalwarp -tps -r bilinear -dstalpha", by_points(classes), ClassRaster, warped_classes, more="-r near"
    ),
    "too fine": Row(
        "gdalwarp -tr X Y -r average -dstalpha",
        lambda path: half_masked(path, 1600),  # larger than one pixel of those wanted
        lambda p: view(p, resolution_m=150),
        warped,
        {"X": "0.3", "Y": "0.3"},
    ),
    "strips": Row(
        "gdal_translate -co TILED=YES", lambda path: draw(path, land_cover(32, 8300), compress="deflate"), view
    ),
    "large blocks": Row(
        "gdal_translate -co TILED=YES -co COMPRESS=DEFLATE",
        lambda path: draw(path, land_cover(400, 400), tiled=True, blockxsize=400, blockysize=400, interleave="pixel"),
        ask_small_blocks,
    ),
    "labels": Row("ogr2ogr -a_srs EPSG:CODE", labels, ask_labels, same_features),
    "a mosaic's turned tile": Row(
        "gdalwarp -r bilinear -dstalpha", lambda path: draw(path, at=GRID @ Affine.rotation(20)), ask_mosaic, warped
    ),
    "two CRS": Row("gdalwarp -t_srs EPSG:CODE -dstalpha", lambda path: draw(path, crs="EPSG:32632"), ask_pair, warped),
    "globe": Row(
        "gdalwarp -t_srs EPSG:CODE -dstalpha",
        globe,
        lambda path: aerialseg.polygonize(path, path.with_suffix(".fgb"), overwrite=True),
        lambda before, after: None,  # areas differ from place to place
        {"EPSG:CODE": "EPSG:4326"},
    ),
    "dark image": Row("gdal_translate -ot Byte -scale 0 4095 0 255", dark_image, read_image, scaled),
}


def said(work: Callable[[], object], caplog: pytest.LogCaptureFixture) -> str:
    """What is said, as an error, a note or a warning."""
    caplog.clear()
    notes: list[str] = []
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aerialseg.progress.Silent.note", lambda _, message: notes.append(message))
            work()
    except AerialsegError as error:
        return str(error)
    return " ".join([*notes, *caplog.messages])


@pytest.mark.skipif(shutil.which("gdal_edit.py") is None, reason="needs gdal-bin and python3-gdal")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in TABLE]
)
def test_row_38_the_command_that_a_message_advises_keeps_the_data_and_does_what_it_promises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    row = TABLE[name]
    path = row.make(tmp_path / "met.tif")
    assert row.command in said(lambda: row.ask(path), caplog)
    whole = path.read_bytes()
    spare = shutil.copytree(tmp_path, tmp_path / "before") / path.name
    tool, *options = [(VALUES | row.values).get(word, word) for word in f"{row.command} {row.more}".split()]
    made = tmp_path / ("made.gpkg" if tool == "ogr2ogr" else "made.tif")
    files = {"gdal_edit.py": [path], "ogr2ogr": [made, path]}.get(tool, [path, made])
    subprocess.run([tool, *options, *files], check=True, capture_output=True)
    if tool == "gdal_edit.py":
        made = path
    else:
        assert path.read_bytes() == whole
    assert said(lambda: row.ask(made), caplog) == ""
    row.kept(spare, made)


def advised_in_sources() -> set[str]:
    """The commands in all texts of the package, ``?`` for what is filled in."""
    found = set()
    for path in Path(aerialseg.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        texts = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
        pieces = {id(part) for values in texts for part in values}
        texts += [[node] for node in nodes if isinstance(node, ast.Constant) and id(node) not in pieces]
        for values in texts:
            found.update(
                TOOLS.findall("".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in values))
            )
    return found


@pytest.mark.slow
def test_row_38_every_command_that_is_advised_is_in_the_table() -> None:
    known = [*(row.command for row in TABLE.values()), *AS_OTHERS]
    found = advised_in_sources()
    assert len(found) > 15
    lacking = {hint for hint in found if not any(_is(hint, command) for command in known)}
    assert not lacking


def _is(hint: str, command: str) -> bool:
    return re.fullmatch(re.escape(hint).replace(r"\?", ".+"), command) is not None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="needs gdal-bin")
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_row_24_the_advice_for_a_geopackage_left_by_a_killed_program_keeps_its_changes(
    tmp_path: Path, mode: str
) -> None:
    """To delete the -wal would lose what was saved, to delete the -journal would leave half of a change."""
    path = project(tmp_path / "project.gpkg")
    code = (
        "import os, sqlite3, sys\n"
        "file = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for said in ('journal_mode = ' + sys.argv[2], 'cache_size = 1'): file.execute('PRAGMA ' + said)\n"
        "file.execute('UPDATE owners SET owner = \"saved\"')\n"
        "file.execute('BEGIN')\n"
        "file.execute('UPDATE owners SET owner = hex(zeroblob(9999))')\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path, mode]).returncode == -signal.SIGKILL
    layer = classes(tmp_path / "c.tif")
    with pytest.raises(OutputError, match=f"ogrinfo {re.escape(str(path))} brings them in") as refused:
        aerialseg.polygonize(layer, path, overwrite=True)
    assert "delete" not in str(refused.value)
    subprocess.run(["ogrinfo", "-so", path], check=True, capture_output=True)
    assert set(rows(path, "SELECT owner FROM owners")) == {("saved",)}
    aerialseg.polygonize(layer, path, overwrite=True)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert set(rows(path, "SELECT owner FROM owners")) == {("saved",)}
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "project.gpkg"]
