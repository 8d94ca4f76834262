"""The Kubernetes manifests, checked without a cluster: by Kubernetes' own schemas, strictly, and by rules of ours."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no stubs
import pytest
import yaml

from plumbline.cli import main as cli
from plumbline.cli.beam import WORKER_POOL
from plumbline.settings import SECRETS, Settings, load, variable
from tests.project.test_containers import IMAGE, ROOT, locked

RETRAIN = ROOT / "deploy" / "kubernetes" / "retrain.yaml"
FLINK = ROOT / "deploy" / "flink" / "flink.yaml"
POD = ROOT / "deploy" / "airflow" / "dags" / "retrain_pod.yaml"
VERSIONS = ("1.31", "1.34", kubernetes_validate.latest_version())


def resources(file: Path) -> Iterator[dict[str, Any]]:
    """Every resource of a file, those of its lists among them."""
    for document in yaml.safe_load_all(file.read_text()):
        yield from document["items"] if document["kind"] == "List" else [document]


def named(file: Path, kind: str, name: str) -> dict[str, Any]:
    return next(each for each in resources(file) if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pods(file: Path) -> dict[str, dict[str, Any]]:
    """Specifications of all pods that a file leads to, by the name of what makes them."""
    found = {}
    for each in resources(file):
        spec = each.get("spec", {})
        template = (
            spec.get("jobTemplate", {}).get("spec", spec).get("template", each if each["kind"] == "Pod" else None)
        )
        if template:
            found[each["metadata"]["name"]] = template["spec"]
    return found


ALL_PODS = [(file.name, name) for file in (RETRAIN, FLINK, POD) for name in pods(file)]


def pod_of(file: str, name: str) -> dict[str, Any]:
    return pods(next(each for each in (RETRAIN, FLINK, POD) if each.name == file))[name]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", [RETRAIN, FLINK, POD], ids=lambda file: file.name)
def test_kubernetes_knows_every_field(file: Path, version: str) -> None:
    kinds = []
    for each in resources(file):
        kubernetes_validate.validate(each, version, strict=True)
        kinds.append(each["kind"])
    assert kinds


def test_a_misspelt_field_would_be_seen() -> None:
    job = named(RETRAIN, "CronJob", "retrain")
    job["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("file", "name"), ALL_PODS)
def test_every_pod_is_as_the_restricted_standard_asks(file: str, name: str) -> None:
    pod = pod_of(file, name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        safe = container["securityContext"]
        assert safe["allowPrivilegeEscalation"] is False, container["name"]
        assert safe["readOnlyRootFilesystem"] is True, container["name"]
        assert safe["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert safe.get("runAsUser", pod["securityContext"]["runAsUser"]) > 0, container["name"]
        assert IMAGE.fullmatch(container["image"]), container["image"]
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound]), container["name"]
    kinds = {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_a_night_runs_alone_off_peak_in_the_banks_zone_and_not_for_ever() -> None:
    spec = named(RETRAIN, "CronJob", "retrain")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Europe/Berlin"
    minute, hour, *every = spec["schedule"].split()
    assert every == ["*", "*", "*"]
    # The UTC midnight that is the cut-off is over by then, in winter and in summer.
    assert 2 * 60 < int(hour) * 60 + int(minute) < 5 * 60
    assert 0 < spec["startingDeadlineSeconds"] < 86_400
    job = spec["jobTemplate"]["spec"]
    assert spec["startingDeadlineSeconds"] + job["activeDeadlineSeconds"] < 86_400
    assert spec["successfulJobsHistoryLimit"] > 0
    assert spec["failedJobsHistoryLimit"] > 0


def test_what_ends_a_pod_says_whether_it_is_tried_again() -> None:
    job = named(RETRAIN, "CronJob", "retrain")["spec"]["jobTemplate"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which podFailurePolicy asks for
    first, *rest = job["podFailurePolicy"]["rules"]
    # Rules are tried in order, so a node that was taken away counts for nothing, whatever the exit code was.
    assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    by_code = {code: rule["action"] for rule in rest for code in rule["onExitCodes"]["values"]}
    assert by_code == {1: "FailJob", 2: "FailJob", 75: "Count", 137: "Count", 143: "Count"}
    names = {each["name"] for each in job["template"]["spec"]["containers"]}
    assert {rule["onExitCodes"]["containerName"] for rule in rest} <= names
    assert 0 < job["backoffLimit"] <= 6


def test_the_night_goes_to_machines_that_may_be_taken_away_and_has_time_for_its_checkpoint() -> None:
    for name, pod in (("retrain", pods(RETRAIN)["retrain"]), ("task-manager", pods(FLINK)["task-manager"])):
        [(key, value)] = pod["nodeSelector"].items()
        assert {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} in pod["tolerations"], name
    assert pods(RETRAIN)["retrain"]["terminationGracePeriodSeconds"] >= 60


def test_what_the_night_asks_for_fits_into_its_quota() -> None:
    hard = named(RETRAIN, "ResourceQuota", "training")["spec"]["hard"]
    largest = named(RETRAIN, "LimitRange", "training")["spec"]["limits"][0]["max"]
    [container] = pods(RETRAIN)["retrain"]["containers"]
    for kind in ("cpu", "memory"):
        limit = amount(container["resources"]["limits"][kind])
        assert limit <= amount(largest[kind])
        assert 2 * limit <= amount(hard[f"limits.{kind}"])  # a night, and one by hand beside it
    [claim] = [each for each in resources(RETRAIN) if each["kind"] == "PersistentVolumeClaim"]
    assert amount(claim["spec"]["resources"]["requests"]["storage"]) <= amount(hard["requests.storage"])


def amount(text: str) -> float:
    """A Kubernetes quantity as a number.

    >>> amount("2Gi") / amount("1024Mi"), amount("250m")
    (2.0, 0.25)
    """
    number, unit = re.fullmatch(r"([0-9.]+)(m|[KMGT]i)?", text).groups()
    return float(number) * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]


def test_commands_and_settings_of_ours_exist_and_no_secret_stands_in_an_environment(tmp_path: Path) -> None:
    known = {variable(name) for name in Settings.__struct_fields__} | {variable(name) + "_FILE" for name in SECRETS}
    checked = 0
    for file in (RETRAIN, FLINK, POD):
        for pod in pods(file).values():
            for container in pod["containers"]:
                environment = {each["name"]: each["value"] for each in container.get("env", [])}
                ours = {name: value for name, value in environment.items() if name.startswith("PLUMB")}
                assert set(ours) <= known
                assert not {variable(name) for name in SECRETS} & set(environment)
                assert not re.search(r"://[^/@\s]*:[^@\s]+@", " ".join(environment.values()))
                if ours:
                    assert load(ours).data_dir == "/data"
                    checked += 1
                if container["image"].startswith("plumbline-") and "command" not in container:
                    assert container["args"][0] in cli.VERBS
    assert checked == 3


@pytest.mark.parametrize(("file", "namespace"), [(RETRAIN, "plumbline-training"), (FLINK, "plumbline-flink")])
def test_nothing_may_come_in_or_go_out_unless_a_rule_says_so(file: Path, namespace: str) -> None:
    policies = [each for each in resources(file) if each["kind"] == "NetworkPolicy"]
    [whole] = [each["spec"] for each in policies if each["spec"]["podSelector"] == {}]
    assert whole == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {each["metadata"]["namespace"] for each in policies} == {namespace}
    for each in policies:
        for rule in each["spec"].get("egress", []):
            assert rule["to"], each["metadata"]["name"]
    enforced = named(file, "Namespace", namespace)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_airflow_starts_the_pod_of_the_cronjob() -> None:
    [pod] = resources(POD)
    template = named(RETRAIN, "CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["template"]
    assert pod["spec"] == template["spec"]
    assert pod["metadata"]["labels"] == template["metadata"]["labels"]


def test_flink_runs_the_release_of_beam_that_asks_for_it() -> None:
    versions = locked(ROOT / "deploy" / "training.lock")
    images = {c["image"] for pod in pods(FLINK).values() for c in (*pod["containers"], *pod.get("initContainers", []))}
    [server] = [image for image in images if image.startswith("apache/beam")]
    flink = re.fullmatch(r"apache/beam_flink([0-9.]+)_job_server:([0-9.]+)", server)
    assert flink[2] == versions["apache-beam"]
    [cluster] = [image for image in images if image.startswith("flink:")]
    assert cluster.startswith(f"flink:{flink[1]}.")


def test_a_night_reaches_the_job_server_and_flink_reaches_the_python_workers() -> None:
    task = pods(FLINK)["task-manager"]
    workers = next(each for each in task["containers"] if each["name"] == "python-workers")
    training = {each["image"] for each in pods(RETRAIN)["retrain"]["containers"]}
    assert {workers["image"]} == training, "workers must run the code that asked for the work"
    port = WORKER_POOL.rpartition(":")[2]
    assert f"--service_port={port}" in workers["command"]
    [egress] = [
        rule
        for rule in named(RETRAIN, "NetworkPolicy", "retrain")["spec"]["egress"]
        if any("plumbline-flink" in str(each) for each in rule["to"])
    ]
    service = {each["port"] for each in named(FLINK, "Service", "job-server")["spec"]["ports"]}
    assert {each["port"] for each in egress["ports"]} == service
    allowed = named(FLINK, "NetworkPolicy", "from-retrain")["spec"]["ingress"][0]["ports"]
    assert {each["port"] for each in allowed} == service
    # They see the night's files under one name.
    mounts = {each["name"]: each["mountPath"] for each in workers["volumeMounts"]}
    night = {each["name"]: each["mountPath"] for each in pods(RETRAIN)["retrain"]["containers"][0]["volumeMounts"]}
    assert mounts["data"] == night["data"]


def test_flinks_settings_are_yaml() -> None:
    settings = yaml.safe_load(named(FLINK, "ConfigMap", "flink")["data"]["config.yaml"])
    assert settings["jobmanager"]["rpc"]["address"] == "job-manager"
    assert settings["web"] == {"submit": {"enable": False}, "cancel": {"enable": False}}
