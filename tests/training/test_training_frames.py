"""Who sees which frames: what is chosen by frames must not be judged on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerialseg.datasets.pairs import hash_pairs, prepare
from aerialseg.errors import InputError
from aerialseg.progress import Silent
from aerialseg.training.config import TrainingConfig
from aerialseg.training.training_frames import TrainingFrames, load_training_frames
from tests.drawn_frames import DRAWN


@pytest.fixture
def config(drawn_data: Path, tmp_path: Path) -> TrainingConfig:
    """With a split that names scenes of four frames."""
    rows = [f"{number:03},{int(number >= 20)},scene-{number // 4}" for number in range(24)]
    (tmp_path / "split.csv").write_text("\n".join(["frame,held_out,scene", *rows]) + "\n")
    config = TrainingConfig.read(drawn_data / "train.toml")
    return replace(config, data=replace(config.data, split=tmp_path / "split.csv", watch=4))


def load(config: TrainingConfig, data: Path, folder: Path) -> TrainingFrames:
    return load_training_frames(config, data, folder, Silent())


def test_frames_that_are_only_shown_are_held_out_ones(config: TrainingConfig, drawn_data: Path, tmp_path: Path) -> None:
    sides = load(config, drawn_data, tmp_path)
    assert set(sides.watched) <= set(sides.held)
    assert len(sides.learn) == 20


def test_frames_that_no_line_of_the_split_names_are_counted(
    config: TrainingConfig, drawn_data: Path, tmp_path: Path
) -> None:
    rows = [f"{number:03},{int(number >= 20)}" for number in range(2, 24)]
    (tmp_path / "split.csv").write_text("\n".join(["frame,held_out", *rows]) + "\n")
    said: list[str] = []
    progress = Silent()
    progress.note = said.append  # type: ignore[method-assign]
    load_training_frames(config, drawn_data, tmp_path, progress)
    assert "2 frames that no line of split.csv names: left out" in said


def test_the_hash_tells_another_pixel_and_another_name(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{name}.png")
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    hashes = [hash_pairs(pairs) for pairs in ({"x": (a, b)}, {"x": (b, a)}, {"y": (a, b)}, {"x": (a, a)})]
    assert len(set(hashes)) == 4
    assert hash_pairs({"y": (a, b), "x": (a, b)}) == hash_pairs({"x": (a, b), "y": (a, b)})


def test_an_image_and_a_mask_of_other_shapes_are_named(
    config: TrainingConfig, drawn_data: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.full((40, 60, 3), 9, np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(np.full((40, 50), 1, np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png has 40 x 50 px .*, its image i\.png 40 x 60"):
        prepare({"x": (tmp_path / "i.png", tmp_path / "m.png")}, config.data, DRAWN, tmp_path / "out")
