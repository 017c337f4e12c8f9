"""medidistill as an Airflow DAG: one task a stage, each the command line, each resumable.

Put this file into the DAG folder and set the Airflow variables `medidistill_input`, `medidistill_runs` and, where
wanted, `medidistill_config`. A task that is killed and retried goes on where it was. Only what another try can change
is tried again: no room or memory (exit code 5), stopped or killed (130, 137, 143). Every other code fails at once.
"""

from __future__ import annotations

import datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

OUT = "{{ var.value.medidistill_runs }}/{{ ds_nodash }}"
INPUT = "{{ var.value.medidistill_input }}"
CONFIG = "{{ var.value.get('medidistill_config', 'standard') }}"
SHARDS = 4  # tasks that train the experts side by side
FINAL = frozenset(range(1, 256)) - {5, 130, 137, 143}  # exit codes of which no retry is the remedy

RUN = f"medidistill run --output {OUT} --quiet"
FIRST = f"{RUN} --config {CONFIG} --input {INPUT}"


class Command(BashOperator):
    """A BashOperator that is retried where that can help, and else fails at once."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(skip_on_exit_code=FINAL, **arguments)

    def execute(self, context: Any) -> Any:
        """Run the command. Raises `AirflowFailException` on an exit code in FINAL."""
        try:
            return super().execute(context)
        except AirflowSkipException as error:
            raise AirflowFailException(str(error).replace("Skipping", "No retry can help")) from error


with DAG(
    dag_id="medidistill",
    description="Distill the chest X-rays of a folder, compare, export",
    schedule="0 22 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(minutes=5)},
    tags=["medidistill"],
):
    ingest = Command(
        task_id="ingest",
        bash_command=f"if [ -e {OUT}/run.yaml ]; then {RUN} --resume --until ingest; else {FIRST} --until ingest; fi",
    )
    experts = [
        Command(task_id=f"experts_{i}", bash_command=f"medidistill experts --output {OUT} --shard {i}/{SHARDS}")
        for i in range(SHARDS)
    ]
    rest = Command(task_id="distill_evaluate_export", bash_command=f"{RUN} --resume")
    clean = Command(task_id="clean", bash_command=f"medidistill clean {OUT}")
    ingest >> experts >> rest >> clean
