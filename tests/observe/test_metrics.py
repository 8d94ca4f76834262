"""Metrics: what is declared can be counted and scraped, and nothing else."""

import socket
import urllib.request

import pytest

from observe.metrics import Metrics
from plumbline.errors import NotFound, Unready
from plumbline.names import METRICS


def test_every_declared_metric_stands_in_the_text_with_its_help() -> None:
    text = Metrics().text().decode()
    for metric in METRICS:
        # Prometheus's text format keeps a counter's `_total` in samples and header alike.
        assert f"# HELP {metric.name} {metric.help}" in text
        assert f"# TYPE {metric.name} {metric.kind}" in text


def test_a_counter_counts_by_label_and_a_histogram_by_bucket() -> None:
    metrics = Metrics()
    metrics.counter("plumbline_decisions_total").labels("review").inc(3)
    metrics.histogram("plumbline_batch_transactions").observe(300)
    text = metrics.text().decode()
    assert 'plumbline_decisions_total{outcome="review"} 3.0' in text
    assert 'plumbline_batch_transactions_bucket{le="256.0"} 0.0' in text
    assert 'plumbline_batch_transactions_bucket{le="512.0"} 1.0' in text


def test_two_sets_of_metrics_do_not_share_a_number() -> None:
    one, other = Metrics(), Metrics()
    one.gauge("plumbline_leader").set(1)
    assert "plumbline_leader 0.0" in other.text().decode()


def test_a_name_that_is_not_declared_or_of_another_kind_is_refused() -> None:
    with pytest.raises(NotFound, match="plumbline_typo_total is no counter"):
        Metrics().counter("plumbline_typo_total")
    with pytest.raises(NotFound, match="plumbline_leader is no counter"):
        Metrics().counter("plumbline_leader")


def test_metrics_are_scraped_over_http_and_port_zero_serves_nothing() -> None:
    assert Metrics().serve("127.0.0.1", 0) is None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Metrics().serve("127.0.0.1", port)
    assert server is not None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"plumbline_leader" in answer.read()
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_in_use_is_one_sentence_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unready, match="PLUMBLINE_METRICS_PORT"):
        Metrics().serve("127.0.0.1", taken.getsockname()[1])
