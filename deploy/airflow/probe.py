"""Run by Airflow's own interpreter, not by pytest: what Airflow makes of the DAG's folder, as one JSON object.

Usage: probe.py FOLDER. Airflow's words go to standard error.
"""

import json
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s


def main(folder: str) -> None:
    bag = DagBag(dag_folder=folder)
    told: dict = {"errors": bag.import_errors, "dags": sorted(bag.dags)}
    if bag.import_errors:
        sys.exit(f"import errors: {bag.import_errors}")
    dag = bag.dags["plumbline_retrain"]
    dag.check_cycle()
    [task] = dag.tasks
    told["dag"] = {
        "tasks": dag.task_ids,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "timeout_seconds": dag.dagrun_timeout.total_seconds(),
    }
    told["task"] = {
        "retries": task.retries,
        "delay_seconds": task.retry_delay.total_seconds(),
        "backoff": float(task.retry_exponential_backoff),
        "max_delay_seconds": task.max_retry_delay.total_seconds(),
        "timeout_seconds": task.execution_timeout.total_seconds(),
        "deferrable": task.deferrable,
        "failure": [each.__name__ for each in task.on_failure_callback],
    }
    told["nights"] = nights(dag)
    end = pendulum.instance(datetime(2026, 7, 2, 1, 30, tzinfo=UTC))
    context = {"data_interval_end": end, "ti": instance(), "run_id": "scheduled__1", "dag": dag, "task": task}
    task.render_template_fields(context)
    request = task.build_pod_request_obj(None, dry_run=True)  # a dry run asks no cluster
    container = next(each for each in request.spec.containers if each.name == "retrain")
    told["container"] = {
        "args": container.args,
        "command": container.command,
        "image": container.image,
        "memory": container.resources.limits["memory"],
        "read_only": container.security_context.read_only_root_filesystem,
    }
    told["namespace"] = request.metadata.namespace
    told["restart"] = request.spec.restart_policy
    told["grace_seconds"] = request.spec.termination_grace_period_seconds
    told["claims"] = [v.persistent_volume_claim.claim_name for v in request.spec.volumes if v.persistent_volume_claim]
    told["ends"] = {str(code): ending(task, code) for code in (0, 1, 2, 75, 137, 143, None)}
    print(json.dumps(told))  # noqa: T201 - the result


def instance() -> SimpleNamespace:
    return SimpleNamespace(map_index=-1, dag_id="plumbline_retrain", task_id="retrain", run_id="r", try_number=1)


def nights(dag) -> list:
    """The intervals of three nights around the change to winter time: [begin, end, when it runs], UTC."""
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable

    ours = dag.timetable
    core = CronDataIntervalTimetable(ours.expression, timezone=ours.timezone)
    first = pendulum.instance(datetime(2026, 10, 22, tzinfo=UTC))
    restriction = TimeRestriction(earliest=first, latest=None, catchup=True)
    last: DataInterval | None = None
    found = []
    for _ in range(4):
        info = core.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        last = info.data_interval
        found.append([each.isoformat() for each in (last.start, last.end, info.run_after)])
    return [str(ours.timezone), ours.expression, found]


def ending(task, code: int | None) -> str:
    """What Airflow is told of a pod whose container ended so; None: the pod was taken away while it ran."""
    state = None if code is None else k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code))
    statuses = [
        k8s.V1ContainerStatus(
            name="retrain", state=state, image="i", image_id="i", ready=False, restart_count=0, started=False
        )
    ]
    phase = "Succeeded" if code == 0 else "Failed"
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="retrain-1", namespace="n", labels={}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="retrain")]),
        status=k8s.V1PodStatus(phase=phase, container_statuses=statuses),
    )
    # What asks the cluster is left out; what decides is not.
    task.is_istio_enabled = lambda pod: False
    task.patch_already_checked = task.process_pod_deletion = lambda *_, **__: None
    task._read_pod_container_states = task._read_pod_events = lambda *_, **__: None
    try:
        task.cleanup(pod, pod)
    except AirflowFailException:
        return "given up"
    except AirflowException:
        return "tried again"
    return "done"


main(sys.argv[1])
