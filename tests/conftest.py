"""What tests share: tiny rasters that they draw themselves, and the real data where it lies beside the checkout."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import settings

settings.register_profile("aerialseg", deadline=None, max_examples=30, derandomize=True)
settings.register_profile("thorough", settings.get_profile("aerialseg"), max_examples=100)
settings.load_profile("aerialseg")

REQUIRED = set(os.environ.get("AERIALSEG_REQUIRE", "").split())
"""Markers whose tests must not skip: on CI a missing QGIS is a failure, not a reason."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and REQUIRED & {marker.name for marker in item.iter_markers()}:
        report.outcome = "failed"
        report.longrepr = f"skipped, but AERIALSEG_REQUIRE says that it must run: {report.longrepr}"
    return report


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the collector need not walk through it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that whoever runs the tests has added are none of their business, nor are theirs of that person's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real imagery is not beside the checkout ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of drawn frames (tests/drawn_frames.py)."""
    pytest.importorskip("PIL", reason="frames need aerialseg[train]")
    from tests.drawn_frames import write_drawn_data

    return write_drawn_data(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def few_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten of them, where it does not matter how well a network learns."""
    pytest.importorskip("PIL", reason="frames need aerialseg[train]")
    from tests.drawn_frames import write_drawn_data

    return write_drawn_data(tmp_path_factory.mktemp("few"), learn=8, held_out=2)


WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """A function that writes uint8 (C, h, w) as a GeoTIFF at 10 cm in UTM 33N and returns its path."""

    def write(
        pixels: np.ndarray, name: str = "ortho.tif", *, mask: np.ndarray | None = None, **profile: object
    ) -> Path:
        count, height, width = pixels.shape
        profile = {
            "driver": "GTiff",
            "crs": "EPSG:32633",
            "transform": Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000),
            **profile,
            "count": count,
            "height": height,
            "width": width,
            "dtype": pixels.dtype,
        }
        path = tmp_path / name
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
            file.write(pixels)
            if mask is not None:
                file.write_mask(mask)
        return path

    return write


def land_cover(height: int, width: int, *, classes: int = 6, cell: int = 12, seed: int = 0) -> np.ndarray:
    """uint8 (3, h, w): patches of classes in the first band, a confidence in the second one, noise in the third."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (-(-height // cell), -(-width // cell)), dtype=np.uint8)
    patches = np.kron(coarse, np.ones((cell, cell), np.uint8))[:height, :width]
    return np.stack(
        [patches, rng.integers(0, 101, patches.shape, np.uint8), rng.integers(0, 256, patches.shape, np.uint8)]
    )
