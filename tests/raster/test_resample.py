"""The kernel against exact fractions on small images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.raster.grid import Box
from aerialseg.raster.resample import ONE, PixelAxis, apply, area_taps, plan, value_taps


def exact_mean(values: np.ndarray, target: int) -> list[Fraction]:
    """What the working pixels of one axis are when shrinking: the mean of what lies under each."""
    source = len(values)
    out = []
    for index in range(target):
        low, high = Fraction(index * source, target), Fraction((index + 1) * source, target)
        shares = [max(Fraction(0), min(high, k + 1) - max(low, k)) for k in range(source)]
        out.append(sum(s * int(v) for s, v in zip(shares, values, strict=True)) / (high - low))
    return out


def resize(pixels: np.ndarray, valid: np.ndarray, target: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    axes = [PixelAxis(there, here) for here, there in zip(valid.shape, target, strict=True)]
    weights = plan(Box(0, 0, *target), *axes)
    whole, window = Box(0, 0, *valid.shape), weights.window
    inner, into = (window & whole).slices, (window & whole).within(window)
    seen, good, there = (np.zeros((len(pixels), *window.shape), np.uint8), *np.zeros((2, *window.shape), bool))
    seen[(slice(None), *into)], good[into], there[into] = pixels[(slice(None), *inner)], valid[inner], True
    return apply(weights, seen, good, there)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_weights_of_every_working_pixel_add_up_to_one_and_stay_inside(source: int, target: int, data: st.DataObject):
    low = data.draw(st.integers(0, target - 1))
    high = data.draw(st.integers(low + 1, target))
    axis = PixelAxis(target, source)
    for taps in (area_taps(low, high, axis), value_taps(low, high, axis)):
        assert (taps.weights.sum(axis=1) == ONE).all()
        used = (taps.first[:, None] + np.arange(taps.weights.shape[1]))[taps.weights > 0]
        first, last = axis.span(low, high)
        assert first <= used.min() <= used.max() < last
    assert area_taps(0, target, axis).first[0] == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 50))
def test_an_offset_moves_the_pixels_and_nothing_else(source: int, target: int, rows: int, origin: int, size: int):
    """Whole source pixels of an offset give what an array moved by so many gives, anywhere on the lattice."""
    here, moved = PixelAxis(target, source), PixelAxis(target, source, rows * target)
    start = origin * target
    for taps in (area_taps, value_taps):
        one, other = taps(start, start + size, moved), taps(start - 0, start + size, here)
        assert (one.first == other.first - rows).all()
        assert (one.weights == other.weights).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_shrinking_gives_the_mean_of_what_lies_under(source: int, target: int, seed: int):
    source, target = max(source, target), min(source, target)
    values = np.random.default_rng(seed).integers(0, 256, source, dtype=np.uint8)
    out, valid = resize(values[None, :, None], np.ones((source, 1), bool), (target, 1))
    assert valid.all()
    assert max(abs(int(a) - b) for a, b in zip(out[0, :, 0], exact_mean(values, target), strict=True)) <= 0.57


@pytest.mark.parametrize("target", [(5, 7), (40, 60), (13, 50)])
def test_one_value_stays_that_value_whatever_the_mask(target):
    rng = np.random.default_rng(0)
    valid = rng.random((20, 30)) < 0.6
    pixels = np.where(valid, np.uint8(173), np.uint8(0))[None]
    out, good = resize(pixels, valid, target)
    assert good.any()
    assert not good.all()
    assert (out[0][good] == 173).all()
    assert (out[0][~good] == 0).all()


def test_a_working_pixel_is_valid_where_at_least_half_of_it_is():
    valid = np.array([[1, 1, 0, 1, 0, 0, 1, 0]], bool)
    assert resize(np.ones((1, 1, 8), np.uint8), valid, (1, 4))[1].tolist() == [[True, True, False, True]]


def test_enlarging_leaves_the_edge_of_nodata_where_it_is():
    valid = np.ones((6, 6), bool)
    valid[2, 3] = False
    _, good = resize(np.ones((1, 6, 6), np.uint8), valid, (24, 24))
    assert (~good).sum() == 16
    assert not good[8:12, 12:16].any()


def test_enlarging_blends_linearly_between_centres():
    out, _ = resize(np.array([[[0, 100]]], np.uint8), np.ones((1, 2), bool), (1, 8))
    assert out[0, 0].tolist() == [0, 0, 13, 38, 63, 88, 100, 100]


def shares(index: int, source: int, target: int, linear: bool) -> np.ndarray:
    """Weights of all source pixels of one axis for one working pixel, in floats and the plain way."""
    low, high = index * source / target, (index + 1) * source / target
    if linear:
        center = min(max((low + high) / 2 - 0.5, 0), source - 1)
        return np.maximum(0, 1 - np.abs(np.arange(source) - center))
    return np.clip(np.minimum(high, np.arange(source) + 1) - np.maximum(low, np.arange(source)), 0, None) / (high - low)


def plainly(pixels: np.ndarray, valid: np.ndarray, target: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(values, share of the area that is valid) of every working pixel: two matrices, all pixels at once."""
    values, areas = (
        [
            np.array([shares(i, s, t, linear and s < t) for i in range(t)])
            for s, t in zip(valid.shape, target, strict=True)
        ]
        for linear in (True, False)
    )
    weight = values[0] @ valid @ values[1].T
    sums = values[0] @ (pixels * valid) @ values[1].T
    return sums / np.where(weight > 0, weight, 1), areas[0] @ valid @ areas[1].T


@given(*4 * [st.integers(1, 24)], st.integers(0, 99))
def test_it_agrees_with_the_plain_way(height: int, width: int, rows: int, cols: int, seed: int):
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) < rng.choice([0.3, 0.8])
    pixels = rng.integers(0, 256, (2, height, width), dtype=np.uint8) * valid
    out, good = resize(pixels, valid, (rows, cols))
    expected, area = plainly(pixels, valid, (rows, cols))
    clear = np.abs(area - 0.5) > 2e-3
    assert (good == (area >= 0.5))[clear].all()
    assert (np.abs(out - expected)[:, good] <= 1).all()
