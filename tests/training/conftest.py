"""fastai is wanted here; where it is not installed these tests are skipped."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from aerialseg.training.torchvision_fix import mend_torchvision

pytest.importorskip("fastai", reason="training needs aerialseg[train]")
mend_torchvision()
with warnings.catch_warnings():  # fastai and its friends warn about themselves; that is not ours to mend
    warnings.simplefilter("ignore")
    import fastai.vision.all  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
