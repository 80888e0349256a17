"""An Airflow DAG: the nightly job, then one layer of all its results. Put it into the DAGs folder.

Airflow needs no aerialseg of its own: the commands run from the environment that has it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

AERIALSEG = "/opt/aerialseg/bin/aerialseg"
JOB = "/etc/aerialseg/jobs/nightly.toml"

with DAG(
    "aerialseg_nightly",
    schedule="30 1 * * *",
    start_date=datetime(2026, 11, 1),
    catchup=False,
    max_active_runs=1,
    tags=["land cover"],
) as dag:
    # Another try costs little: what is done is not done again, broken inputs are not tried again.
    batch = BashOperator(
        task_id="batch",
        bash_command=f"{AERIALSEG} batch {JOB} --json-log -",
        retries=2,
        retry_delay=timedelta(minutes=10),
        env={"AERIALSEG_DATA": "/srv/aerialseg"},
        append_env=True,
    )
    collect = BashOperator(
        task_id="collect",
        bash_command=f"{AERIALSEG} collect {JOB} --layer /srv/aerialseg/landcover.gpkg --overwrite",
        trigger_rule="all_done",
    )
    batch >> collect
