"""The request log: what is kept, what is dropped, and that nobody waits for it."""

import threading
from pathlib import Path

import pytest

from serving import wire_pb2 as wire
from serving.records import records
from serving.server.monitoring import Monitoring
from serving.server.request_log import RequestLog, request_log
from serving.server.status import StatusError


def kept(folder):
    found = []
    for path in sorted(folder.glob("*.tfrecord")):
        with path.open("rb") as file:
            found += [wire.PredictionLog.FromString(record) for record in records(file)]
    return found


def entry(text):
    made = wire.PredictionLog()
    made.predict_log.request.model_spec.name = text
    return made


def test_the_drawn_share_is_kept_with_what_tells_where_it_came_from(tmp_path):
    seen = Monitoring()
    draws = iter([0.0, 0.25, 0.24, 0.99])
    log = RequestLog("fraud", tmp_path / "logs" / "fraud", 0.25, seen, lambda: next(draws), lambda: 1700.9)
    for number in range(4):
        log.offer(7, lambda number=number: entry(str(number)))
    log.close()
    found = kept(tmp_path / "logs")
    assert [each.predict_log.request.model_spec.name for each in found] == ["0", "2"]
    about = found[0].log_metadata
    assert (about.model_spec.name, about.model_spec.version.value, about.timestamp_secs) == ("fraud", 7, 1700)
    assert (about.sampling_config.sampling_rate, list(about.saved_model_tags)) == (0.25, ["serve"])
    assert seen.request_log_count.value("fraud", "OK") == 2


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path):
    seen, entered, go = Monitoring(), threading.Event(), threading.Event()

    def slow():
        entered.set()
        assert go.wait(30)
        return entry("slow")

    log = RequestLog("fraud", tmp_path / "fraud", 1, seen, waiting_max=2)
    log.offer(1, slow)
    assert entered.wait(30)
    for _ in range(5):
        log.offer(1, lambda: entry("next"))
    assert seen.request_log_count.value("fraud", "RESOURCE_EXHAUSTED") == 3
    go.set()
    log.close()
    assert len(kept(tmp_path)) == seen.request_log_count.value("fraud", "OK") == 3


def test_what_cannot_be_written_is_counted_and_the_log_goes_on(tmp_path):
    seen = Monitoring()
    (tmp_path / "taken").write_text("a file, not a folder")
    log = RequestLog("fraud", tmp_path / "taken" / "fraud", 1, seen)
    log.offer(1, lambda: entry("a"))
    log.close()
    assert seen.request_log_count.value("fraud", "INTERNAL") == 1


def test_every_start_writes_a_file_of_its_own(tmp_path):
    for _ in range(2):
        log = RequestLog("fraud", tmp_path / "fraud", 1, Monitoring())
        log.offer(1, lambda: entry("a"))
        log.close()
    assert len(list(tmp_path.glob("fraud-*.tfrecord"))) == 2


def told(rate, kind="tfrecord", prefix="/tmp/x"):
    config = wire.LoggingConfig()
    config.sampling_config.sampling_rate = rate
    config.log_collector_config.type, config.log_collector_config.filename_prefix = kind, prefix
    return config


def test_no_rate_is_no_log_and_a_wrong_configuration_is_refused():
    assert request_log("m", wire.LoggingConfig(), Monitoring()) is None
    for config, field in (
        (told(1.5), "sampling_rate is 1.5: expected 0 to 1"),
        (told(float("nan")), "sampling_rate is nan: expected 0 to 1"),
        (told(1, "kafka"), "type is 'kafka': expected tfrecord"),
        (told(1, prefix="x"), "filename_prefix is 'x': expected an absolute path"),
        (told(1, prefix=""), "expected an absolute path"),
    ):
        with pytest.raises(StatusError, match=field):
            request_log("m", config, Monitoring())
    log = request_log("m", told(0.5), Monitoring())
    assert (log.rate, log.prefix) == (0.5, Path("/tmp/x"))
    log.close()
