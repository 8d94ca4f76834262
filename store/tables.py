"""The SQL tables: a projection of the journal for people to read, and the few things that people add.

The ledger writes what the journal says; the console writes verdicts and asks for recomputations; audits and the
watching process write what they found. Times are int64
microseconds since 1970 UTC, or milliseconds where the name ends in `_ms`, so that no database can bend them by a time
zone. Log-ins are in `store.people`, so that this module needs no web framework.
"""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

# SQLite counts up only a column whose type is exactly INTEGER; it holds 64 bits there as well.
Big = BigInteger().with_variant(Integer, "sqlite")

ID_CHARACTERS = 64
NAME_CHARACTERS = 255


class Base(DeclarativeBase):
    """All tables, with every constraint named by one rule, since SQLite can alter named ones only."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {int: Big, float: Double, Any: JSON}


class Decision(Base):
    """One transaction's answer, as the journal holds it; `sequence` is its offset there.

    score: the deciding model's float32, widened, which a double holds exactly; None when no model answered.
    assignment: the name of the one in force, empty without one; route: why that version decided.
    reasons: list of {kind, code, effect?}; history: list of int64 in the order of the declaration `fingerprint`.
    received_at_ms and journaled_at_ms: when the broker took in the transaction, and its answer.
    """

    __tablename__ = "decisions"

    transaction_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    occurred_at: Mapped[int]
    account_id: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    merchant_id: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    device_id: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    channel: Mapped[str] = mapped_column(String(16))
    mcc: Mapped[str] = mapped_column(String(4))
    country: Mapped[str] = mapped_column(String(2))
    latitude_e6: Mapped[int | None]
    longitude_e6: Mapped[int | None]
    outcome: Mapped[str] = mapped_column(String(16))
    score: Mapped[float | None]
    model_version: Mapped[int | None]
    policy_version: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    fingerprint: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    reasons: Mapped[Any]
    history: Mapped[Any]
    source_partition: Mapped[int]
    source_offset: Mapped[int]
    received_at_ms: Mapped[int]
    journaled_at_ms: Mapped[int]
    decided_at: Mapped[int]
    assignment: Mapped[str] = mapped_column(String(ID_CHARACTERS), server_default=text("''"))
    route: Mapped[str] = mapped_column(String(16), server_default=text("'newest'"))

    __table_args__ = (
        Index(None, "account_id", "sequence"),
        Index(None, "outcome", "journaled_at_ms"),
    )


class ShadowScore(Base):
    """What a shadow said of a decision; sequence: the decision's.

    score: float32, widened; None where it gave none, and failure says why: `deadline`, `error` or `skipped`.
    """

    __tablename__ = "shadow_scores"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    score: Mapped[float | None]
    failure: Mapped[str] = mapped_column(String(16))


class Tally(Base):
    """Decisions journaled within one second, counted by outcome: what the overview's rates are read from.

    second: whole seconds since 1970 UTC of the journal's append time.
    """

    __tablename__ = "tallies"

    second: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    approve: Mapped[int]
    review: Mapped[int]
    decline: Mapped[int]


class Alert(Base):
    """A decision that an analyst should look at; `id` only ever grows, so it is the live view's cursor.

    status: `open` or `closed`; closed_at and closed_by are None while it is open.
    """

    __tablename__ = "alerts"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(
        String(ID_CHARACTERS), ForeignKey("decisions.transaction_id"), unique=True
    )
    outcome: Mapped[str] = mapped_column(String(16))
    expected_loss_minor: Mapped[int]
    opened_at: Mapped[int]
    status: Mapped[str] = mapped_column(String(8), default="open")
    closed_at: Mapped[int | None]
    closed_by: Mapped[str | None] = mapped_column(String(128))

    decision: Mapped[Decision] = relationship(lazy="raise", viewonly=True)

    __table_args__ = (
        Index(None, "status", "expected_loss_minor"),
        {"sqlite_autoincrement": True},
    )


class Verdict(Base):
    """An analyst's statement, and the outbox from which it becomes a Label on the `labels` topic.

    published_at: when the broker had acknowledged it; None while it waits.
    """

    __tablename__ = "verdicts"

    label_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"), index=True)
    transaction_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), index=True)
    verdict: Mapped[str] = mapped_column(String(16))
    known_at: Mapped[int]
    by: Mapped[str] = mapped_column(String(128))
    note: Mapped[str] = mapped_column(Text)
    published_at: Mapped[int | None]

    __table_args__ = (
        Index(
            "ix_verdicts_waiting",
            "known_at",
            sqlite_where=text("published_at IS NULL"),
            postgresql_where=text("published_at IS NULL"),
        ),
    )


class Label(Base):
    """A label as the journal holds it, from any source; effect as in `plumbline.journal.LabelApplied`."""

    __tablename__ = "labels"

    label_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    transaction_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), index=True)
    account_id: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    merchant_id: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    verdict: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(16))
    known_at: Mapped[int]
    by: Mapped[str] = mapped_column(String(128))
    note: Mapped[str] = mapped_column(Text)
    effect: Mapped[str] = mapped_column(String(32))
    journaled_at: Mapped[int]


class Conflict(Base):
    """A transaction whose id had been decided before; `transaction` is what was sent this time."""

    __tablename__ = "conflicts"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    transaction_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), index=True)
    identical: Mapped[bool]
    transaction: Mapped[Any]
    source_partition: Mapped[int]
    source_offset: Mapped[int]
    journaled_at: Mapped[int]


class Rejected(Base):
    """A message that could not be accepted; its bytes are in the dead-letter topic."""

    __tablename__ = "rejected"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source_topic: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    source_partition: Mapped[int]
    source_offset: Mapped[int]
    error: Mapped[str] = mapped_column(Text)
    journaled_at: Mapped[int]


class Policy(Base):
    """A policy that came into force with the decision after `sequence`; body as in `plumbline.policy.Policy`."""

    __tablename__ = "policies"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[str] = mapped_column(String(ID_CHARACTERS), index=True)
    body: Mapped[Any]
    journaled_at: Mapped[int]


class Assignment(Base):
    """Model versions and declarations that came into force with the decision after `sequence`.

    version: the assignment's name, empty for the declaration that a first start brought along; fingerprints: of each
    model version named; body as in `plumbline.assignment.Assignment`, or null.
    """

    __tablename__ = "assignments"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    body: Mapped[Any]
    fingerprints: Mapped[Any]
    declarations: Mapped[Any]
    journaled_at: Mapped[int]


class LedgerPosition(Base):
    """The next journal offset to store; moved in the same SQL transaction as what was stored before it."""

    __tablename__ = "ledger_position"

    topic: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_offset: Mapped[int]


class ContinuousAudit(Base):
    """The one row (id 1) in which the watching process says how far it has audited and what it found.

    one_in: one account in so many is audited; sequence: newest journal entry taken, -1 before the first; journal_end:
    offset after the journal's newest entry when last looked; behind_ms: how long the oldest entry not taken had waited
    by then; unverified: decisions of the sample whose model version's files are not here. Counts are since started_at.
    """

    __tablename__ = "continuous_audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at: Mapped[int]
    updated_at: Mapped[int]
    one_in: Mapped[int]
    sequence: Mapped[int]
    journal_end: Mapped[int]
    behind_ms: Mapped[int]
    compared: Mapped[int]
    different: Mapped[int]
    unverified: Mapped[int]
    detail: Mapped[Any]


class Balance(Base):
    """The one row (id 1) of conservation: what was counted last.

    oldest_waiting_ms: how long the oldest acknowledged message without an entry had waited, None where none did;
    body: {"equations": [...], "kinds": {...}} as `plumbline conservation --json` prints them.
    """

    __tablename__ = "balances"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    updated_at: Mapped[int]
    imbalance: Mapped[int]
    oldest_waiting_ms: Mapped[int | None]
    body: Mapped[Any]


class Recomputation(Base):
    """Somebody's wish to have one decision computed again, and the answer once there is one.

    result: `equal`, `different` or `failed`; None while it waits. body: {"fields": [...]} or {"error": ...}.
    """

    __tablename__ = "recomputations"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(String(ID_CHARACTERS), index=True)
    asked_by: Mapped[str] = mapped_column(String(128))
    asked_at: Mapped[int]
    answered_at: Mapped[int | None]
    result: Mapped[str | None] = mapped_column(String(16))
    body: Mapped[Any | None]

    __table_args__ = (
        Index(
            "ix_recomputations_waiting",
            "asked_at",
            sqlite_where=text("answered_at IS NULL"),
            postgresql_where=text("answered_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )


class DriftRun(Base):
    """A window of the journal compared with what one model version was trained on; level as in `drift.stability`.

    since_ms, until_ms: the window, in the broker's append times; compared: decisions with a score of that version;
    trained: the version's training days.
    """

    __tablename__ = "drift_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[int]
    finished_at: Mapped[int]
    since_ms: Mapped[int]
    until_ms: Mapped[int]
    model_version: Mapped[int]
    trained: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    compared: Mapped[int]
    level: Mapped[str] = mapped_column(String(8))

    __table_args__ = ({"sqlite_autoincrement": True},)


class DriftFigure(Base):
    """What one feature, or the score, looked like in training and in the window of a run.

    kind: `feature` or `score`; psi: None where there were too few decisions; missing_then, missing_now: shares of 1;
    bins: {edges, words, then, now}, counts of missing rows first, as in `features.reference`.
    """

    __tablename__ = "drift_figures"

    run_id: Mapped[int] = mapped_column(ForeignKey("drift_runs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    psi: Mapped[float | None]
    level: Mapped[str] = mapped_column(String(8))
    missing_then: Mapped[float]
    missing_now: Mapped[float]
    bins: Mapped[Any]


class ApiKey(Base):
    """Who may call the decision API; `secret_hash` is SHA-256 of the secret, `key_id` the public part of its text.

    scopes: as in `store.keys.SCOPES`; disabled_at: None while the key is good; last_used_at: a few seconds late.
    """

    __tablename__ = "api_keys"

    name: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(16), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[Any]
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[int]
    disabled_at: Mapped[int | None]
    last_used_at: Mapped[int | None]
