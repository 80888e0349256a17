"""FAULTS.md, row 37: images and masks mean what they show, or are refused with the reason before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from PIL import Image

from aerialseg.cli import cli
from aerialseg.datasets.chips import make_chips
from aerialseg.datasets.frames import find_frames
from aerialseg.datasets.images import read_image, read_shape
from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import check_pairs, find_pairs, prepare
from aerialseg.datasets.splits import _values
from aerialseg.errors import InputError
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.store import save
from aerialseg.progress import Silent
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.training.config import TrainingConfig
from aerialseg.training.training_frames import load_training_frames
from tests.drawn_frames import DRAWN, write_drawn_data
from tests.model.nets import card, lively_network

BINARY = Legend((LandClass(0, "background", (0, 0, 0)), LandClass(1, "building", (255, 255, 255))))
GRASS, ROOF = (0, 102, 0), (70, 70, 70)
MIXED = Legend((LandClass(0, "void", (0, 0, 0)), LandClass(1, "grass", GRASS), LandClass(2, "roof", ROOF)))
ORIENTATION = 0x0112


def grey(path: Path, *values: int, mode: str = "L", **options: object) -> Path:
    """A mask of one row."""
    dtype = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.array([values], dtype)).save(path, **options)
    return path


def indexed(path: Path, values: list[int], colors: list[tuple[int, int, int]], **options: object) -> Path:
    image = Image.fromarray(np.array([values], np.uint8)).copy()
    image.putpalette([part for color in colors for part in color])
    image.save(path, **options)
    return path


def deep(path: Path, samples: np.ndarray, driver: str = "PNG", **options: object) -> Path:
    """An image of any type, a TIFF band by band."""
    count, height, width = samples.shape
    profile = {"driver": driver, "count": count, "height": height, "width": width, "dtype": samples.dtype, **options}
    with (
        without_georef_warnings(),
        rasterio.open(path, "w", **profile, **({"interleave": "band"} if driver == "GTiff" else {})) as file,
    ):
        file.write(samples)
    return path


def read(path: Path, legend: Legend) -> list[int]:
    return read_mask(path, legend)[0].tolist()  # type: ignore[no-any-return]


def stored(path: Path) -> list[int]:
    with Image.open(path) as image:
        return np.asarray(image)[0].tolist()  # type: ignore[no-any-return]


def test_row_37_masks_of_0_and_255_are_the_black_and_the_white_class(tmp_path: Path) -> None:
    assert read(grey(tmp_path / "a.png", 0, 255, 255), BINARY) == [0, 1, 1]


def test_row_37_a_mask_of_ids_is_one_also_where_a_file_of_0_and_255_could_be_of_colours(tmp_path: Path) -> None:
    """As chips are: 255 is not labelled, and another mask of the folder shows it."""
    grey(tmp_path / "b.png", 0, 1, 255)
    assert read(grey(tmp_path / "a.png", 0, 255, 255), BINARY) == [0, NODATA, NODATA]


def test_row_37_the_folder_is_looked_at_anew_by_each_command(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    grey(tmp_path / "images" / "a.png", 9, 9)
    path = grey(tmp_path / "masks" / "a.png", 0, 255)
    assert read(path, BINARY) == [0, 1]
    config = DataConfig(Path(), Path(), (1, 2), 0.05, images="images", masks="masks")
    before = prepare(find_pairs(tmp_path, config), config, BINARY, tmp_path / "prepared")["a"][1]
    assert stored(before) == [0, 1]
    grey(tmp_path / "masks" / "b.png", 0, 1)
    grey(tmp_path / "images" / "b.png", 9, 9)
    after = prepare(find_pairs(tmp_path, config), config, BINARY, tmp_path / "prepared")["a"][1]
    assert stored(after) == [0, NODATA]


def test_row_37_greys_that_are_ids_and_colours_of_other_classes_are_refused(tmp_path: Path) -> None:
    legend = Legend((LandClass(0, "a", (1, 1, 1)), LandClass(1, "b", (0, 0, 0))))
    with pytest.raises(InputError, match=r"hold 0, 1, which are ids .* give those classes other colours"):
        read(grey(tmp_path / "a.png", 0, 1), legend)


def test_row_37_a_palette_of_greys_is_read_as_greys_without_one(tmp_path: Path) -> None:
    ramp = [(level, level, level) for level in range(256)]
    assert read(indexed(tmp_path / "a.png", [0, 255], ramp), BINARY) == [0, 1]
    assert read(indexed(tmp_path / "a.png", [1, 2, 255], ramp), MIXED) == [1, 2, NODATA]


def test_row_37_greys_that_are_only_colours_of_the_legend_are_colours(tmp_path: Path) -> None:
    assert read(grey(tmp_path / "a.png", 0, 70), MIXED) == [0, 2]


def test_row_37_the_colours_of_a_palette_count_where_they_are_the_legends(tmp_path: Path) -> None:
    path = indexed(tmp_path / "a.png", [0, 1, 1], [(70, 70, 70), (0, 102, 0)])
    assert read(path, MIXED) == [2, 1, 1]


def test_row_37_a_palette_of_other_colours_leaves_the_indices_as_ids(tmp_path: Path) -> None:
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(9, 9, 9)] * 252, (224, 224, 192)]
    assert read(indexed(tmp_path / "a.png", [0, 1, 2, 255], voc), MIXED) == [0, 1, 2, NODATA]


def test_row_37_ids_with_the_legends_own_palette_keep_255_as_unlabelled(tmp_path: Path) -> None:
    path = indexed(tmp_path / "a.tif", [1, 2, 255], [entry.color for entry in MIXED])
    assert read(path, MIXED) == [1, 2, NODATA]


@pytest.mark.parametrize(
    ("values", "colors"),
    [([0, 1], [(70, 70, 70), (1, 2, 3)]), ([0], [(70, 70, 70), (1, 2, 3)])],
    ids=["one colour of the legend", "the only one that occurs"],
)
def test_row_37_a_palette_that_may_be_either_is_refused(
    tmp_path: Path, values: list[int], colors: list[tuple[int, int, int]]
) -> None:
    with pytest.raises(
        InputError, match=r"index 0 is an id .* colour \(70, 70, 70\) is another class's; save it as RGB"
    ):
        read(indexed(tmp_path / "a.png", values, colors), MIXED)


def test_row_37_a_palette_of_neither_ids_nor_colours_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png: colour \(1, 2, 3\) at row 0, column 1 is not in the legend"):
        read(indexed(tmp_path / "a.png", [0, 9], [(0, 0, 0), *[(1, 2, 3)] * 9]), MIXED)


@pytest.mark.parametrize("legend", [BINARY, MIXED])
def test_row_37_masks_of_few_bits_keep_their_numbers(tmp_path: Path, legend: Legend) -> None:
    """Pillow spreads one, two and four bits over 0 to 255."""
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "one.png")
    assert read(tmp_path / "one.png", legend) == [0, 1]
    deep(tmp_path / "two.png", np.array([[[0, 1]]], np.uint8), nbits=2)
    assert read(tmp_path / "two.png", legend) == [0, 1]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_row_37_a_mask_compressed_with_loss_is_refused_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    options = {"compression": "jpeg"} if name == "a.tif" else {"format": "JPEG"}
    path = grey(tmp_path / name, *[1] * 16, **options)
    with pytest.raises(InputError, match=r"compressed with loss .* export it anew as PNG"):
        read(path, MIXED)


def test_row_37_a_transparent_pixel_of_a_mask_is_refused_and_an_opaque_alpha_is_not(tmp_path: Path) -> None:
    colors = np.array([[(0, 102, 0, 255), (70, 70, 70, 255)]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", MIXED) == [1, 2]
    colors[0, 1] = (0, 0, 0, 0)
    Image.fromarray(colors).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"transparent at row 0, column 1 .* without an alpha channel"):
        read(tmp_path / "a.png", MIXED)
    Image.fromarray(np.array([[(1, 255), (2, 9)]], np.uint8), "LA").save(tmp_path / "a.png")
    with pytest.raises(InputError, match="transparent at row 0, column 1"):
        read(tmp_path / "a.png", MIXED)


def test_row_37_masks_that_are_neither_numbers_nor_rgb_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 2), np.float32)).save(tmp_path / "f.tif")
    Image.new("CMYK", (2, 1)).save(tmp_path / "c.tif")
    deep(tmp_path / "d.png", np.zeros((3, 1, 2), np.uint16))
    for name, said in (("f.tif", "F of 32 bit"), ("c.tif", "CMYK of 8 bit"), ("d.png", "RGB of 16 bit")):
        with pytest.raises(InputError, match=f"{said}; wanted class ids in one band .* export it as PNG"):
            read(tmp_path / name, MIXED)
    assert read(grey(tmp_path / "e.png", 1, 2, 255, mode="I;16"), MIXED) == [1, 2, NODATA]


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_row_37_images_stand_as_their_exif_tag_says(tmp_path: Path, name: str, orientation: int) -> None:
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:8] = 250
    turned = np.rot90(upright, 2 if orientation == 3 else 1)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / name, exif=exif)
    assert read_shape(tmp_path / name) == (24, 16)
    assert np.abs(np.asarray(read_image(tmp_path / name)).astype(int) - upright).mean() < 3


def test_row_37_16_bit_images_stand_as_their_exif_tag_says_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.array([[65535, 0, 0]], np.uint16)).save(tmp_path / "a.png", exif=exif)
    assert np.asarray(read_image(tmp_path / "a.png"))[..., 0].tolist() == [[255], [0], [0]]


def test_row_37_masks_stand_as_their_exif_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.array([[1, 2, 2]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_mask(tmp_path / "a.png", MIXED).tolist() == [[1], [2], [2]]


def test_row_37_a_split_counts_the_colours_of_palettes_and_not_their_indices(tmp_path: Path) -> None:
    one = indexed(tmp_path / "a.png", [0] * 5, [GRASS, ROOF])
    other = indexed(tmp_path / "b.png", [1] * 5, [ROOF, GRASS])
    assert _values(one).tolist() == _values(other).tolist()


def test_row_37_an_image_on_its_side_fits_its_upright_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.ones((30, 20), np.uint8)).save(tmp_path / "a.png")
    pairs = {"a": (tmp_path / "a.jpg", tmp_path / "a.png")}
    check_pairs(pairs, MIXED, ())
    config = DataConfig(Path(), Path(), (30, 20), 0.05)
    made = prepare(pairs, config, MIXED, tmp_path / "made")["a"]
    assert [read_shape(path) for path in made] == [(30, 20), (30, 20)]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(("name", "driver"), [("a.png", "PNG"), ("a.tif", "GTiff")])
def test_row_37_images_that_use_all_16_bits_are_scaled(tmp_path: Path, bands: int, name: str, driver: str) -> None:
    samples = (np.arange(bands * 6).reshape(bands, 2, 3) + 40).astype(np.uint16)
    for values in (samples * 257, samples * 1000):  # 8 bit in 16, however dark, and more than a camera's 14 bits
        found = np.asarray(read_image(deep(tmp_path / name, values, driver)))
        assert (found == np.broadcast_to(np.rint(values / 257), (3, 2, 3)).transpose(1, 2, 0)).all()


@pytest.mark.parametrize("bands", [1, 3])
def test_row_37_values_of_fewer_bits_in_16_are_refused_with_what_to_type(tmp_path: Path, bands: int) -> None:
    samples = np.full((bands, 2, 3), 2799, np.uint16)
    for read_it in (read_image, read_shape):
        with pytest.raises(InputError, match=r"no value above 2799.* gdal_translate -ot Byte -scale 0 4095 0 255"):
            read_it(deep(tmp_path / "a.png", samples))


def test_row_37_images_that_are_not_colours_are_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 1)).save(tmp_path / "c.jpg")
    deep(tmp_path / "f.tif", np.zeros((1, 2, 3), np.float32), "GTiff")
    deep(tmp_path / "i.tif", np.zeros((1, 2, 3), np.int16), "GTiff")
    for name, said in (("c.jpg", "is CMYK and not RGB"), ("f.tif", "of float32; wanted 8-bit"), ("i.tif", "of int16")):
        for read_it in (read_image, read_shape):
            with pytest.raises(InputError, match=said):
                read_it(tmp_path / name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Drawn frames that a test may spoil."""
    (tmp_path / "data").mkdir()
    return write_drawn_data(tmp_path / "data")


def spoil(data: Path, change: object) -> None:
    for path in (data / "masks").iterdir():
        with Image.open(path) as image:
            ids = np.array(image)
        Image.fromarray(change(ids).astype(np.uint8)).save(path)  # type: ignore[operator]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(data: Path) -> Result:
    arguments = ["train", str(data / "train.toml"), "--data", str(data), "--out", str(data / "model")]
    return CliRunner().invoke(cli, arguments)


def test_row_37_a_class_that_no_mask_holds_is_said_before_training(data: Path, tmp_path: Path) -> None:
    spoil(data, lambda ids: np.where(ids == 3, 1, ids))
    notes = Notes()
    load_training_frames(TrainingConfig.read(data / "train.toml"), data, tmp_path / "prepared", notes)
    assert "no training mask holds water: the model cannot learn them" in notes.notes


@pytest.mark.filterwarnings("ignore")
def test_row_37_training_on_one_class_alone_is_refused(data: Path) -> None:
    pytest.importorskip("fastai")
    spoil(data, lambda ids: np.where(ids == 2, 255, 1))
    done = train(data)
    assert done.exit_code == 3, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "hold only the class 'ground'" in line
    assert "and none of roof, water; wanted at least two classes" in line
    assert not (data / "model" / "card.json").exists()


def test_row_37_greys_that_are_taken_for_colours_are_said(data: Path, tmp_path: Path) -> None:
    BINARY.to_csv(data / "legend.csv")
    spoil(data, lambda ids: np.where(ids == 2, 255, 0))
    config, notes = TrainingConfig.read(data / "train.toml"), Notes()
    load_training_frames(replace(config, data=replace(config.data, void=())), data, tmp_path / "prepared", notes)
    assert [note for note in notes.notes if "are read as colours of the legend (0 is black, 255 white)" in note]
    assert not [note for note in notes.notes if "no training mask holds" in note]


def test_row_37_labels_of_one_class_alone_make_no_chips(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32633", "transform": Affine(0.028, 0, 500_000, 0, -0.028, 5_000_000)}
    deep(tmp_path / "ortho.tif", np.full((3, 256, 256), 90, np.uint8), "GTiff", **place)
    deep(tmp_path / "labels.tif", np.ones((1, 256, 256), np.uint8), "GTiff", nodata=255, **place)
    with pytest.raises(InputError, match="are of the class 'building'; wanted two classes at least"):
        make_chips([tmp_path / "ortho.tif"], tmp_path / "labels.tif", tmp_path / "set", legend=BINARY, size=(64, 64))
    assert not (tmp_path / "set").exists()


def test_row_37_a_legend_that_no_model_can_have_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    (data / "legend.csv").write_text("id,name,r,g,b\n0,void,0,0,0\n255,building,200,0,0\n")
    with pytest.raises(InputError, match="class ids 0, 255; a model has 2 to 255 classes with the ids 0, 1, 2"):
        load_training_frames(TrainingConfig.read(data / "train.toml"), data, tmp_path / "prepared", Silent())


@pytest.mark.slow
def test_row_37_the_scores_say_which_classes_are_not_in_the_truth(data: Path, tmp_path: Path) -> None:
    network = lively_network(classes=len(DRAWN))
    save(tmp_path / "tiny", card(network, legend=DRAWN, void=(0,)), network.state_dict())
    spoil(data, lambda ids: np.where(ids == 3, 1, ids))
    paths = [tmp_path / "tiny", "--data", data, "--split", data / "split.csv", "--out", tmp_path / "report"]
    done = CliRunner().invoke(cli, ["evaluate", *map(str, paths), "--device", "cpu", "--precision", "fp32"])
    assert done.exit_code == 0, done.stderr
    assert "not in the truth, so in no score: water" in done.stderr
    assert '"classes_absent": [\n  "water"\n ]' in (tmp_path / "report" / "scores.json").read_text()
    assert "The truth has no pixel of water" in (tmp_path / "report" / "report.html").read_text()


def test_row_37_frames_on_their_side_have_the_ratio_that_they_show(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.fromarray(np.ones((40, 20), np.uint8)).save(tmp_path / "masks" / "a.png")
    known = ModelCard("a", MIXED, 0.05, training={"frame_size": [40, 20]})
    assert find_frames(known, tmp_path).size == (40, 20)
