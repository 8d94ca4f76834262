"""The DAG, as Airflow sees it: in an interpreter of its own, since Airflow does not resolve with our requirements."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from plumbline.cli import main as cli

ROOT = Path(__file__).parents[2]
INTERPRETER = ROOT / ".venv-airflow" / "bin" / "python"
FOLDER = ROOT / "deploy" / "airflow"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `deploy/airflow/probe.py` tells of the DAG."""
    if not (ROOT / ".venv-airflow" / ".installed").exists():
        pytest.skip("Airflow is not installed in .venv-airflow: run `make airflow`")
    environ = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environ |= {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # A machine that runs many things at once is no reason to fail.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "250",
    }
    done = subprocess.run(
        [INTERPRETER, FOLDER / "probe.py", FOLDER / "dags"],
        env=environ, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def test_the_dag_is_imported_without_an_error_and_has_one_task(seen: dict[str, Any]) -> None:
    assert seen["errors"] == {}
    assert seen["dags"] == ["plumbline_retrain"]
    assert seen["dag"]["tasks"] == ["retrain"]


def test_nights_are_not_made_up_for_and_never_overlap(seen: dict[str, Any]) -> None:
    assert seen["dag"]["catchup"] is False
    assert seen["dag"]["max_active_runs"] == 1


def test_it_runs_off_peak_in_the_banks_zone_when_the_clocks_change_too(seen: dict[str, Any]) -> None:
    zone, cron, nights = seen["nights"]
    assert (zone, cron) == ("Europe/Berlin", "30 3 * * *")
    # Summer time ends on 25 October: half past three is half past one before, and half past two from then on.
    assert [night[2] for night in nights] == [
        f"2026-10-{day}T{hour}:30:00+00:00" for day, hour in ((23, "01"), (24, "01"), (25, "02"), (26, "02"))
    ]
    assert all(end == run_after for _, end, run_after in nights)


def test_the_cut_off_is_the_utc_midnight_before_the_interval_ends_and_never_the_clock(seen: dict[str, Any]) -> None:
    container = seen["container"]
    assert container["args"] == ["retrain", "--keep", "--json", "--cut-off", "2026-07-02"]
    assert not container["command"]  # the image's own entry point: plumbline
    assert container["args"][0] in cli.VERBS


def test_the_pod_is_the_one_of_the_file(seen: dict[str, Any]) -> None:
    assert seen["container"]["image"] == "plumbline-training:0.1.0"
    assert seen["container"]["memory"] == "16Gi"
    assert seen["container"]["read_only"] is True
    assert seen["namespace"] == "plumbline-training"
    assert seen["restart"] == "Never"
    assert seen["grace_seconds"] == 120
    assert seen["claims"] == ["plumbline-training"]


def test_tries_wait_longer_each_time_and_end_before_the_day_begins(seen: dict[str, Any]) -> None:
    task = seen["task"]
    assert task["retries"] == 5
    assert 0 < task["delay_seconds"] < task["max_delay_seconds"]
    assert task["backoff"] > 0
    assert task["timeout_seconds"] < seen["dag"]["timeout_seconds"] <= 6 * 3600
    assert task["deferrable"] is True
    assert task["failure"] == ["tell_failure"]


def test_only_what_may_go_better_is_tried_again(seen: dict[str, Any]) -> None:
    """0 done; 1 refused or failed, 2 usage: final; 75 stopped, 137, 143 and a node that went away: again."""
    assert seen["ends"] == {
        "0": "done", "1": "given up", "2": "given up",
        "75": "tried again", "137": "tried again", "143": "tried again", "None": "tried again",
    }  # fmt: skip


def test_its_requirements_are_locked_with_hashes_and_name_no_index() -> None:
    lock = (FOLDER / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^\s;]+)", lock, re.MULTILINE))
    wanted = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (FOLDER / "requirements.in").read_text(), re.MULTILINE))
    assert wanted.items() <= pinned.items()
    assert pinned["apache-airflow-core"].startswith("3.3.")
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", lock)
