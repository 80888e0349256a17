"""Real class rasters of 24 Mpx."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning

from aerialseg.legend import LandClass, Legend
from aerialseg.vector.layers import polygonize
from tests.vector.drawn import write


@pytest.mark.data
@pytest.mark.parametrize("name", ["000.png", "258.png"])
def test_a_real_mask_becomes_a_valid_coverage(name: str, shared_data: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(shared_data / "masks-6000x4000" / name, driver="PNG") as file:
            classes = file.read(1)
    raster = write(tmp_path / "classes.tif", classes, tiled=True)
    legend = Legend(tuple(LandClass(one, f"class {one}", (one, one, one)) for one in range(24)))
    output = tmp_path / "landcover.gpkg"
    info = polygonize(raster, None, output, legend=legend, min_pixels=100, tolerance_px=1.5)
    frame = pyogrio.read_dataframe(output, layer="landcover")
    assert shapely.is_valid(frame.geometry.values).all()
    assert shapely.coverage_is_valid(frame.geometry.values)
    assert frame.area_m2.sum() == pytest.approx(classes.size * 0.0025, rel=1e-12)
    assert info.polygons == len(frame) > 50
    assert sum(info.pixels.values()) == classes.size
    assert np.isin(frame.class_id, np.unique(classes)).all()
