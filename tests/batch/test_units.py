"""The examples for schedulers are accepted by the tools that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "pipelines" / "units"
AIRFLOW = os.environ.get("AERIALSEG_AIRFLOW", "")
"""A Python that has Airflow (which wants an environment of its own), for the test of the DAG."""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here")
    return path


def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more}, check=False)


def test_systemd_accepts_the_service_and_the_timer(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    command = str(Path(sys.executable).parent / "aerialseg")
    for path in UNITS.glob("aerialseg-batch@.*"):
        text = path.read_text().replace("/opt/aerialseg/bin/aerialseg", command)
        (tmp_path / path.name.replace("@", "@nightly")).write_text(text)
        (tmp_path / path.name).write_text(text)
    for kind in ("service", "timer"):
        done = run(analyze, "verify", str(tmp_path / f"aerialseg-batch@nightly.{kind}"))
        assert (done.returncode, done.stderr) == (0, "")


def test_cron_accepts_the_crontab() -> None:
    crontab = tool("crontab")
    done = run(crontab, "-n", str(UNITS / "aerialseg.crontab"))
    if "invalid option" in done.stderr:
        pytest.skip("this crontab has no -n, which checks a file")
    assert done.returncode == 0, done.stderr


def test_kubernetes_accepts_the_cronjob_and_its_job_file_loads() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    documents = list(yaml.safe_load_all((UNITS / "kubernetes-cronjob.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["ConfigMap", "CronJob"]
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)
    import tomllib

    from aerialseg.batch.jobfile import job_of

    job = job_of(tomllib.loads(documents[0]["data"]["nightly.toml"]), Path("/jobs/nightly.toml"))
    assert job.folder == Path("/data/jobs/nightly")


def test_airflow_accepts_the_dag(tmp_path: Path) -> None:
    if not AIRFLOW:
        pytest.skip("AERIALSEG_AIRFLOW names no Python that has Airflow")
    code = (
        "import runpy, sys; dag = runpy.run_path(sys.argv[1])['dag']; dag.validate();"
        "print(dag.dag_id, dag.timetable, [(t.task_id, sorted(t.downstream_task_ids)) for t in dag.tasks])"
    )
    done = run(AIRFLOW, "-c", code, str(UNITS / "airflow_nightly.py"), AIRFLOW_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "aerialseg_nightly" in done.stdout
    assert "[('batch', ['collect']), ('collect', [])]" in done.stdout
