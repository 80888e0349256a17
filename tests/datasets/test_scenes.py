"""Which frames show the same place: overlapping shots are joined, whatever the drone did; different places are not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="finding places needs aerialseg[scenes]")

from aerialseg.datasets import scenes
from aerialseg.datasets.scenes import Link, compare, find_features, find_links, join, match
from aerialseg.errors import InputError, UsageError
from tests.datasets.drawn_places import draw_place, save, shoot

HERE = (450.0, 450.0)
SAME = {
    "beside": {"at": (560.0, 400.0)},
    "turned": {"at": HERE, "turn": 130.0},
    "higher": {"at": HERE, "zoom": 0.5},
    "lower": {"at": (480.0, 430.0), "zoom": 1.8, "turn": -40.0},
    "brighter": {"at": (420.0, 470.0), "light": 1.4},
    "darker": {"at": (430.0, 500.0), "light": 0.6},
}


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``SAME`` and a plain shot of one place, and three shots of three other places."""
    place = draw_place(1)
    same = {name: shoot(place, **how) for name, how in SAME.items()}
    other = {f"other{seed}": shoot(draw_place(seed), HERE) for seed in (2, 3, 4)}
    return save(tmp_path_factory.mktemp("shots"), {"plain": shoot(place, HERE), **same, **other})


@pytest.fixture(scope="module")
def links(shots: dict[str, Path]) -> list[Link]:
    return find_links(shots)


@pytest.mark.slow
def test_shots_of_one_place_are_joined_and_others_are_not(shots: dict[str, Path], links: list[Link]) -> None:
    places = join(list(shots), links)
    assert {places[name] for name in ("plain", *SAME)} == {0}
    assert len({places[name] for name in shots}) == 4


@pytest.mark.parametrize("name", list(SAME))
def test_each_is_tied_to_the_plain_shot_itself(links: list[Link], name: str) -> None:
    link = next(link for link in links if {link.first, link.second} == {"plain", name})
    assert link.cells >= scenes.LEAST
    assert link.inliers <= link.matches
    assert link.scale == pytest.approx(SAME[name].get("zoom", 1.0), rel=0.05)
    assert abs((-link.turn - SAME[name].get("turn", 0.0) + 180) % 360 - 180) < 3


def test_a_thing_carried_from_place_to_place_joins_nothing(tmp_path: Path) -> None:
    """A marker gives many matches, but on few pixels."""
    marker = draw_place(9)[:220:4, :220:4]
    pair = [shoot(draw_place(seed), HERE) for seed in (5, 6)]
    pair[0][100:155, 40:95] = marker
    pair[1][30:85, 230:285] = marker
    features = {name: find_features(path) for name, path in save(tmp_path, {"a": pair[0], "b": pair[1]}).items()}
    link = compare("a", features["a"], "b", features["b"])
    assert link is not None
    assert link.inliers >= 10
    assert link.cells < scenes.LEAST


def test_a_chain_is_one_place_and_the_largest_comes_first() -> None:
    def link(first: str, second: str, cells: int) -> Link:
        return Link(first, second, 40, 30, cells, 1.0, 0.0)

    chain = [link("d", "e", 9), link("c", "d", 9), link("a", "b", 8), link("a", "c", 7)]
    assert join("abcde", chain, least=8) == {"c": 0, "d": 0, "e": 0, "a": 1, "b": 1}
    assert set(join("abcde", chain, least=7).values()) == {0}
    assert join("ab", []) == {"a": 0, "b": 1}


def test_matches_are_mutual_and_clear() -> None:
    rng = np.random.default_rng(0)
    a = np.abs(rng.normal(size=(40, 128))).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    order = rng.permutation(40)
    rows, cols = match(a, a[order])
    assert len(rows) == 40
    assert (order[cols] == rows).all()
    assert len(match(a, np.concatenate([a, a]))[0]) == 0, "each has two that are equally near"
    assert len(match(a[:0], a)[0]) == 0


def test_a_frame_without_features_is_a_place_of_its_own(tmp_path: Path) -> None:
    flat = np.full((240, 360, 3), 128, np.uint8)
    paths = save(tmp_path, {"flat": flat, "flatter": flat, "place": shoot(draw_place(1), HERE)})
    assert len(set(join(list(paths), find_links(paths)).values())) == 3


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.png"):
        find_features(tmp_path / "page.png")


def test_without_opencv_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"aerialseg\[scenes\]"):
        find_features(tmp_path / "any.png")
