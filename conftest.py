"""What holds for all tests; in continuous integration a skipped test is a failed one: every part must be there."""

import os
import tempfile
from collections.abc import Generator
from typing import TypeVar

import hypothesis
import pytest

# The kernels run with their array bounds checked, compiled apart from the ones that users run.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"plumbline-numba-{os.getuid()}"))

# Machines that run many things at once are no reason to fail: how long one example takes says nothing here.
hypothesis.settings.register_profile("plumbline", deadline=None)
hypothesis.settings.load_profile("plumbline")

# Whoever asks for one of these needs a system part or loads TensorFlow, and `make check` leaves it out.
MARKS_OF_FIXTURES = {
    "kafka": "kafka",
    "postgres": "postgres",
    "browser": "browser",
    "life": "slow",
    "merging_server": "slow",
    "models": "slow",
    "server": "slow",
}

LONG = (
    "test_all_paths.py", "test_fitting.py", "test_evolution.py", "test_demo.py", "test_soak.py",
    "test_three_nights.py", "test_scorer_kafka.py", "test_drift_kafka.py", "test_watching.py",
    "test_releases_kafka.py", "test_canary_stream.py", "test_trained_model.py", "test_api_kafka.py",
    "test_carrying_kafka.py", "test_faults_kafka.py", "test_audit.py", "test_analyzed_days.py",
    "test_steps.py", "test_ledger_faults.py", "test_beam_runners.py", "test_guard_process.py",
    "test_point_in_time_in_bulk.py",
)  # fmt: skip
"""Files that take a minute or so go first, the longest before all, so that all workers end at about the same time; and
before any other those that need two devices, which TensorFlow gives them only as long as it has not started."""

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test carries the marks of the fixtures it uses, also of those behind its own; long files go first."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if mark := MARKS_OF_FIXTURES.get(fixture):
                item.add_marker(mark)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails in CI, and still says why it was skipped."""
    report = yield
    return _refused(report) if IN_CI and not hasattr(report, "wasxfail") else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So does a module that skips itself as a whole."""
    report = yield
    return _refused(report) if IN_CI else report


def _refused(report: Report) -> Report:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which CI does not allow: {reason}"
    return report
