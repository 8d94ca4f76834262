"""Prometheus metrics of one process: those declared in `plumbline.names.METRICS`, and no others.

A process makes one `Metrics` at start, hands it to whoever counts, and serves it. Nothing here is global, so two
processes' worth of metrics can stand side by side in one test.
"""

from http.server import HTTPServer
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client import start_http_server as _start

from plumbline.errors import NotFound, Unready
from plumbline.names import METRICS, Metric

Kind = TypeVar("Kind", Counter, Gauge, Histogram)


class Metrics:
    """Every declared metric, at zero."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self._made: Final = {metric.name: _make(metric, self.registry) for metric in METRICS}
        ProcessCollector(registry=self.registry)

    def counter(self, name: str) -> Counter:
        """The declared counter of this name; `.labels(...)` first where it has labels. Raises NotFound."""
        return self._of(name, Counter)

    def gauge(self, name: str) -> Gauge:
        """The declared gauge of this name. Raises NotFound."""
        return self._of(name, Gauge)

    def histogram(self, name: str) -> Histogram:
        """The declared histogram of this name. Raises NotFound."""
        return self._of(name, Histogram)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def serve(self, host: str, port: int) -> HTTPServer | None:
        """Answer scrapes on host:port in a thread of its own; port 0 serves nothing and returns None.

        The caller ends it with `shutdown()` and `server_close()`. Raises Unready when the port is taken.
        """
        if port == 0:
            return None
        try:
            server, _ = _start(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Unready(
                f"metrics cannot be served on {host}:{port} ({error.strerror}): change PLUMBLINE_METRICS_PORT"
            ) from error
        return server

    def _of(self, name: str, kind: type[Kind]) -> Kind:
        metric = self._made.get(name)
        if not isinstance(metric, kind):
            raise NotFound(f"{name} is no {kind.__name__.lower()} among plumbline.names.METRICS: declare it there")
        return metric


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, metric.help, metric.labels, registry=registry)
