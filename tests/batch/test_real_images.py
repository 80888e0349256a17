"""A job over the real GeoTIFFs of others, one of them cut short: each has its result or its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import job_of
from tests.batch.conftest import cut_in_half
from tests.fakes import Oracle

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.mark.filterwarnings("ignore")
def test_every_real_image_has_its_result_or_its_reason(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted([*(shared_data / "geo").glob("o*/*.tif*"), *(shared_data / "geo/detectree/img").glob("*.tif")])
    paths = [path for path in paths if path.suffix in (".tif", ".tiff")]
    cut = tmp_path / "cut.tif"
    cut.write_bytes((shared_data / "geo/ortho/deepforest-osbs-029.tif").read_bytes())
    cut_in_half(cut)
    (tmp_path / "list.txt").write_text("\n".join(map(str, [*paths, cut])))
    tables = {
        "inputs": {"list": "list.txt"},
        "outputs": {"layer": "out/{stem}{ext}.gpkg", "raster": "out/{stem}{ext}.tif"},
        "settings": {"max-pixels": 5e6},
        "retry": {"times": 0},
    }
    job = job_of(tables, tmp_path / "night.toml")
    summary = run_job(job, predictor=Oracle())
    lines = {line["name"]: line for line in json.loads(summary.reports[0].read_text())["inputs"]}
    assert (summary.exit_code, len(lines)) == (1, len(paths) + 1)
    assert summary.counts["done"] >= 5
    assert {line["kind"] for line in lines.values()} == {"", "input"}
    assert "cut short" in lines["cut.tif"]["error"]
    page = summary.reports[1].read_text()
    assert all(path.name in page for path in paths)
    assert page.count('src="data:image/png') == summary.counts["done"]
    assert run_job(job, predictor=Oracle()).counts == {
        "unchanged": summary.counts["done"],
        "failed": summary.counts["failed"],
    }
