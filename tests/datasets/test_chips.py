"""Chips are the orthophoto's own pixels with their labels, and no ground is on both sides."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from click.testing import CliRunner
from PIL import Image

from aerialseg.cli import cli
from aerialseg.datasets import chips
from aerialseg.datasets.chips import make_chips
from aerialseg.datasets.chipset import ChipSet
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import find_pairs, split_pairs
from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.mapping.settings import warn_of_old_name
from aerialseg.model.store import load_card
from aerialseg.training.config import TrainingConfig
from tests.conftest import land_cover
from tests.raster.drawing import UTM, write

LEGEND = Legend(tuple(LandClass(n, name, (40 * n, 0, 0)) for n, name in enumerate(("grass", "roof", "road", "tree"))))
GSD_M = load_card(None).gsd_m
AT = Affine(GSD_M, 0, 500_000, 0, -GSD_M, 5_000_000)


def scene(folder: Path, height: int = 330, width: int = 420, **profile: Any) -> tuple[Path, Path]:
    """An orthophoto whose red band is the class where there is one, and its labels: void in a frame and a stripe."""
    pixels = land_cover(height, width, classes=4, cell=30)
    truth = pixels[0].copy()
    truth[:5], truth[:, 100:110] = NODATA, NODATA
    pixels[1:] |= 1
    ortho = write(folder / "ortho.tif", pixels, **{"transform": AT, **profile})
    return ortho, write(folder / "labels.tif", truth[None], nodata=NODATA, **{"transform": AT, **profile})


def made(folder: Path, **options: Any) -> ChipSet:
    return make_chips(
        [folder / "ortho.tif"], folder / "labels.tif", folder / "set", **{"legend": LEGEND, "size": (64, 64), **options}
    )


def files(chips: ChipSet, frame: str) -> tuple[np.ndarray, np.ndarray]:
    """(image (h, w, 3), mask (h, w)) of a chip."""
    image, mask = (np.asarray(Image.open(chips.folder / kind / f"{frame}.png")) for kind in ("images", "masks"))
    return image, mask


def test_chips_hold_the_pixels_and_the_labels_of_their_ground(tmp_path: Path) -> None:
    ortho, labels = scene(tmp_path)
    with Image.open(labels) as file:
        truth = np.pad(np.asarray(file), 64, constant_values=NODATA)
    chips = made(tmp_path)
    assert len(chips.chips) > 20
    for chip in chips.chips:
        image, mask = files(chips, chip.frame)
        rows, cols = slice(chip.box.top + 64, chip.box.bottom + 64), slice(chip.box.left + 64, chip.box.right + 64)
        assert (mask == truth[rows, cols]).all()
        assert (image[..., 0] == mask)[mask != NODATA].all()
        assert chip.pixels == tuple(int((mask == n).sum()) for n in range(4))
    assert ortho.exists()


@pytest.mark.slow
def test_polygons_make_the_masks_that_their_raster_makes(tmp_path: Path) -> None:
    from rasterio.features import shapes

    _, labels = scene(tmp_path)
    with Image.open(labels) as file:
        truth = np.asarray(file)
    found = [(shapely.geometry.shape(s), int(v)) for s, v in shapes(truth, mask=truth != NODATA, transform=AT)]
    frame = geopandas.GeoDataFrame(
        {"cover": [LEGEND[v].name for _, v in found]}, geometry=[shape for shape, _ in found], crs=UTM
    )
    frame.to_file(tmp_path / "labels.gpkg", engine="pyogrio")
    one = made(tmp_path)
    two = make_chips(
        [tmp_path / "ortho.tif"],
        tmp_path / "labels.gpkg",
        tmp_path / "two",
        legend=LEGEND,
        size=(64, 64),
        field="cover",
    )
    assert [chip.frame for chip in one.chips] == [chip.frame for chip in two.chips]
    for chip in one.chips:
        assert (files(one, chip.frame)[1] == files(two, chip.frame)[1]).all()


@pytest.mark.slow
def test_orthophotos_without_crs_need_the_size_of_their_pixels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene(tmp_path, crs=None)
    with pytest.raises(InputError, match="give --pixel-size METRES"):
        made(tmp_path)
    chips = made(tmp_path, pixel_size_m=0.02, resolution_m="native")
    assert chips.gsd_m == pytest.approx(0.02)
    warn_of_old_name.cache_clear()
    old = made(tmp_path, gsd=GSD_M, overwrite=True)
    assert old.gsd_m == pytest.approx(GSD_M)
    assert "--gsd works until version 0.3: write --resolution METRES|native" in caplog.text


def test_what_is_not_valid_in_the_orthophoto_is_void(tmp_path: Path) -> None:
    pixels = land_cover(200, 300, classes=4, cell=30)
    pixels[1:] |= 1
    flown = np.full((200, 300), 255, np.uint8)
    flown[:, 190:] = 0
    write(tmp_path / "ortho.tif", pixels, mask=flown, transform=AT)
    write(tmp_path / "labels.tif", pixels[:1], nodata=NODATA, transform=AT)
    chips = made(tmp_path)
    for chip in chips.chips:
        _, mask = files(chips, chip.frame)
        cols = np.arange(chip.box.left, chip.box.right)
        assert (mask[:, cols >= 190] == NODATA).all()
    assert any(chip.box.right > 190 for chip in chips.chips)


@pytest.mark.slow
def test_chips_with_too_few_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    scene(tmp_path)
    every, some = made(tmp_path, min_labelled=0), made(tmp_path, min_labelled=0.9, overwrite=True)
    enough = [chip.frame for chip in every.chips if sum(chip.pixels) >= 0.9 * 64 * 64]
    assert sorted(chip.frame for chip in some.chips) == sorted(enough)
    assert some.left_out == every.left_out + len(every.chips) - len(enough) > 0
    assert len(list((some.folder / "images").iterdir())) == len(enough)


def test_the_folder_is_one_that_training_takes_and_whole_blocks_are_held_out(tmp_path: Path) -> None:
    scene(tmp_path)
    chips = made(tmp_path)
    config = TrainingConfig.read(chips.folder / "train.toml")
    assert config.architecture == load_card(None).architecture, "all layers of the model that it starts from fit"
    pairs = find_pairs(chips.folder, config.data)
    learn, held = split_pairs(pairs, config.data.split)
    assert set(learn) | set(held) == {chip.frame for chip in chips.chips}
    assert config.data.gsd_m == pytest.approx(GSD_M, rel=1e-3)
    assert config.data.size == (64, 64)
    with open(config.data.split, newline="") as file:
        rows = list(csv.DictReader(file))
    sides = {scene: {row["held_out"] for row in rows if row["scene"] == scene} for scene in {r["scene"] for r in rows}}
    assert all(len(side) == 1 for side in sides.values())
    assert 0.1 < chips.share < 0.3
    legend = Legend.from_csv(config.data.legend)
    assert legend == LEGEND
    for _, mask in pairs.values():
        read_mask(mask, legend, config.data.void)


def test_what_was_made_of_what_is_written_down(tmp_path: Path) -> None:
    scene(tmp_path)
    chips = made(tmp_path)
    about = json.loads((chips.folder / "chips.json").read_text())
    assert [len(entry["sha256"]) for entry in about["inputs"]] == [64, 64]
    assert about["chips"]["learned from"] + about["chips"]["held out"] == len(chips.chips)
    assert sum(entry["held out"] for entry in about["classes"]) == sum(chips.pixels(held_out=True).values())
    frames = geopandas.read_file(chips.folder / "chips.gpkg", layer="chips", engine="pyogrio")
    blocks = geopandas.read_file(chips.folder / "chips.gpkg", layer="blocks", engine="pyogrio")
    assert set(frames["frame"]) == {chip.frame for chip in chips.chips}
    for side in (0, 1):
        ground = blocks[blocks["held_out"] == side].union_all()
        assert frames[frames["held_out"] == side].within(ground).all()
        assert not frames[frames["held_out"] != side].intersects(ground).any()


def test_mask_pixels_that_nobody_labelled_are_void(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, NODATA], [3, 1]], np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", LEGEND, void=(3,)).tolist() == [[0, NODATA], [NODATA, 1]]


def test_ids_become_those_of_a_model_and_keep_their_names(tmp_path: Path) -> None:
    scene(tmp_path)
    legend = Legend(
        tuple(LandClass(n, name, (n, n, n)) for n, name in ((0, "a"), (1, "b"), (2, "c"), (3, "d"), (9, "e")))
    )
    chips = made(tmp_path, legend=legend)
    assert [(entry.id, entry.name) for entry in chips.legend] == [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]
    assert TrainingConfig.read(chips.folder / "train.toml").data.void == (4,)
    assert [entry["label"] for entry in json.loads((chips.folder / "chips.json").read_text())["classes"]] == [
        0,
        1,
        2,
        3,
        9,
    ]


def test_orthophotos_of_two_coordinate_systems_are_refused(tmp_path: Path) -> None:
    ortho, labels = scene(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    second, _ = scene(other, crs="EPSG:32632")
    with pytest.raises(InputError, match="different coordinate systems"):
        make_chips([ortho, second], labels, tmp_path / "set", legend=LEGEND, size=(64, 64))


@pytest.mark.slow
def test_two_orthophotos_of_one_place_share_their_blocks(tmp_path: Path) -> None:
    ortho, labels = scene(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    second, _ = scene(other, transform=Affine(0.036, 0, 500_003.013, 0, -0.036, 4_999_998.02))
    chips = make_chips([ortho, second], labels, tmp_path / "set", legend=LEGEND, size=(64, 64))
    sides = [
        shapely.unary_union([shapely.Polygon(chip.corners) for chip in chips.chips if chip.held_out == held])
        for held in (False, True)
    ]
    assert not sides[0].intersects(sides[1])
    both = [{chip.ortho for chip in chips.chips if chip.block == block} for block in chips.blocks]
    assert {1, 2} in both


@pytest.mark.slow
def test_labels_of_one_block_cannot_be_split(tmp_path: Path) -> None:
    scene(tmp_path)
    with pytest.raises(InputError, match="one block of ground"):
        made(tmp_path, block_m=1000)
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_block_is_as_many_whole_chips_as_come_nearest(tmp_path: Path) -> None:
    scene(tmp_path)
    assert made(tmp_path, block_m=2.2 * 64 * GSD_M).lattice.chips == (2, 2)
    assert made(tmp_path, block_m=0.1, overwrite=True).lattice.chips == (1, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (60, 64)}, "multiples of 32"),
        ({"held_out": 0.0}, "between 0 and 1"),
        ({"min_labelled": 2.0}, "from 0 to 1"),
        ({"block_m": -1.0}, "metres above 0"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    scene(tmp_path)
    with pytest.raises(UsageError, match=said):
        made(tmp_path, **options)


@pytest.mark.slow
def test_only_a_data_set_of_chips_is_replaced_and_only_when_told(tmp_path: Path) -> None:
    scene(tmp_path)
    first = made(tmp_path)
    with pytest.raises(UsageError, match="add --overwrite"):
        made(tmp_path)
    (first.folder / "left.txt").touch()
    made(tmp_path, overwrite=True)
    assert not (first.folder / "left.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not a data set of chips"):
        make_chips([tmp_path / "ortho.tif"], tmp_path / "labels.tif", tmp_path / "mine", legend=LEGEND, overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        make_chips([tmp_path / "ortho.tif"], tmp_path / "labels.tif", tmp_path / "no" / "set", legend=LEGEND)


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_older_set_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(tmp_path)
    older = made(tmp_path)
    before = {path: path.read_bytes() for path in older.folder.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chips, "starter_config", full)
    with pytest.raises(OutputError, match="No space left"):
        made(tmp_path, overwrite=True, seed=1)
    assert {path: path.read_bytes() for path in older.folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", "ortho.tif", "set"]


def test_the_command_prints_the_folder_and_says_what_is_in_it(tmp_path: Path) -> None:
    ortho, labels = scene(tmp_path)
    LEGEND.to_csv(tmp_path / "legend.csv")
    given_ = ["--legend", str(tmp_path / "legend.csv"), "--out", str(tmp_path / "set"), "--size", "64,64"]
    result = CliRunner().invoke(cli, ["chips", str(ortho), str(labels), *given_])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == [str(tmp_path / "set")]
    assert "training set: " in result.stderr
    assert "roof" in result.stderr
    again = CliRunner().invoke(cli, ["chips", str(ortho), str(labels), *given_])
    assert again.exit_code == 2


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # fastai and its friends warn about themselves
def test_from_an_orthophoto_and_its_labels_to_a_model(tmp_path: Path) -> None:
    pytest.importorskip("fastai", reason="training needs aerialseg[train]")
    from aerialseg.datasets.demo import draw_demo
    from aerialseg.model.store import load_network
    from aerialseg.training import train

    ortho, truth = draw_demo(tmp_path / "demo", width=500, height=400)
    legend = load_card(None).legend
    chips = make_chips([ortho], truth, tmp_path / "set", legend=legend, size=(96, 96))
    text = (chips.folder / "train.toml").read_text()
    lines = ["epochs = 1" if line.startswith("epochs") else line for line in text.splitlines()]
    (chips.folder / "train.toml").write_text("\n".join(lines))
    train(chips.folder / "train.toml", chips.folder, tmp_path / "model")
    card, _ = load_network(tmp_path / "model")
    assert card.legend == legend
    assert card.gsd_m == pytest.approx(GSD_M, rel=1e-3)
    assert card.scores
    assert card.licence == load_card(None).licence
    assert "'drone-landcover'" in card.lineage[-1]
