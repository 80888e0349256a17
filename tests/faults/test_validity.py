"""Faults 12, 13 and 14: validity is GDAL's, and what a file says of its bands counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp as Color

import aerialseg
from aerialseg.batch.task import Notes
from aerialseg.cli import cli
from aerialseg.datasets.chips import _view
from aerialseg.errors import InputError, OutputError
from aerialseg.model.store import load_card
from aerialseg.raster.block_cache import Pages, reading_order
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Grid
from aerialseg.raster.source import Source
from aerialseg.seams.certificate import _middle
from tests.fakes import Oracle
from tests.raster.drawing import TILED, picture, read_all, view_of, write

SIDE = 64
RGB = (Color.red, Color.green, Color.blue)
LOWEST = float(np.finfo(np.float32).min)


def colored(path: Path, pixels: np.ndarray, colors: tuple[Color, ...], **profile: object) -> Path:
    write(path, pixels, photometric="MINISBLACK", **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = colors
    return path


def with_alpha(path: Path, alpha: np.ndarray, dtype: str = "uint8", **profile: object) -> Path:
    pixels = np.concatenate([picture(*alpha.shape), alpha[None]]).astype(dtype)
    return colored(path, pixels, (*RGB, Color.alpha), **profile)


def infrared(path: Path, **profile: object) -> Path:
    """Four bands as GDAL writes them by default: the fourth, which is an image, is flagged alpha."""
    pixels = picture(SIDE, SIDE, 4)
    pixels[3, :, :40] //= 4
    path = write(path, pixels, **profile)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp == (*RGB, Color.alpha)
    return path


def gdal_says(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.dataset_mask() > 0


def scale_of(dtype: str) -> dict[str, object]:
    return {} if dtype == "uint8" else {"scale": (0, 255)}


LEVELS = {
    "uint8": [0, 1, 2, 127, 128, 255],
    "uint16": [0, 1, 255, 256, 257, 32767, 32768, 65535],
}


@given(st.data())
def test_row_14_alpha_of_any_depth_is_a_mask_as_gdal_has_it(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(sorted(LEVELS)))
    values = data.draw(st.lists(st.sampled_from(LEVELS[dtype]), min_size=9, max_size=9))
    path = with_alpha(tmp_path_factory.mktemp("alpha") / "a.tif", np.array(values).reshape(3, 3), dtype)
    assert (read_all(path, **scale_of(dtype))[1] == gdal_says(path)).all()


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint32"])
def test_row_14_alpha_of_types_that_gdal_takes_for_no_mask_is_one_above_0(tmp_path, dtype):
    alpha = np.array([[0, 1, 100, 0]])
    valid = read_all(with_alpha(tmp_path / "a.tif", alpha, dtype), scale=(0, 255))[1]
    assert (valid == (alpha > 0)).all()


@pytest.mark.parametrize(("flag", "masks"), [("2", 1), ("0", 3)], ids=["of the dataset", "of each band"])
def test_row_14_a_mask_beside_the_raster_is_valid_where_it_is_not_0(tmp_path, flag, masks):
    path = write(tmp_path / "a.tif", picture(4, 9))
    levels = np.array([0, 1, 2, 127, 128, 129, 254, 255, 0], np.uint8) * np.ones((masks, 4, 1), np.uint8)
    levels[-1, 0, 0] = 1
    write(tmp_path / "a.tif.msk", levels, crs=None)
    with rasterio.open(tmp_path / "a.tif.msk", "r+") as dataset:
        dataset.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": flag for band in (1, 2, 3)})
    assert describe(path).mask == "internal"
    valid = read_all(path)[1]
    assert (valid == gdal_says(path)).all()
    assert valid[0].tolist() == [True] * 8 + [False]


NUMBERS = {
    "uint8": st.integers(0, 255),
    "int16": st.integers(-32768, 32767),
    "uint16": st.integers(0, 65535),
    "float32": st.sampled_from([LOWEST, -3.4028230607370965e38, -3.4e38, -9999, 0.1, 0, 1e-40, 1e20, -1e37]),
    "float64": st.sampled_from([-1.7976931348623157e308, LOWEST, -9999, 0.1, 0, 1e20]),
}


@given(st.data())
def test_row_14_nodata_is_compared_as_gdal_compares(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(sorted(NUMBERS)))
    nodata = data.draw(NUMBERS[dtype])
    steps = data.draw(st.lists(st.integers(-70, 70), min_size=20, max_size=20))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        near = np.nextafter(kind.type(nodata), kind.type(0), dtype=kind)
        step = float(abs(kind.type(nodata) - near)) * 2 ** (29 * (dtype == "float64"))
        values = np.array([nodata + step * one / 10 for one in steps])
        values = values.clip(np.finfo(kind).min, np.finfo(kind).max)
    else:
        values = (nodata + np.array(steps) // 20).clip(np.iinfo(kind).min, np.iinfo(kind).max)
    pixels = np.array([values, values[::-1], values]).astype(kind)[:, None]
    path = write(tmp_path_factory.mktemp("nodata") / "a.tif", pixels, nodata=nodata)
    assert (read_all(path, **scale_of(dtype))[1] == gdal_says(path)).all()


@pytest.mark.parametrize("nodata", ["-3.4028230607370965e+38", "-3.4e+38", "-3.4028234663852886e+38"])
def test_row_14_the_lowest_float_is_nodata_however_it_was_rounded(tmp_path, nodata):
    pixels = np.full((3, 8, 8), 0.5, np.float32)
    pixels[..., :2] = LOWEST
    path = write(tmp_path / "a.tif", pixels, nodata=float(nodata))
    valid = read_all(path, scale=(0, 1))[1]
    assert (valid == gdal_says(path)).all()
    assert valid.mean() == 0.75


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # in rasterio
@pytest.mark.parametrize("nodata", [0.5, 6.6, -9999, 300, "1e39"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_row_14_a_nodata_value_that_the_type_does_not_have_is_taken_as_gdal_takes_it(tmp_path, dtype, nodata):
    path = write(tmp_path / "a.tif", np.tile(np.array([0, 6, 7, 44], dtype), (3, 2, 1)))
    band = f"<NoDataValue>{nodata}</NoDataValue>"
    bands = "".join(f'<PAMRasterBand band="{number}">{band}</PAMRasterBand>' for number in (1, 2, 3))
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    assert (read_all(path, **scale_of(dtype))[1] == gdal_says(path)).all()


@pytest.mark.parametrize("nodata", [None, 0.25, np.nan, np.inf])
def test_row_13_nan_and_both_infinities_are_nodata_whatever_the_nodata_value(tmp_path, nodata):
    pixels = np.full((3, 1, 4), 0.5, np.float32)
    pixels[1, 0, :3] = np.nan, np.inf, -np.inf
    values, valid = read_all(write(tmp_path / "a.tif", pixels, nodata=nodata), scale=(0, 1))
    assert valid.tolist() == [[False, False, False, True]]
    assert not values[..., :3].any()


@pytest.mark.parametrize(
    ("dtype", "profile", "hint"),
    [
        ("uint16", {"nbits": 12}, "its 12 bits make that --scale 0,4095"),
        ("uint16", {}, "Computed Min/Max"),
        ("int16", {}, "Computed Min/Max"),
        ("float32", {}, "Computed Min/Max"),
    ],
)
def test_row_13_the_hint_of_a_scale_fits_the_type(tmp_path, dtype, profile, hint):
    path = write(tmp_path / "a.tif", np.ones((3, 8, 8), dtype), **profile)
    with pytest.raises(InputError, match=hint):
        view_of(path)


@pytest.mark.slow
@pytest.mark.parametrize("model_gsd_m", [0.1, 0.23, 0.06])
@pytest.mark.parametrize("kind", ["alpha", "mask", "float"])
def test_row_14_blocks_and_resampled_pixels_are_valid_as_the_whole_is(tmp_path, kind, model_gsd_m):
    rng = np.random.default_rng(1)
    there = np.kron(rng.random((20, 20)) < 0.7, np.ones((9, 9), bool))
    path, options = tmp_path / "a.tif", {}
    if kind == "alpha":
        with_alpha(path, there.astype(np.uint8), **TILED)
    elif kind == "mask":
        write(path, picture(180, 180), **TILED)
        write(Path(f"{path}.msk"), there[None].astype(np.uint8), crs=None)
        with rasterio.open(f"{path}.msk", "r+") as dataset:
            dataset.update_tags(INTERNAL_MASK_FLAGS_1="2", INTERNAL_MASK_FLAGS_2="2", INTERNAL_MASK_FLAGS_3="2")
    else:
        write(path, np.where(there, picture(180, 180), np.float32(LOWEST)), nodata=-3.4e38, **TILED)
        options = {"scale": (0, 255)}
    plain = write(tmp_path / "plain.tif", picture(180, 180) * there, nodata=0, **TILED)
    view = view_of(path, model_gsd_m=model_gsd_m, **options)
    whole = read_all(path, model_gsd_m=model_gsd_m, **options)
    for one, other in zip(whole, read_all(plain, model_gsd_m=model_gsd_m), strict=True):
        assert (one == other).all()
    grid = Grid(*view.shape, 64, 32, 32)
    padded = np.pad(whole[0], ((0, 0), (0, 32), (0, 32))), np.pad(whole[1], (0, 32))  # to the lattice
    with Pages(view, reading_order(grid, view, (64, 64))) as pages, Source(view) as source:
        for index in range(len(grid)):
            window = grid.window(grid.core(index))
            for read in (pages.read, source.read):
                for part, one in zip(read(window)[:2], padded, strict=True):
                    assert (part == one[(..., *window.slices)]).all()


@pytest.mark.parametrize(
    ("colors", "bands"),
    [
        ((Color.blue, Color.green, Color.red), (3, 2, 1)),
        ((Color.green, Color.red, Color.blue), (2, 1, 3)),
        ((Color.blue, Color.green, Color.red, Color.nir), (3, 2, 1)),
        ((Color.coastal, Color.blue, Color.green, Color.red, Color.undefined), (4, 3, 2)),
        ((Color.alpha, *RGB), (2, 3, 4)),
        ((*RGB, Color.undefined), (1, 2, 3)),
    ],
)
def test_row_12_bands_are_those_that_the_file_says_are_red_green_and_blue(tmp_path, colors, bands):
    pixels = picture(SIDE, SIDE, len(colors))
    if Color.alpha in colors:
        pixels[colors.index(Color.alpha)] = 255
    path = colored(tmp_path / "a.tif", pixels, colors)
    view = view_of(path)
    assert view.bands == bands
    said = f"bands {', '.join(map(str, bands))} are red, green, blue, as the file says"
    assert (said in view.note) == (bands != (1, 2, 3))
    assert (read_all(path)[0] == pixels[[band - 1 for band in bands]]).all()
    assert view_of(path, bands=(1, 1, 2)).bands == (1, 1, 2)  # --bands overrules the file


def test_row_12_the_bands_of_a_model_are_found_by_their_names(tmp_path):
    path = colored(tmp_path / "a.tif", picture(8, 8, 4), (*RGB, Color.nir))
    assert view_of(path, wanted=("nir", "red", "green")).bands == (4, 1, 2)


@pytest.mark.parametrize("colors", [(Color.nir, Color.red, Color.green), (Color.blue, Color.green, Color.undefined)])
def test_row_12_three_bands_that_the_file_says_are_others_are_not_taken_for_red_green_and_blue(tmp_path, colors):
    path = colored(tmp_path / "a.tif", picture(8, 8), colors)
    with pytest.raises(InputError, match=r"the model wants 3 \(red, green, blue\); name them"):
        view_of(path)
    assert view_of(path, bands=(1, 2, 3)).bands == (1, 2, 3)


@pytest.mark.parametrize("profile", [{}, TILED, {"interleave": "band"}, {"blockysize": 1}])
def test_row_12_infrared_flagged_alpha_is_no_mask_and_the_message_says_what_to_type(tmp_path, profile):
    path = infrared(tmp_path / "a.tif", **profile)
    with pytest.raises(InputError, match=r"band 4 .* flagged alpha but is no mask.*--bands 1,2,3, or say --alpha none"):
        view_of(path)
    for options in ({"bands": (1, 2, 3)}, {"bands": (4, 1, 2)}, {"alpha": "none"}):
        view = view_of(path, **options)
        assert "band 4, flagged alpha, is no mask" in view.note
        assert view.bands == options.get("bands", (1, 2, 3))
        pixels, valid = read_all(path, **options)
        assert valid.all()
        assert (pixels == picture_of(path)[[band - 1 for band in view.bands]]).all()


def test_row_12_chips_and_seams_take_the_alpha_none_that_the_message_advises(tmp_path):
    path = infrared(tmp_path / "a.tif")
    for read in (
        lambda alpha: _view(path, (None, "native", None), alpha=alpha),
        lambda alpha: _middle(path, load_card(), (32, 32), False, alpha),
    ):
        with pytest.raises(InputError, match="say --alpha none"):
            read("auto")
        read("none")
    for command in ("chips", "seams"):
        assert "--alpha" in CliRunner().invoke(cli, [command, "--help"]).output


def picture_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_row_12_a_model_of_four_bands_takes_infrared_flagged_alpha(tmp_path):
    path = infrared(tmp_path / "a.tif")
    four = ("red", "green", "blue", "nir")
    with pytest.raises(InputError, match="--bands 1,2,3,4, or say --alpha none"):
        view_of(path, wanted=four)
    assert view_of(path, wanted=four, alpha="none").bands == (1, 2, 3, 4)


def test_row_12_a_mask_with_soft_edges_is_a_mask(tmp_path):
    ramp = np.minimum(np.arange(200), 255) * np.ones((200, 1))
    soft = np.where(np.arange(200) < 90, ramp * 2.8, 255).astype(np.uint8)
    assert len(np.unique(soft)) > 80
    path = with_alpha(tmp_path / "a.tif", soft)
    assert describe(path).mask == "alpha"
    assert (read_all(path)[1] == gdal_says(path)).all()


def test_row_12_any_band_can_be_named_and_a_named_one_is_no_mask(tmp_path):
    path = with_alpha(tmp_path / "a.tif", np.array([[0, 255, 255, 0]]))
    pixels, valid = read_all(path, bands=(4, 1, 2))
    assert valid.all()
    assert pixels[0].tolist() == [[0, 255, 255, 0]]
    assert not read_all(path, bands=(1, 2, 3))[1].all()  # a real mask is one beside named bands as well
    assert read_all(path, alpha="none")[1].all()
    with pytest.raises(InputError, match="there is no band 5"):
        view_of(path, bands=(1, 2, 5))


def ground(path: Path, columns: int, classes: int = 2) -> Path:
    """A map of squares for the oracle, of which all but the first ``columns`` of 64 are nodata."""
    squares = np.kron(np.arange(64).reshape(8, 8).T % classes + 1, np.ones((8, 8))).astype(np.uint8)
    squares[:, columns:] = 0
    return write(path, np.stack([squares] * 3), nodata=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "classes", "said"),
    [
        (0, 2, ["all of the raster is nodata, so the layer is empty"]),
        (8, 2, ["87 % of the raster is nodata"]),
        (64, 1, ["all of the map is 'grass'"]),
        (8, 1, ["87 % of the raster is nodata", "all of the map is 'grass'"]),
        (32, 2, []),
    ],
)
def test_row_14_a_result_that_is_mostly_nodata_or_of_one_class_is_said(tmp_path, columns, classes, said):
    heard = Notes()
    result = aerialseg.segment(
        ground(tmp_path / "a.tif", columns, classes),
        tmp_path / "a.gpkg",
        model=Oracle(),
        raster=tmp_path / "classes.tif",
        report=tmp_path / "a.json",
        min_area_m2=0,
        progress=heard,
    )
    warnings = [note.removeprefix("warning: ") for note in heard.notes if note.startswith("warning: ")]
    assert [warning.partition(";")[0] for warning in warnings] == said
    assert json.loads((tmp_path / "a.json").read_text())["warnings"] == warnings == list(result.doubts)
    again = Notes()
    aerialseg.polygonize(tmp_path / "classes.tif", tmp_path / "b.gpkg", progress=again)
    mostly = [sentence for sentence in said if "nodata" in sentence]
    assert [note.partition(";")[0] for note in again.notes] == [f"warning: {sentence}" for sentence in mostly]


def test_row_12_alpha_none_decides_the_blocks(tmp_path):
    path = with_alpha(tmp_path / "a.tif", np.repeat([[0, 255]], 8, axis=0))
    common = {"model": Oracle(), "keep_run": tmp_path / "run"}
    assert aerialseg.segment(path, tmp_path / "a.gpkg", **common).valid_px == 8
    with pytest.raises(OutputError, match="another value of --alpha"):
        aerialseg.segment(path, tmp_path / "b.gpkg", alpha="none", **common)
    assert aerialseg.segment(path, tmp_path / "b.gpkg", alpha="none", model=Oracle()).valid_px == 16
