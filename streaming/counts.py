"""The metrics of micro-batches."""

from collections import Counter

from observe.metrics import Metrics
from plumbline.decision import NOT_EXPLAINED, Decision
from plumbline.journal import Answered, Conflict, LabelApplied, Rejected
from streaming.batch import Batch


class Counts:
    """What the leader counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def decided(self, seconds: float) -> None:
        """Note how long a micro-batch took to decide."""
        self.metrics.histogram("plumbline_stage_seconds").labels("decide").observe(seconds)

    def older(self, count: int) -> None:
        """Count decisions on transactions that are older than the remembered ids."""
        self.metrics.counter("plumbline_older_than_memory_total").inc(count)

    def took(self, batch: Batch, seconds: float) -> None:
        """Count one micro-batch that is in the journal now; seconds: how long that took."""
        counted: Counter[tuple[str, str]] = Counter()
        for entry in batch.entries:
            if isinstance(entry, Decision):
                counted["plumbline_decisions_total", entry.outcome.value] += 1
                counted["plumbline_routes_total", entry.route] += 1
                counted["plumbline_model_unavailable_total", ""] += not entry.scores
                counted["plumbline_not_explained_total", ""] += NOT_EXPLAINED in entry.reasons
            elif isinstance(entry, Conflict):
                counted["plumbline_conflicts_total", ""] += 1
            elif isinstance(entry, Rejected):
                counted["plumbline_rejected_total", entry.source.topic] += 1
                counted["plumbline_unreadable_total", ""] += entry.kind == "unreadable"
                counted["plumbline_unprocessable_total", ""] += entry.kind == "unprocessable"
            elif isinstance(entry, LabelApplied) and entry.source is not None:
                counted["plumbline_labels_total", entry.effect] += 1
            elif isinstance(entry, Answered) and entry.role == "shadow":
                counted["plumbline_shadow_rows_total", entry.failure or "answered"] += entry.rows
        for (name, label), count in counted.items():
            metric = self.metrics.counter(name)
            (metric.labels(label) if label else metric).inc(count)
        decisions = sum(count for (name, _), count in counted.items() if name == "plumbline_decisions_total")
        self.metrics.histogram("plumbline_batch_transactions").observe(decisions)
        self.metrics.histogram("plumbline_stage_seconds").labels("journal").observe(seconds)
