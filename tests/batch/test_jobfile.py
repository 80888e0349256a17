"""Job files: every example loads, a slip is named with what was meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aerialseg.batch.job_settings import decisive_settings
from aerialseg.batch.jobfile import TABLES, Failures, Retry, job_of, read_job
from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.settings import OPTIONS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "configs" / "jobs").glob("*.toml"))
MINIMAL: dict[str, Any] = {"inputs": {"glob": "*.tif"}, "outputs": {"layer": "{stem}.gpkg"}}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    job = read_job(path)
    assert job.name
    assert "{" in job.outputs.layer


def test_every_key_of_a_job_file_is_documented() -> None:
    page = (ROOT / "docs" / "batch.md").read_text()
    missing = [
        f"{table}.{field}"
        for table, kind in TABLES.items()
        for field in kind.__dataclass_fields__
        if not re.search(rf"^{field} +=", page, re.MULTILINE)
    ]
    missing += [name for name in OPTIONS if f"`{name}`" not in page]
    assert not missing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": {}}, "unknown key 'input': did you mean 'inputs'?"),
        ({"inputs": {"globb": "*.tif"}}, r"unknown key 'globb' in \[inputs\]: did you mean 'glob'\?"),
        ({"settings": {"min-are": 1}}, r"unknown key 'min-are' in \[settings\]: did you mean 'min-area'\?"),
        ({"settings": {"overwrite": True}}, "unknown key 'overwrite'"),
        ({"settings": {"min-area": "much"}}, r"settings\.min-area is 'much': wanted 0 or more m²"),
        ({"settings": {"resolution": -1}}, "wanted metres per pixel"),
        ({"settings": {"require-crs": 1}}, "wanted true or false"),
        ({"settings": {"bands": True}}, "settings.bands is true"),
        ({"settings": []}, r"wanted a table, \[settings\]"),
        ({"inputs": {}}, "no source: wanted one of glob, list, csv, stac"),
        ({"inputs": {"glob": "a", "list": "b"}}, "glob and list: wanted one of"),
        ({"inputs": {"glob": [1]}}, r"inputs\.glob is \[1\]|inputs\.glob is 1: wanted text"),
        ({"outputs": {"raster": "a.tif"}}, r"\[outputs\] lacks the key 'layer'"),
        ({"retry": {"on": ["weather"]}}, r"retry\.on is 'weather': wanted one of"),
        ({"retry": {"times": -1}}, "retry wants"),
        ({"run": {"rasters": 0}}, r"run\.rasters wants 1 or more"),
        ({"run": {"rasters": True}}, r"run\.rasters is True: wanted a whole number"),
        ({"failures": {"tolerate": "some"}}, "failures.tolerate is 'some'"),
        ({"failures": {"tolerate": -1}}, "failures.tolerate is -1"),
        ({"keep": {"reports": 0}}, "keep.reports is 0"),
        ({"hooks": {"after": "echo 'x"}}, "hooks.after"),
        ({"name": 3}, "name is 3: wanted text"),
    ],
)
def test_a_slip_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        job_of({**MINIMAL, **changes}, Path("/jobs/night.toml"))


def test_the_least_job_file_has_defaults_for_the_rest() -> None:
    job = job_of(MINIMAL, Path("/jobs/night.toml"))
    assert (job.name, job.folder, job.model_ref) == ("night", Path("/jobs/night.job"), None)
    assert job.settings == {}


def test_settings_are_the_keywords_of_segment() -> None:
    values = {"min-area": 1, "bands": [3, 2, 1], "resolution": "native", "scale": [0, 4095.0], "max_pixels": 1e9}
    job = job_of({**MINIMAL, "settings": values}, Path("/jobs/night.toml"))
    assert job.settings == {
        "min_area_m2": 1.0,
        "bands": (3, 2, 1),
        "resolution_m": "native",
        "scale": (0.0, 4095.0),
        "max_pixels": 1_000_000_000,
    }
    assert "max_pixels" not in decisive_settings(job.settings)


def test_the_old_name_of_two_settings_is_taken() -> None:
    assert job_of({**MINIMAL, "settings": {"gsd": 0.05}}, Path("/jobs/night.toml")).settings == {"gsd_m": 0.05}
    with pytest.raises(UsageError, match=r"settings\.gsd is -1: wanted metres per pixel"):
        job_of({**MINIMAL, "settings": {"gsd": -1}}, Path("/jobs/night.toml"))


def test_paths_are_relative_to_the_file_and_know_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHT", "north")
    job = job_of(MINIMAL, Path("/jobs/night.toml"))
    assert job.at("x/$FLIGHT.tif") == Path("/jobs/x/north.tif")
    assert job.at("/srv/x.tif") == Path("/srv/x.tif")


def test_a_file_that_is_missing_or_no_toml_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the job file"):
        read_job(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("inputs = ")
    with pytest.raises(InputError, match=r"a\.toml"):
        read_job(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("[input]\n")
    with pytest.raises(UsageError, match=r"a\.toml: unknown key 'input'"):
        read_job(tmp_path / "a.toml")


@pytest.mark.parametrize(("tolerate", "allowed"), [(0, 0), (3, 3), ("0 %", 0), ("2.5 %", 5), ("100 %", 200)])
def test_tolerated_failures_are_a_number_or_a_share(tolerate: int | str, allowed: int) -> None:
    assert Failures(tolerate).allowed(200) == allowed


def test_pauses_grow_up_to_a_limit() -> None:
    retry = Retry(times=4, wait_s=10, factor=3, max_wait_s=60)
    assert [retry.pause_s(attempt) for attempt in (1, 2, 3, 4)] == [10, 30, 60, 60]
