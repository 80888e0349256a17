"""The splits of configs/training/splits: what their files promise."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from aerialseg.datasets.pairs import read_scenes, read_split
from aerialseg.datasets.splits import at_random, read_groups

SPLITS = Path(__file__).resolve().parents[2] / "configs/training/splits"
GROUPS, PLACES, RANDOM = (SPLITS / f"semantic-drone-{name}.csv" for name in ("groups", "places", "random"))


def frames() -> list[str]:
    with open(GROUPS, newline="", encoding="utf-8") as file:
        return [row["frame"] for row in csv.DictReader(file)]


def test_by_place_no_place_is_on_both_sides() -> None:
    split, scenes = read_split(PLACES), read_scenes(PLACES)
    sides = [{scenes[frame] for frame, held in split.items() if held is side} for side in (False, True)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_by_place_each_frame_is_where_its_group_says_and_those_without_one_are_nowhere() -> None:
    groups = read_groups(GROUPS, frames())
    assert read_scenes(PLACES) == {frame: scene for frame, scene in groups.items() if scene}


def test_at_random_it_is_what_the_command_makes() -> None:
    split = read_split(RANDOM)
    assert list(split) == frames()
    assert {frame for frame, held in split.items() if held} == at_random(frames(), 0.2, 2026)


@pytest.mark.data
def test_both_name_the_frames_that_lie_beside_the_checkout(shared_data: Path) -> None:
    assert frames() == sorted(path.stem for path in (shared_data / "drone/original_images").iterdir())
