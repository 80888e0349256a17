"""Each raster of others' samples and test suites: it reads, or the error is the right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import InputError
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.view import make_view

MODEL_GSD_M = 0.05

READS = {  # shape of the working grid, share of valid pixels
    "classmaps/raster-vision-image.tif": ((1332, 1025), 1.0),
    "classmaps/raster-vision-labels.tif": ((1332, 1025), 1.0),
    "ortho/deepforest-2018-sjer-3-252000-4107000-image-477.tif": ((798, 802), 1.0),
    "ortho/deepforest-2019-yell-2-541000-4977000-image-crop.tiff": ((1035, 1249), 1.0),
    "ortho/deepforest-5b90f92da0d7280005fab355-4310.tif": ((3964, 3969), 1.0),
    "ortho/deepforest-osbs-029.tif": ((800, 800), 0.997),
    "ortho/qgis-plugin-deepness-dummy-fotomap-small.tif": ((336, 497), 1.0),
    "ortho/rio-tiler-cog-rgb.tif": ((696, 1148), 1.0),
    "ortho/rio-tiler-cog-rgba.tif": ((696, 1148), 0.887),
    "ortho/rio-tiler-colorado-alpha.tif": ((696, 1148), 0.887),
    "ortho/rio-tiler-colorado-mask.tif": ((696, 1148), 0.969),
    "ortho/rio-tiler-colorado-nodata.tif": ((696, 1148), 0.973),
    "ortho/rio-tiler-colorado.tif": ((696, 1148), 1.0),
}
COARSE = "times coarser than the model's 5 cm"
BANDS = r"the model wants 3 \(red, green, blue\); name them, counting from 1: --bands"
REFUSED = {
    "classmaps/rio-tiler-cog-cmap.tif": "palette image.*gdal_translate -expand rgb",
    "odd/odc-geo-au-3577.tif": f"1 band.*{BANDS} 1,1,1",
    "odd/odc-geo-au-gcp.tif": "ground control points only.*gdalwarp -tps",
    "odd/rio-tiler-cog-nodata-nan.tif": f"1 band.*{BANDS}",
    "odd/solaris-sar-masked.tif": f"4 band.*{BANDS} 1,2,3",
    "ortho/deepforest-test-tiled.tif": f"5 {COARSE}",
    "ortho/detectree-1091-322-00.tif": f"10 {COARSE}",
    "ortho/qgis-plugin-deepness-oils.tif": f"23.4 {COARSE}",
    "ortho/rasterio-alpha.tif": f"61.8 {COARSE}",
    "ortho/rasterio-rgb.byte.tif": f"6e.03 {COARSE}",
    "ortho/rio-cogeo-image-rgb-mask.tif": f"22.9 {COARSE}",
    "ortho/rio-cogeo-image-rgba.tif": f"22.9 {COARSE}",
    "ortho/solaris-road-mask-input.tif": f"1 band.*{BANDS}",
    "ortho/solaris-sample-geotiff.tif": f"1 band.*{BANDS}",
    **{f"detectree/img/1091-322_{number:02d}.tif": COARSE for number in (*range(21), 21, 22, 23, 24)},
    **{f"detectree/response_img/1091-322_{number:02d}.tif": BANDS for number in (0, 5, 11, 19)},
}
WITH_OPTIONS = {  # what the message proposes, done
    "odd/rio-tiler-cog-nodata-nan.tif": {"bands": (1, 1, 1), "scale": (0, 30), "resolution_m": "native"},
    "odd/solaris-sar-masked.tif": {"bands": (1, 2, 3), "scale": (0, 0.5), "resolution_m": "native"},
    "ortho/rasterio-rgb.byte.tif": {"resolution_m": "native"},
    "ortho/rasterio-alpha.tif": {"resolution_m": 4.0},
    "ortho/solaris-sample-geotiff.tif": {"bands": (1, 1, 1), "scale": (0, 2047), "resolution_m": "native"},
    "ortho/rio-cogeo-image-rgb-mask.tif": {"resolution_m": 3.0},
}


def read(path: Path, **options: object) -> tuple[np.ndarray, np.ndarray]:
    view = make_view(describe(path), model_gsd_m=MODEL_GSD_M, **options)
    with Source(view) as source:
        return source.read(Box(0, 0, *view.shape))


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected"), READS.items(), ids=READS)
def test_it_reads(shared_data, name, expected):
    pixels, valid = read(shared_data / "geo" / name)
    shape, share = expected
    # Working pixels are one of a few sizes, at most 1 % off (raster/lattice.py), and count from the CRS's origin.
    assert valid.shape == pytest.approx(shape, rel=0.01, abs=1)
    assert valid.mean() == pytest.approx(share, abs=3e-3)
    assert pixels[:, valid].std() > 10
    assert not pixels[:, ~valid].any()


@pytest.mark.data
@pytest.mark.parametrize(("name", "message"), REFUSED.items(), ids=REFUSED)
def test_it_is_refused_for_the_right_reason(shared_data, name, message):
    with pytest.raises(InputError, match=message):
        read(shared_data / "geo" / name)


@pytest.mark.data
@pytest.mark.parametrize(("name", "options"), WITH_OPTIONS.items(), ids=WITH_OPTIONS)
def test_it_reads_when_told_how(shared_data, name, options):
    pixels, valid = read(shared_data / "geo" / name, **options)
    assert 0 < valid.mean() <= 1
    assert pixels[:, valid].std() > 1


@pytest.mark.data
def test_no_raster_is_left_out(shared_data):
    found = {str(path.relative_to(shared_data / "geo")) for path in (shared_data / "geo").rglob("*.tif*")}
    assert {name for name in found if not name.endswith(".ovr")} == READS.keys() | REFUSED.keys()
