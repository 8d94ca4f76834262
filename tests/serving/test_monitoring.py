"""Metrics under TensorFlow Serving's names, in the text that Prometheus reads."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from plumbline.errors import Invalid
from serving import wire_pb2 as wire
from serving.server.monitoring import MICROS, PATH, Monitoring, prometheus_path


def test_counts_and_histograms_are_written_as_tensorflow_serving_writes_them():
    seen = Monitoring()
    assert seen.text() == "\n"
    seen.request_count.add("fraud", "OK")
    seen.request_count.add("fraud", "OK")
    seen.request_count.add('a "b" \\', "NOT_FOUND")
    seen.request_latency.add(17, "fraud", "Predict", "GRPC")
    seen.wrapped_run_count.add()
    lines = seen.text().splitlines()
    assert lines[:4] == [
        "# TYPE :tensorflow:serving:batching_session:wrapped_run_count counter",
        ":tensorflow:serving:batching_session:wrapped_run_count{} 1",
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="a \\"b\\" \\\\",status="NOT_FOUND"} 1',
    ]
    assert ':tensorflow:serving:request_count{model_name="fraud",status="OK"} 2' in lines
    bucket = ':tensorflow:serving:request_latency_bucket{model_name="fraud",API="Predict",entrypoint="GRPC",le='
    assert [line.removeprefix(bucket) for line in lines if line.startswith(bucket)][:4] == [
        '"10"} 0',
        '"18"} 1',
        '"32.4"} 1',
        '"58.32"} 1',
    ]
    assert bucket + '"+Inf"} 1' in lines
    assert ':tensorflow:serving:request_latency_sum{model_name="fraud",API="Predict",entrypoint="GRPC"} 17' in lines


def test_prometheus_reads_them():
    seen = Monitoring()
    for micros in (5, 10, 11, 10**12):
        seen.runtime_latency.add(micros, "fraud", "Predict", "TF1")
    (family,) = text_string_to_metric_families(seen.text())
    values = {(sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value for sample in family.samples}
    assert family.type == "histogram"
    assert values["bucket", "10"] == 2  # a bound belongs to its bucket
    assert values["bucket", f"{MICROS[-1]:g}"] == 3
    assert values["bucket", "+Inf"] == values["count", None] == 4
    assert values["sum", None] == 10**12 + 26


def test_where_metrics_are_served():
    assert prometheus_path(wire.MonitoringConfig()) is None
    enabled = wire.PrometheusConfig(enable=True)
    assert prometheus_path(wire.MonitoringConfig(prometheus_config=enabled)) == PATH
    enabled.path = "/metrics"
    assert prometheus_path(wire.MonitoringConfig(prometheus_config=enabled)) == "/metrics"
    enabled.path = "metrics"
    with pytest.raises(Invalid, match=r"prometheus_config\.path is 'metrics': expected a path that begins with /"):
        prometheus_path(wire.MonitoringConfig(prometheus_config=enabled))
