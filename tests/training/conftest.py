"""fastai is wanted here; where it is not installed these tests are skipped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aerialseg.training.torchvision_compat import patch_torchvision

pytest.importorskip("fastai", reason="training needs aerialseg[train]")
patch_torchvision()
with warnings.catch_warnings():  # fastai and its friends warn about themselves; that is not ours to mend
    warnings.simplefilter("ignore")
    import fastai.vision.all  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread, and wait for it for minutes on a machine that is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if item.get_closest_marker("slow"):  # one took 225 s where training is six times as slow, without AVX-512
                item.add_marker(pytest.mark.timeout(900))
