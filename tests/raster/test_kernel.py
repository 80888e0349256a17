"""Kernels that run where nothing can be cached."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from aerialseg.raster import kernel

ROOT = Path(__file__).parents[2]


def test_kernels_run_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernel.njit

    def homeless(**options: bool):  # type: ignore[no-untyped-def]
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(kernel, "njit", homeless)
    assert kernel.kernel(lambda one: one + 1)(2) == 3


HOMELESS = """
    import numpy as np
    from numba.core.caching import CacheImpl
    CacheImpl._locator_classes = []  # no place is writable
    from aerialseg.raster import resample
    from aerialseg.vector import layers
    print(resample._finish(np.full((1, 1, 1), 7 << 24, np.uint32)))
"""


@pytest.mark.slow
def test_all_that_is_compiled_can_do_without_a_cache() -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(HOMELESS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.stdout == "[[[7]]]\n", done.stderr
