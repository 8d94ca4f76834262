"""The names of topics and metrics, each in this one place."""

import enum
from dataclasses import dataclass, field
from typing import Final, Literal

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

DEAD_LETTER_MAX_BYTES: Final = 2 * 2**20


@enum.unique
class Topic(enum.Enum):
    """Every topic, by the name it has when no prefix is set."""

    TRANSACTIONS = "transactions"
    LABELS = "labels"
    CONTROL = "control"
    DECISIONS = "decisions"
    DEAD_LETTER = "transactions.dead-letter"
    SCORER_LEASE = "scorer-lease"


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is created; partitions None means that a setting decides."""

    partitions: int | None
    config: dict[str, str] = field(default_factory=dict)


TOPIC_SETTINGS: Final[dict[Topic, TopicSettings]] = {
    Topic.TRANSACTIONS: TopicSettings(
        None, {"retention.ms": str(7 * DAY_MS), "message.timestamp.type": "LogAppendTime"}
    ),
    Topic.LABELS: TopicSettings(1, {"retention.ms": str(30 * DAY_MS), "message.timestamp.type": "LogAppendTime"}),
    Topic.CONTROL: TopicSettings(1, {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}),
    Topic.DECISIONS: TopicSettings(
        1, {"retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "LogAppendTime"}
    ),
    Topic.DEAD_LETTER: TopicSettings(
        1,
        {
            "retention.ms": str(28 * DAY_MS),
            "message.timestamp.type": "LogAppendTime",
            # The largest message that the other topics take, in base64, still fits.
            "max.message.bytes": str(DEAD_LETTER_MAX_BYTES),
        },
    ),
    Topic.SCORER_LEASE: TopicSettings(1, {"retention.ms": str(HOUR_MS)}),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A Prometheus metric: its name, kind, meaning and labels; a histogram has upper bounds of its buckets too."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STAGE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

METRICS: Final = (
    Metric("plumbline_decisions_total", "counter", "Decisions journaled.", ("outcome",)),
    Metric("plumbline_conflicts_total", "counter", "Transactions whose id had been decided before."),
    Metric("plumbline_rejected_total", "counter", "Messages sent to the dead-letter topic.", ("topic",)),
    Metric("plumbline_unreadable_total", "counter", "Messages rejected because the broker holds their batch damaged."),
    Metric("plumbline_unprocessable_total", "counter", "Messages rejected because they ended the scorer's own code."),
    Metric("plumbline_rejected_share", "gauge", "Share of the last ten minutes' messages that was rejected."),
    Metric(
        "plumbline_clock_difference_seconds", "gauge", "The scorer's clock less the broker's; below 0 where behind."
    ),
    Metric("plumbline_routes_total", "counter", "Decisions journaled, by why their version decided.", ("route",)),
    Metric("plumbline_shadow_rows_total", "counter", "Decisions that shadows were asked about.", ("answer",)),
    Metric("plumbline_labels_total", "counter", "Labels journaled.", ("effect",)),
    Metric("plumbline_model_unavailable_total", "counter", "Decisions made without a score."),
    Metric(
        "plumbline_older_than_memory_total",
        "counter",
        "Decisions on transactions older than the remembered ids, so that one may have been decided before.",
    ),
    Metric("plumbline_not_explained_total", "counter", "Alerts journaled without what led the model to them."),
    Metric("plumbline_leader", "gauge", "1 while this scorer leads, 0 while it stands by."),
    Metric("plumbline_lag_transactions", "gauge", "Transactions waiting to be scored."),
    Metric("plumbline_batch_transactions", "histogram", "Transactions in a micro-batch.", buckets=BATCH_BUCKETS),
    Metric("plumbline_stage_seconds", "histogram", "Time of one stage of a micro-batch.", ("stage",), STAGE_BUCKETS),
    Metric("plumbline_ledger_sequence", "gauge", "Newest journal sequence stored in SQL."),
    Metric("plumbline_alerts_open", "gauge", "Alerts that wait for an analyst."),
    Metric("plumbline_audit_compared", "gauge", "Decisions compared by the newest audit."),
    Metric(
        "plumbline_audit_different", "gauge", "Differences of audits that nobody has acknowledged or shown to be gone."
    ),
    Metric("plumbline_drift_psi", "gauge", "A feature's stability index, training against the window.", ("feature",)),
    Metric("plumbline_drift_score_psi", "gauge", "The score's stability index, test days against the window."),
    Metric("plumbline_drift_worst_psi", "gauge", "Largest stability index of any judged feature."),
    Metric(
        "plumbline_drift_missing_difference",
        "gauge",
        "Share of decisions in which a feature is missing, less the share in training.",
        ("feature",),
    ),
    Metric("plumbline_drift_compared", "gauge", "Decisions compared by the newest drift run."),
    Metric("plumbline_drift_run_seconds", "gauge", "When the newest drift run ended, seconds since 1970 UTC."),
    Metric("plumbline_audit_continuous_compared", "gauge", "Decisions that the continuous audit has compared."),
    Metric(
        "plumbline_audit_continuous_different",
        "gauge",
        "Differences that the continuous audit has found; anything but 0 is an incident.",
    ),
    Metric(
        "plumbline_audit_continuous_unverified", "gauge", "Decisions of the sample whose model's files are not here."
    ),
    Metric("plumbline_audit_sequence", "gauge", "Newest journal sequence that the continuous audit has taken."),
    Metric("plumbline_audit_behind_seconds", "gauge", "How far the continuous audit is behind the journal."),
    Metric("plumbline_conservation_messages", "gauge", "Messages counted, by step.", ("step",)),
    Metric(
        "plumbline_conservation_imbalance",
        "gauge",
        "Messages lost or doubled at any step; anything but 0 is an incident.",
    ),
    Metric(
        "plumbline_oldest_waiting_seconds", "gauge", "Age of the oldest acknowledged message without a journal entry."
    ),
    Metric("plumbline_api_requests_total", "counter", "Requests to the decision API.", ("transport", "status")),
    Metric("plumbline_api_answers_total", "counter", "What the decision API's callers were told.", ("kind",)),
    Metric(
        "plumbline_api_seconds", "histogram", "Time to a decision, or to the fallback.", ("transport",), STAGE_BUCKETS
    ),
    Metric("plumbline_api_waiting_callers", "gauge", "Callers that wait for a decision."),
    Metric("plumbline_api_sequence", "gauge", "Newest journal sequence that the decision API has read."),
    Metric("plumbline_guard_sequence", "gauge", "Newest journal sequence that the guard has taken."),
    Metric("plumbline_guard_behind_seconds", "gauge", "How far the guard is behind the journal."),
    Metric("plumbline_guard_looked_seconds", "gauge", "When the guard judged last, seconds since 1970 UTC."),
    Metric(
        "plumbline_guard_alarm", "gauge", "How close a rule is to its alarm, of 1 where it speaks.", ("version", "rule")
    ),
    Metric("plumbline_retrain_step_seconds", "gauge", "How long a step of the newest night took.", ("step",)),
    Metric("plumbline_retrain_step_rows", "gauge", "Rows that went through a step of the newest night.", ("step",)),
    Metric("plumbline_retrain_verdict", "gauge", "1 for how the newest night ended or stands, else 0.", ("verdict",)),
    Metric("plumbline_retrain_updated_seconds", "gauge", "The newest night's last sign of life, since 1970 UTC."),
    Metric("plumbline_incidents_open", "gauge", "Incidents that nobody has acknowledged."),
    Metric("plumbline_rollbacks_total", "counter", "Rollbacks that the guard has published."),
)
