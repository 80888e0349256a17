"""The search for the batch that fits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import ResourceError
from aerialseg.training.search import KeptBytes, find_batch, runs_out


@given(room=st.integers(1, 5000), most=st.integers(1, 600))
def test_the_largest_power_of_two_that_fits_is_found(room: int, most: int) -> None:
    found = find_batch(lambda batch: batch <= room, most)
    assert found & (found - 1) == 0
    assert found <= min(room, most)
    assert found * 2 > min(room, most)


def test_a_batch_that_never_fits_is_an_error() -> None:
    with pytest.raises(ResourceError, match="smaller crop"):
        find_batch(lambda _: False, 8)


@pytest.mark.slow
def test_running_out_of_memory_is_an_answer_not_an_error() -> None:
    def greedy() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert runs_out(greedy)
    assert not runs_out(lambda: None)


def test_what_is_kept_for_the_way_back_is_counted_once() -> None:
    x = torch.ones(1000, requires_grad=True)
    kept = KeptBytes()
    with kept:
        y = x * 2.0
        z = y.exp()  # keeps its result
        w = z.sin()  # keeps z, which is kept already
    assert kept.total == 4000
    w.sum().backward()
