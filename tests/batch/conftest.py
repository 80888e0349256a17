"""A folder with a job: drawn rasters, and a job file that any test may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from aerialseg.batch.events import Events
from aerialseg.batch.job import EVERYTHING, Selection, Summary, run_job
from aerialseg.batch.jobfile import Job, job_of
from aerialseg.batch.ledger import Entry, Ledger
from tests.conftest import land_cover
from tests.fakes import Oracle

SIDE = 48


def draw(path: Path, pixels: np.ndarray, *, left: float = 500_000, top: float = 5_000_000) -> Path:
    """A GeoTIFF of 10 cm; strips of few rows, so that half a file is half an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "uint8", "blockysize": 8}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=Affine(0.1, 0, left, 0, -0.1, top), **profile) as file:
        file.write(pixels)
    return path


def cut_in_half(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


@dataclass
class Folder:
    """A job's folder: three rasters a, b and deep/c."""

    path: Path

    def job(self, **changes: Any) -> Job:
        tables = {
            "inputs": {"glob": "in/**/*.tif"},
            "outputs": {"layer": "out/{folder}/{stem}.gpkg", "raster": "out/{folder}/{stem}.tif"},
            "retry": {"times": 0},
            **changes,
        }
        return job_of(tables, self.path / "night.toml")

    def run(
        self, selection: Selection = EVERYTHING, *, predictor: Any = None, events: Events | None = None, **changes: Any
    ) -> Summary:
        return run_job(self.job(**changes), selection, predictor=predictor or Oracle(), events=events)

    def entries(self) -> dict[str, Entry]:
        with Ledger(self.path / "night.job", read_only=True) as ledger:
            return {entry.name: entry for entry in ledger.entries(thumbnails=True)}

    def reasons(self) -> dict[str, str]:
        return {name: entry.reason for name, entry in self.entries().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for number, name in enumerate(("a", "b", "deep/c")):
        draw(tmp_path / "in" / f"{name}.tif", land_cover(SIDE, SIDE, seed=number), left=500_000 + number * SIDE * 0.1)
    return Folder(tmp_path)


Told = list[str]


@pytest.fixture
def told() -> tuple[Events, Told]:
    lines: Told = []
    tell: Callable[[str], None] = lines.append
    return Events(tell), lines
