"""Pairs come in exactly as they are, and void never counts."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.masks import colors_to_ids, read_mask
from aerialseg.datasets.pairs import class_weights, find_pairs, prepare, split_pairs
from aerialseg.errors import InputError, OutputError
from aerialseg.legend import NODATA
from aerialseg.progress import Silent
from aerialseg.training.config import Augment, Step, TrainingConfig
from aerialseg.training.dataset import ScaledCrop
from aerialseg.training.learner import make_learner
from aerialseg.training.training_frames import load_training_frames
from tests.drawn_frames import DRAWN


@pytest.fixture
def config(drawn_data: Path) -> DataConfig:
    return TrainingConfig.read(drawn_data / "train.toml").data


def test_colours_map_to_the_class_they_belong_to() -> None:
    ids = np.random.default_rng(0).integers(0, len(DRAWN), (20, 30)).astype(np.uint8)
    palette = np.array([entry.color for entry in DRAWN], dtype=np.uint8)
    assert (colors_to_ids(palette[ids], DRAWN) == ids).all()


def test_an_unknown_colour_is_named_with_file_and_place(tmp_path: Path) -> None:
    mask = np.full((5, 6, 3), (128, 64, 128), dtype=np.uint8)
    mask[3, 4] = (128, 64, 129)
    Image.fromarray(mask).save(tmp_path / "007.png")
    with pytest.raises(InputError, match=r"007\.png: colour \(128, 64, 129\) at row 3, column 4"):
        read_mask(tmp_path / "007.png", DRAWN)


def test_an_index_outside_the_legend_is_named_with_file_and_place(tmp_path: Path) -> None:
    mask = np.ones((5, 6), dtype=np.uint8)
    mask[1, 2] = 9
    Image.fromarray(mask).save(tmp_path / "008.png")
    with pytest.raises(InputError, match=r"008\.png: class 9 at row 1, column 2"):
        read_mask(tmp_path / "008.png", DRAWN)


def test_masks_of_colours_and_of_indices_say_the_same(drawn_data: Path, config: DataConfig) -> None:
    for name in ("000", "011"):
        by_index = read_mask(drawn_data / "masks" / f"{name}.png", DRAWN, config.void)
        by_color = read_mask(drawn_data / "colors" / f"{name}.png", DRAWN, config.void)
        assert (by_index == by_color).all()
        assert (by_index[:4] == NODATA).all()
        assert not (by_index == 0).any()


def test_folders_without_pairs_are_an_input_error(drawn_data: Path, config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        find_pairs(drawn_data, replace(config, masks="nowhere"))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="no image of images/"):
        find_pairs(tmp_path, config)


def test_masks_of_colours_stand_in_for_masks_of_indices_that_are_not_there(drawn_data: Path, tmp_path: Path) -> None:
    """The Semantic Drone Dataset is passed on with either."""
    shutil.copytree(drawn_data / "images", tmp_path / "original_images")
    shutil.copytree(drawn_data / "colors", tmp_path / "RGB_color_image_masks")
    found = find_pairs(tmp_path, DataConfig(Path(), Path(), (96, 96), 0.05))
    assert {mask.parent.name for _, mask in found.values()} == {"RGB_color_image_masks"}


def test_an_image_without_a_mask_is_named(drawn_data: Path, config: DataConfig, tmp_path: Path) -> None:
    for folder, names in (("images", ("000", "001")), ("masks", ("000",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.png").write_bytes((drawn_data / folder / f"{name}.png").read_bytes())
    with pytest.raises(InputError, match=r"images/001\.png has no mask masks/001"):
        find_pairs(tmp_path, config)


def test_the_split_keeps_every_frame_on_one_side(drawn_data: Path, config: DataConfig) -> None:
    learn, held = split_pairs(find_pairs(drawn_data, config), config.split)
    assert (len(learn), len(held)) == (20, 4)
    assert not set(learn) & set(held)


def test_a_split_of_other_frames_is_refused(drawn_data: Path, config: DataConfig, tmp_path: Path) -> None:
    pairs, split = find_pairs(drawn_data, config), tmp_path / "split.csv"
    split.write_text("frame,held_out\nother,1\n000,0\n")
    with pytest.raises(InputError, match=r"split\.csv names 2 frames, of which 1 are not .*\(first 'other'\)"):
        split_pairs(pairs, split)
    split.write_text("frame,held_out\n000,1\n")
    with pytest.raises(InputError, match="0 training frames and 1 test frames"):
        split_pairs(pairs, split)


def test_prepared_masks_are_reduced_by_the_nearest_pixel_only(
    drawn_data: Path, config: DataConfig, tmp_path: Path
) -> None:
    pairs = {"003": find_pairs(drawn_data, config)["003"]}
    made = prepare(pairs, replace(config, prepared=(37, 50)), DRAWN, tmp_path)
    reduced = np.asarray(Image.open(made["003"][1]))
    assert reduced.shape == (37, 50)
    assert set(np.unique(reduced)) <= {1, 2, 3, NODATA}


def test_frames_of_the_same_names_from_another_folder_are_prepared_anew(
    drawn_data: Path, config: DataConfig, tmp_path: Path
) -> None:
    """Even where they are older than what was prepared: a killed run leaves prepared frames and nothing else."""
    shutil.copytree(drawn_data, tmp_path / "other")
    image = tmp_path / "other" / "images" / "003.png"
    Image.fromarray(np.full((96, 96, 3), 9, np.uint8)).save(image)
    os.utime(image, (1, 1))
    first, second = (
        prepare({"003": find_pairs(folder, config)["003"]}, config, DRAWN, tmp_path / "prepared")["003"][0]
        for folder in (drawn_data, tmp_path / "other")
    )
    assert np.asarray(Image.open(first)).std() > 10
    assert (np.asarray(Image.open(second)) == 9).all()


def test_a_folder_that_cannot_be_written_is_an_output_error(
    drawn_data: Path, config: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*003\.png"):
        prepare({"003": find_pairs(drawn_data, config)["003"]}, config, DRAWN, tmp_path / "file")


@pytest.mark.parametrize("crop", [None, (64, 64), (64, 32)])
def test_augmentation_makes_up_no_labels(crop: tuple[int, int] | None) -> None:
    """Every label of a crop is one of the frame's, at any zoom: nothing is padded."""
    from fastai.vision.all import PILImage, PILMask

    mask = np.full((90, 120), 7, dtype=np.uint8)
    image = np.full((90, 120, 3), 200, dtype=np.uint8)
    transform = ScaledCrop((64, 96), crop, Augment(zoom=(0.3, 3.0)))
    for _ in range(20):
        seen, labels = transform((PILImage.create(image), PILMask.create(mask)), split_idx=0)
        assert set(np.unique(np.asarray(labels))) == {7}
        assert np.asarray(seen).min() == 200
        assert seen.size == labels.size == ((crop or (64, 96))[1], (crop or (64, 96))[0])


def test_image_and_mask_are_cropped_and_turned_alike() -> None:
    from fastai.vision.all import PILImage, PILMask

    mask = (np.indices((96, 96)).sum(0) // 24 % 2 * 3).astype(np.uint8)
    mask[:48, :20] = 9
    image = np.stack([mask * 20] * 3, axis=-1)
    transform = ScaledCrop((96, 96), (64, 64), Augment(zoom=(1.0, 1.0)))
    for _ in range(10):
        seen, labels = transform((PILImage.create(image), PILMask.create(mask)), split_idx=0)
        agree = np.asarray(seen)[..., 0] == np.asarray(labels) * 20
        assert agree.mean() > 0.85  # the image is interpolated at the edges


@pytest.mark.parametrize("zoom", [0.5, 1.0, 3.0])
def test_balanced_crops_hold_the_class_that_they_are_centred_on(zoom: float) -> None:
    """One pixel in 10,800 is of class 9, and half of the crops drawn for two classes hold it."""
    from fastai.vision.all import PILImage, PILMask

    mask = np.full((90, 120), 7, dtype=np.uint8)
    mask[1, 118] = 9
    mask[5:9] = NODATA
    image = PILImage.create(np.zeros((90, 120, 3), dtype=np.uint8))
    transform = ScaledCrop((90, 120), (30, 30), Augment(zoom=(zoom, zoom), balanced=1.0))
    crops = [np.asarray(transform((image, PILMask.create(mask)), split_idx=0)[1]) for _ in range(200)]
    held = sum(9 in crop for crop in crops)
    assert held > 60 or zoom < 1  # reduced, the nearest pixel may be another one
    assert all(crop.shape == (30, 30) for crop in crops)


def test_rare_classes_weigh_more_and_the_mean_pixel_weighs_one(tmp_path: Path) -> None:
    mask = np.full((10, 10), 1, dtype=np.uint8)
    mask[0] = 2
    mask[1] = NODATA
    Image.fromarray(mask).save(tmp_path / "a.png")
    weights = class_weights({"a": (tmp_path / "a.png", tmp_path / "a.png")}, 4, 0.5)
    assert weights[2] / weights[1] == pytest.approx((80 / 10) ** 0.5)
    assert (80 * weights[1] + 10 * weights[2]) / 90 == pytest.approx(1)
    assert weights[0] == weights[3] == 1


@pytest.mark.slow
def test_void_pixels_do_not_touch_the_loss(drawn_data: Path, tmp_path: Path) -> None:
    config = TrainingConfig.read(drawn_data / "train.toml")
    sides = load_training_frames(config, drawn_data, tmp_path, Silent())
    learner = make_learner(config, sides, Step((64, 64), 1, 4, 1e-3), 4)
    loss = learner.loss_func
    logits, target = torch.randn(2, 4, 8, 8), torch.randint(1, 4, (2, 8, 8))
    target[:, :3] = NODATA
    changed = logits.clone()
    changed[:, :, :3] += torch.randn(2, 4, 3, 8)
    assert loss(logits, target) == loss(changed, target)
    _, masks = learner.dls.one_batch()
    assert 0 not in torch.unique(torch.Tensor(masks))
