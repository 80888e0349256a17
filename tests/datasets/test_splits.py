"""Splits kept as files: no place on both sides, the same file for the same seed, the share that was asked for."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aerialseg.cli import cli
from aerialseg.datasets.pairs import read_split
from aerialseg.datasets.splits import at_random, choose, make_split
from aerialseg.errors import InputError, UsageError
from tests.datasets.drawn_places import draw_place, save, shoot

Data = Callable[[int], Path]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """A function that makes a folder of so many small pairs; a mask holds class 0 and one of 1, 2, 3."""

    def make(frames: int) -> Path:
        for folder in ("original_images", "label_images_semantic"):
            (tmp_path / folder).mkdir()
        for number in range(frames):
            mask = np.zeros((16, 24), np.uint8)
            mask[:8] = 1 + number % 3
            Image.fromarray(np.full((16, 24, 3), number, np.uint8)).save(tmp_path / f"original_images/{number:03}.png")
            Image.fromarray(mask).save(tmp_path / f"label_images_semantic/{number:03}.png")
        return tmp_path

    return make


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_groups(path: Path, scenes: list[str]) -> Path:
    path.write_text("frame,scene\n" + "".join(f"{at:03},{scene}\n" for at, scene in enumerate(scenes)))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["split", *map(str, words)])


def test_at_random_it_is_the_share_asked_for_and_the_same_again(data: Data, tmp_path: Path) -> None:
    folder = data(40)
    paths = [tmp_path / f"{name}.csv" for name in ("one", "two", "three")]
    for path, seed in zip(paths, (7, 7, 8), strict=True):
        done = run("--data", folder, "--out", path, "--by", "random", "--seed", seed)
        assert done.exit_code == 0, done.output
        assert done.stdout.split() == [str(path)]
    assert sum(read_split(paths[0]).values()) == 8
    assert len(read_split(paths[0])) == 40
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_at_random_no_side_is_empty_and_the_order_of_frames_is_nothing(count: int, share: float, seed: int) -> None:
    frames = [f"{at:03}" for at in range(count)]
    held = at_random(frames, share, seed)
    assert 1 <= len(held) <= count - 1
    assert abs(len(held) - share * count) <= 1
    assert at_random(reversed(frames), share, seed) == held


@given(st.lists(st.integers(1, 30), min_size=2, max_size=9), st.integers(0, 3), st.floats(0.05, 0.9), st.integers(0, 3))
def test_by_scene_no_side_is_empty_and_the_largest_scene_bounds_the_error(
    frames: list[int], classes: int, share: float, seed: int
) -> None:
    sizes = np.array(frames)
    held = choose(sizes, np.outer(sizes, np.ones(classes, np.int64)), share, seed, draws=40)
    assert 1 <= len(set(held)) == len(held) < len(frames)
    assert abs(sizes[held].sum() / sizes.sum() - share) <= max(sizes) / sizes.sum()


def test_by_scene_the_share_of_each_class_is_kept() -> None:
    """Scenes 0 and 1 hold one class, 2 and 3 the other: half of each is a half of both classes."""
    pixels = np.array([[100, 0], [100, 0], [0, 100], [0, 100]])
    held = choose(np.array([5, 5, 5, 5]), pixels, 0.5, seed=0)
    assert len(set(held) & {0, 1}) == len(set(held) & {2, 3}) == 1


def test_no_scene_is_on_both_sides(data: Data, tmp_path: Path) -> None:
    folder, out = data(30), tmp_path / "split.csv"
    groups = write_groups(tmp_path / "groups.csv", [f"place {at * at % 7}" for at in range(30)])
    done = run("--data", folder, "--out", out, "--groups", groups, "--held-out", 0.3)
    assert done.exit_code == 0, done.output
    sides = {(row["scene"], row["held_out"]) for row in rows_of(out)}
    assert len(sides) == len({scene for scene, _ in sides})
    assert {side for _, side in sides} == {"0", "1"}


def test_the_scenes_that_are_named_are_held_out_and_no_others(data: Data, tmp_path: Path) -> None:
    folder, out = data(6), tmp_path / "split.csv"
    groups = write_groups(tmp_path / "groups.csv", list("aabbcc"))
    done = run("--data", folder, "--out", out, "--groups", groups, "--held-scenes", "c,a")
    assert done.exit_code == 0, done.output
    assert [row["held_out"] for row in rows_of(out)] == list("110011")


def test_a_split_can_be_given_as_groups_and_at_random_it_keeps_the_scenes(data: Data, tmp_path: Path) -> None:
    folder, out, again = data(6), tmp_path / "split.csv", tmp_path / "again.csv"
    groups = write_groups(tmp_path / "groups.csv", list("aabbcc"))
    make_split(folder, out, groups=groups)
    make_split(folder, again, by="random", groups=out)
    assert [row["scene"] for row in rows_of(again)] == list("aabbcc")


def test_a_frame_without_a_scene_is_on_neither_side(data: Data, tmp_path: Path) -> None:
    groups = write_groups(tmp_path / "groups.csv", ["a", "", "b", "b"])
    make_split(data(4), tmp_path / "split.csv", groups=groups)
    assert list(read_split(tmp_path / "split.csv")) == ["000", "002", "003"]


def test_places_are_found_in_the_imagery_itself(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="finding places needs aerialseg[scenes]")
    shots = {
        f"{seed}{name}": shoot(draw_place(seed), at, turn=turn)
        for seed in (1, 2)
        for name, at, turn in (("a", (450.0, 450.0), 0.0), ("b", (520.0, 420.0), 70.0))
    }
    save(tmp_path / "original_images", shots)
    save(tmp_path / "label_images_semantic", shots)  # colours are classes too
    out, links = tmp_path / "split.csv", tmp_path / "links.csv"
    done = run("--data", tmp_path, "--out", out, "--links", links)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(out), str(links)]
    scenes = {row["frame"]: row["scene"] for row in rows_of(out)}
    assert scenes["1a"] == scenes["1b"] != scenes["2a"] == scenes["2b"]
    assert {("1a", "1b"), ("2a", "2b")} <= {(row["first"], row["second"]) for row in rows_of(links)}


def test_two_frames_are_enough(data: Data, tmp_path: Path) -> None:
    folder = data(2)
    groups = write_groups(tmp_path / "groups.csv", ["a", "b"])
    for number, more in enumerate(({"by": "random"}, {"groups": groups})):
        make_split(folder, tmp_path / f"{number}.csv", **more)
        assert sorted(read_split(tmp_path / f"{number}.csv").values()) == [False, True]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--held-out", 1], 2, "between 0 and 1"),
        (["--by", "random", "--links", "links.csv"], 2, "links"),
        (["--links", "split.csv"], 2, "same name"),
        (["--groups", "one.csv"], 3, "one scene"),
        (["--groups", "none.csv"], 3, "none.csv"),
        (["--groups", "short.csv"], 3, "lacks 1 frames, the first of them 002"),
        (["--groups", "two.csv", "--held-scenes", "c"], 2, "no frame is of scene 'c'; there are a, b"),
        (["--groups", "two.csv", "--held-scenes", "b,a"], 2, "leave at least one for training"),
        (["--by", "random", "--held-scenes", "a"], 2, "split is random"),
        (["--images", "photos"], 3, "photos"),
        (["--by", "random", "--out", "nowhere/split.csv"], 5, "nowhere"),
    ],
)
def test_what_goes_wrong_is_said(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], code: int, message: str
) -> None:
    data(3)
    monkeypatch.chdir(tmp_path)
    write_groups(tmp_path / "one.csv", ["a", "a", "a"])
    write_groups(tmp_path / "two.csv", ["a", "a", "b"])
    write_groups(tmp_path / "short.csv", ["a", "b"])
    done = run("--data", ".", "--out", "split.csv", *words)
    assert done.exit_code == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "split.csv").exists()


def test_an_existing_split_stays_without_overwrite(data: Data, tmp_path: Path) -> None:
    folder, out = data(4), tmp_path / "split.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        make_split(folder, out, by="random")
    assert out.read_text() == "mine"
    make_split(folder, out, by="random", overwrite=True)
    assert len(read_split(out)) == 4


def test_without_images_or_with_one_it_says_so(data: Data, tmp_path: Path) -> None:
    folder = data(1)
    with pytest.raises(InputError, match="at least 2"):
        make_split(folder, tmp_path / "split.csv", by="random")
    next((folder / "original_images").iterdir()).unlink()
    with pytest.raises(InputError, match="met 0 images and 1 masks"):
        make_split(folder, tmp_path / "split.csv", by="random")


def test_without_opencv_it_says_what_to_do(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    done = run("--data", data(3), "--out", tmp_path / "split.csv")
    assert done.exit_code == 2
    assert "aerialseg[scenes]" in done.stderr
    assert "--groups" in done.stderr
