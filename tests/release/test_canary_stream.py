"""Real processes and a planted fault: an erring canary is rolled back by itself, and a healthy one passes.

The long form, with a trained model and every fault, is `python -m benchmarks.canary`.
"""

import shutil
import subprocess
import sys
from contextlib import ExitStack

import msgspec
import pytest

from benchmarks.canary import ROLLBACK_SECONDS, Stream, begin, decided, imbalance
from benchmarks.site import Site
from benchmarks.traffic import Traffic
from plumbline.journal import AssignmentApplied
from release.limits import Limits
from streaming.broker.java import find_java
from tests.declared_model import declared_models
from tests.journal_writer import read_topic

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

# The small model's scores are evenly spread, and a machine that runs many things at once is slow: errors are judged.
LIMITS = Limits(latency_ms=60_000, latency_floor_ms=60_000, reviews_a_day=10**9, window_seconds=60)


def test_an_erring_canary_is_rolled_back_and_a_healthy_one_passes(tmp_path, tmp_path_factory):
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    models = tmp_path / "models" / "plumbline"
    shutil.copytree(declared_models(tmp_path_factory), models)
    planted = [sys.executable, "-m", "demo.faulty", str(models), "--fault", "erring", "--fault", "healthy"]
    subprocess.run(planted, check=True, capture_output=True)
    limits = tmp_path / "limits.json"
    limits.write_bytes(msgspec.json.encode(LIMITS))
    site = Site(
        tmp_path / "data", models, keep_versions=3, model_deadline_ms=5_000, guard_limits_file=limits,
    )  # fmt: skip
    with ExitStack() as stack:
        begin(site, stack, ())
        traffic = Traffic(site.broker.bootstrap, 1, 250.0, 100)
        traffic.start()
        stream = Stream(site, lambda: None)
        erring = stream.canary(2, 500, "erring")
        healthy = stream.canary(3, 500, "healthy")
        traffic.hurry.set()
        traffic.join()
        assert traffic.failed is None

        assert erring.incident is not None
        assert (erring.incident.rule, erring.trial.state) == ("errors", "breached")
        assert erring.rolled_back
        assert erring.incident.effective_at - erring.incident.opened_at < ROLLBACK_SECONDS * 1e6
        assert healthy.incident is None
        assert healthy.trial.state == "passed"
        assert stream.opened() == 1

        ids = decided(site.broker.bootstrap)
        assert len(ids) == len(set(ids))
        assert imbalance(site.environ) == 0
        records = [msgspec.json.decode(each.value) for each in read_topic(site.broker.bootstrap, "decisions")]
        kind = AssignmentApplied.__struct_config__.tag
        applied = [each["assignment"]["version"] for each in records if each["type"] == kind and each["assignment"]]
        assert applied == ["champion", "canary-erring", erring.incident.rollback, "canary-healthy"]
        exits = site.end()
        assert exits["guard"] == 0
