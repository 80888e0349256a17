"""Which blocks are held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerialseg.datasets import splits
from aerialseg.datasets.holdout import hold_out


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(2, 7), st.integers(1, 6), st.floats(0.05, 0.6), st.integers(0, 99))
def test_each_class_of_two_blocks_is_on_both_sides_if_it_can_be(
    blocks: int, classes: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 1000, (blocks, classes)) * (rng.random((blocks, classes)) < 0.5)
    pixels[:, 0] += 1
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(splits, "DRAWS", 50)
        held = hold_out(pixels, share, seed)
        assert held == hold_out(pixels, share, seed)
    assert 0 < len(held) < blocks
    lacking = _lacking(pixels, held)
    ways = ([at for at in range(blocks) if way >> at & 1] for way in range(1, 2**blocks - 1))
    best = min(_lacking(pixels, way) for way in ways)
    assert lacking <= best + 1  # block by block, it may stop one short of the best of all ways


def _lacking(pixels: np.ndarray, held: list[int]) -> int:
    """Classes of two blocks or more that are on one side only."""
    part = pixels[held].sum(axis=0)
    whole = pixels.sum(axis=0)
    return int((((part == 0) | (part == whole)) & ((pixels > 0).sum(axis=0) > 1)).sum())
