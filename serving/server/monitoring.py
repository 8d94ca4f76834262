"""What the server counts of itself, under TensorFlow Serving's names and labels, as Prometheus reads it.

The names hold colons and counters have no `_total` at their end, so that dashboards and alerts made for the real server
work with this one. Latencies are in microseconds.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from plumbline.errors import Invalid
from serving import wire_pb2 as wire

PATH: Final = "/monitoring/prometheus/metrics"
PREFIX: Final = ":tensorflow:serving:"


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """So many upper bounds of buckets, each `growth` times the one before; a bucket without a bound comes after them.

    >>> exponential(1, 2, 4)
    (1.0, 2.0, 4.0, 8.0)
    """
    return tuple(scale * float(growth) ** power for power in range(count))


MICROS: Final = exponential(10, 1.8, 33)
WAITED_MICROS: Final = exponential(100, 1.2, 52)
ROWS: Final = exponential(1, 2, 14)
EXAMPLES: Final = exponential(1, 2, 15)


class Counter:
    """Counts, one for each combination of label values."""

    kind: Final = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        self.name = PREFIX + name
        self.labels = labels
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, count: int = 1) -> None:
        """Count once more (or more often) under the given label values."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + count

    def value(self, *values: str) -> int:
        """The count under the given label values; 0 where nothing was counted."""
        return self._counts.get(values, 0)

    def lines(self) -> Iterator[str]:
        """The counts as Prometheus reads them."""
        with self._lock:
            counts = sorted(self._counts.items())
        for values, count in counts:
            yield f"{self.name}{_labels(self.labels, values)} {count}"


class Sampler:
    """A histogram for each combination of label values."""

    kind: Final = "histogram"

    def __init__(self, name: str, *labels: str, bounds: tuple[float, ...]) -> None:
        self.name = PREFIX + name
        self.labels = labels
        self._bounds = bounds
        self._found: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def add(self, sample: float, *values: str) -> None:
        """Sort a sample in under the given label values."""
        bucket = bisect_left(self._bounds, sample)
        with self._lock:
            if values not in self._found:
                self._found[values] = ([0] * (len(self._bounds) + 1), [0.0])
            counts, total = self._found[values]
            counts[bucket] += 1
            total[0] += sample

    def lines(self) -> Iterator[str]:
        """The histograms as Prometheus reads them: buckets that include those below them, sum and count."""
        with self._lock:
            found = [(values, list(counts), total[0]) for values, (counts, total) in sorted(self._found.items())]
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for values, counts, total in found:
            so_far = 0
            for bound, count in zip(bounds, counts, strict=True):
                so_far += count
                yield f"{self.name}_bucket{_labels((*self.labels, 'le'), (*values, bound))} {so_far}"
            yield f"{self.name}_sum{_labels(self.labels, values)} {total:.15g}"
            yield f"{self.name}_count{_labels(self.labels, values)} {so_far}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Monitoring:
    """Everything that one server process counts."""

    def __init__(self) -> None:
        self.request_count = Counter("request_count", "model_name", "status")
        self.request_latency = Sampler("request_latency", "model_name", "API", "entrypoint", bounds=MICROS)
        self.runtime_latency = Sampler("runtime_latency", "model_name", "API", "runtime", bounds=MICROS)
        self.request_example_counts = Sampler("request_example_counts", "model", bounds=EXAMPLES)
        self.request_example_count_total = Counter("request_example_count_total", "model")
        self.model_warmup_latency = Sampler("model_warmup_latency", "model_path", "status", bounds=MICROS)
        self.request_log_count = Counter("request_log_count", "model_name", "status_code")
        self.queuing_latency = Sampler("batching_session:queuing_latency", "thread_pool_name", bounds=WAITED_MICROS)
        self.wrapped_run_count = Counter("batching_session:wrapped_run_count")
        self.padding_size = Sampler("batching_session:padding_size", "execution_batch_size", bounds=ROWS)
        self.input_batch_size = Sampler("batching_session:input_batch_size", bounds=ROWS)
        self.processed_batch_size = Sampler("batching_session:processed_batch_size", bounds=ROWS)

    def text(self) -> str:
        """All of it in Prometheus's text format; what was never counted is left out, as TensorFlow Serving does."""
        written = []
        for metric in sorted(vars(self).values(), key=lambda each: str(each.name)):
            if lines := list(metric.lines()):
                written += [f"# TYPE {metric.name} {metric.kind}", *lines]
        return "\n".join(written) + "\n"


class MetricsPage:
    """The page that Prometheus reads, if there is one."""

    def __init__(self, monitoring: Monitoring, path: str | None) -> None:
        self._monitoring = monitoring
        self._path = path

    def answer(self, method: str, path: str) -> tuple[int, str, str] | None:
        """Status, content type and text; None for a path that is none of its business."""
        if self._path is None or method != "GET":
            return None
        if path == self._path:
            return 200, "text/plain; version=0.0.4; charset=utf-8", self._monitoring.text()
        if path.rstrip("/") in (self._path, PATH):
            return 400, "text/plain; charset=utf-8", f"Unexpected path: {path}. Should be {self._path}"
        return None


def prometheus_path(message: wire.MonitoringConfig) -> str | None:
    """The path that a monitoring configuration serves metrics under; None when it serves none. Raises Invalid."""
    config = message.prometheus_config
    if not config.enable:
        return None
    path = str(config.path) or PATH
    if not path.startswith("/"):
        raise Invalid("monitoring configuration", "prometheus_config.path", path, "a path that begins with /")
    return path
