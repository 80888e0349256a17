"""Kernels that run where nothing can be cached."""

from __future__ import annotations

import os
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


@pytest.mark.slow
def test_machine_code_is_kept_in_the_users_cache_and_not_beside_the_package(tmp_path: Path) -> None:
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    (package / "module.py").write_text(
        "from aerialseg.raster.kernel import kernel\n@kernel\ndef one_more(x):\n    return x + 1\nprint(one_more(2))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "LOCALAPPDATA": str(cache), "PYTHONPATH": str(package)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", "import module"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment, check=True)
    assert done.stdout == "3\n"
    assert list(cache.rglob("module.one_more-*.nbi"))
    assert not list(package.rglob("*.nbi"))
