"""The nightly retrain as an Airflow DAG: one pod that runs `plumbline retrain`, as cron and the CronJob do.

Airflow decides when, and tells people when the night could not run; what a night is, how it resumes, its lock and its
own notices are Plumbline's. The pod is `retrain_pod.yaml`, the same one that the CronJob makes (a test compares them),
so no worker of Airflow holds TensorFlow, the bank's data or Plumbline's secrets. Use this or the CronJob, not both; if
both ever run, Plumbline's lock lets one of them through.

Set in the environment of Airflow's parts: PLUMBLINE_BANK_ZONE (Europe/Berlin), PLUMBLINE_RETRAIN_CRON (30 3 * * *),
PLUMBLINE_RETRAIN_NAMESPACE (plumbline-training), PLUMBLINE_RETRAIN_POD (the file beside this one). Two connections:
`plumbline_kubernetes`, and `plumbline_notify` (HTTP: host is the webhook's address, password its token) for failures.
"""

import json
import logging
import os
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, Connection, Context, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

ZONE = os.environ.get("PLUMBLINE_BANK_ZONE", "Europe/Berlin")
CRON = os.environ.get("PLUMBLINE_RETRAIN_CRON", "30 3 * * *")
NAMESPACE = os.environ.get("PLUMBLINE_RETRAIN_NAMESPACE", "plumbline-training")
POD = os.environ.get("PLUMBLINE_RETRAIN_POD", str(Path(__file__).with_name("retrain_pod.yaml")))
CONTAINER = "retrain"

FINAL_EXITS = frozenset({1, 2})
"""Refused by the gate, failed, or called wrongly: a person has to look, and trying again cannot help."""

# The interval ends when the night begins; what counts is what was known at the UTC midnight before.
CUT_OFF = "{{ data_interval_end.in_timezone('UTC').to_date_string() }}"

log = logging.getLogger(__name__)


def exit_code(pod: Any) -> int | None:
    """How the container of a pod ended; None when it never did, as when the node was taken away."""
    for each in (pod.status.container_statuses if pod and pod.status else None) or ():
        if each.name == CONTAINER and each.state and each.state.terminated:
            return int(each.state.terminated.exit_code)
    return None


class RetrainPod(KubernetesPodOperator):
    """A pod whose final exit codes are not tried again; whatever else ends it, a pre-emption first of all, is."""

    def cleanup(self, pod: Any, remote_pod: Any, *args: Any, **kwargs: Any) -> None:
        """Raises AirflowFailException, which ends all tries, where the pod failed for good."""
        try:
            super().cleanup(pod, remote_pod, *args, **kwargs)
        except AirflowException as error:
            if (code := exit_code(remote_pod)) in FINAL_EXITS:
                raise AirflowFailException(
                    f"plumbline retrain ended with {code}: the champion stays; its log and `run.json` say why"
                ) from error
            raise


def tell_failure(context: Context) -> None:
    """Post to the webhook that a night did not come to its end: the pod may never have run, and then only we know."""
    instance, run = context["ti"], context["dag_run"]
    notice = {
        "id": f"airflow/{instance.dag_id}/{run.run_id}/{instance.try_number}",
        "verdict": "failed",
        "text": f"the nightly retrain {run.run_id} failed: {context.get('exception')}; the champion stays",
        "log": instance.log_url,
    }
    try:
        connection = Connection.get("plumbline_notify")
    except AirflowNotFoundException:
        log.error("there is no connection plumbline_notify, so nobody is told: %s", notice["text"])
        return
    request = urllib.request.Request(
        f"https://{connection.host}",
        data=json.dumps(notice).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {connection.password or ''}",
            "Idempotency-Key": notice["id"],
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the address begins with https
        log.info("told of the failure: %s", answer.status)


with DAG(
    dag_id="plumbline_retrain",
    description="Labels become a better model by morning, or nothing changes",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable(CRON, timezone=ZONE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # A night looks back over months anyhow: nights that were missed are not made up for.
    catchup=False,
    max_active_runs=1,
    # All tries together; by then analysts need the machines.
    dagrun_timeout=timedelta(hours=6),
    tags=["plumbline", "training"],
) as dag:
    RetrainPod(
        task_id="retrain",
        kubernetes_conn_id="plumbline_kubernetes",
        namespace=NAMESPACE,
        pod_template_file=POD,
        base_container_name=CONTAINER,
        arguments=["retrain", "--keep", "--json", "--cut-off", CUT_OFF],
        # The worker is free while the pod runs; a restart of Airflow finds the pod again by its labels.
        deferrable=True,
        reattach_on_restart=True,
        on_finish_action="delete_succeeded_pod",
        startup_timeout_seconds=1800,
        termination_grace_period=120,
        max_active_tis_per_dag=1,
        execution_timeout=timedelta(hours=5, minutes=30),
        retries=5,
        retry_delay=timedelta(minutes=2),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=30),
        on_failure_callback=tell_failure,
    )
