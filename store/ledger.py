"""What the ledger writes: one batch of the journal and the position after it, in one SQL transaction.

Storing a batch again changes nothing, and two ledgers cannot both store the same one: the position is moved by one
conditional statement, which comes first.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Connection, Table, bindparam, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from plumbline.errors import LedgerMoved
from store.alerts import CLOSED, OPEN
from store.engine import dump_json
from store.tables import (
    Alert,
    Assignment,
    Conflict,
    Decision,
    Label,
    LedgerPosition,
    Policy,
    Rejected,
    ShadowScore,
    Tally,
)

Row = dict[str, Any]

_COUNTED = {"preserve_rowcount": True}  # else the count of an INSERT is lost on PostgreSQL


@dataclass(slots=True)
class Rows:
    """What a stretch of the journal is in SQL, in the journal's order; keys are column names.

    closings: one {alert_of, told, at, who} for each verdict by an analyst, who may have given it in another database;
    told: the verdict's sequence. It closes an alert that stands before it in the journal, never one behind it: which of
    the two came first must not depend on whether both fell into one batch;
    late_counts: one {label, of, account, merchant} for each label that waited for its transaction (`of`) and is counted
    now; two labels may have one id, of which the first is stored.
    """

    decisions: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    closings: list[Row] = field(default_factory=list)
    late_counts: list[Row] = field(default_factory=list)
    conflicts: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    policies: list[Row] = field(default_factory=list)
    assignments: list[Row] = field(default_factory=list)
    shadow_scores: list[Row] = field(default_factory=list)


def next_offset(connection: Connection, topic: str, partition: int) -> int | None:
    """The journal offset that is to be stored next; None before the first batch."""
    return connection.scalar(
        select(LedgerPosition.next_offset).where(LedgerPosition.topic == topic, LedgerPosition.partition == partition)
    )


def newest_decision(connection: Connection) -> tuple[int, str] | None:
    """Sequence number and transaction id of the newest decision stored; None before the first.

    It tells the journal that this database was made from: another one holds another decision there, or none.
    """
    newest = select(Decision.sequence, Decision.transaction_id).order_by(Decision.sequence.desc()).limit(1)
    row = connection.execute(newest).first()
    return None if row is None else (row.sequence, row.transaction_id)


def move_position(connection: Connection, topic: str, partition: int, expected: int | None, following: int) -> None:
    """Move the position from `expected` (None: there is none yet) to `following`; the first statement of a batch.

    Raises LedgerMoved when the position is another one: somebody else stored this batch, or it is stored already.
    """
    if expected is None:
        moved = _insert(
            connection, LedgerPosition, [{"topic": topic, "partition": partition, "next_offset": following}]
        )
    else:
        moved = connection.execute(
            update(LedgerPosition)
            .where(
                LedgerPosition.topic == topic,
                LedgerPosition.partition == partition,
                LedgerPosition.next_offset == expected,
            )
            .values(next_offset=following)
        ).rowcount
    if moved != 1:
        raise LedgerMoved(
            f"the SQL position of {topic} is no longer {expected}: another ledger writes to this database; run one only"
        )


def store(connection: Connection, rows: Rows) -> int:
    """Insert rows that are not there yet; the number of decisions that were new. The caller commits."""
    new = 0
    if rows.decisions:
        newest = connection.scalar(select(func.max(Decision.sequence)))
        new = _insert(connection, Decision, rows.decisions)
        _count(connection, rows.decisions, -1 if newest is None else newest)
    for table, inserted in (
        (Alert, rows.alerts),
        (Label, rows.labels),
        (Conflict, rows.conflicts),
        (Rejected, rows.rejected),
        (Policy, rows.policies),
        (Assignment, rows.assignments),
        (ShadowScore, rows.shadow_scores),
    ):
        if inserted:
            _insert(connection, table, inserted)
    if rows.closings:
        connection.execute(_CLOSE, rows.closings)
    if rows.late_counts:
        connection.execute(_COUNT_LATE, rows.late_counts)
    return new


_CLOSE = (
    update(Alert.__table__)  # type: ignore[arg-type]
    .where(
        Alert.transaction_id == bindparam("alert_of"),
        Alert.status == OPEN,
        exists().where(Decision.transaction_id == bindparam("alert_of"), Decision.sequence < bindparam("told")),
    )
    .values(status=CLOSED, closed_at=bindparam("at"), closed_by=bindparam("who"))
)

_COUNT_LATE = (
    update(Label.__table__)  # type: ignore[arg-type]
    .where(Label.label_id == bindparam("label"), Label.transaction_id == bindparam("of"), Label.effect == "waiting")
    .values(effect="counted", account_id=bindparam("account"), merchant_id=bindparam("merchant"))
)


def _count(connection: Connection, decisions: list[Row], newest: int) -> None:
    """Add decisions to the tallies of their seconds, those up to sequence `newest` excepted: they were counted."""
    tallies: dict[int, Row] = {}
    for row in decisions:
        if row["sequence"] > newest:
            second = row["journaled_at_ms"] // 1000
            tally = tallies.setdefault(second, {"second": second, "approve": 0, "review": 0, "decline": 0})
            tally[row["outcome"]] += 1
    if not tallies:
        return
    table = Tally.__table__
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table)
    adding = {name: table.c[name] + insert.excluded[name] for name in ("approve", "review", "decline")}
    connection.execute(insert.on_conflict_do_update(index_elements=["second"], set_=adding), list(tallies.values()))


def _insert(connection: Connection, model: type[Any], rows: list[Row]) -> int:
    """Insert rows of equal keys, except those that are there; how many were not.

    Past SQLAlchemy's handling of single parameters, which would take longer than all else. PostgreSQL gets the rows as
    one JSON parameter, SQLite as the dicts that they are, with JSON columns written out.
    """
    table: Table = model.__table__
    columns = ", ".join(f'"{name}"' for name in rows[0])
    if connection.dialect.name == "postgresql":
        statement = (
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} "  # noqa: S608 - names from our own tables alone
            f"FROM json_populate_recordset(NULL::{table.name}, %(rows)s::json) ON CONFLICT DO NOTHING"
        )
        return connection.exec_driver_sql(statement, {"rows": dump_json(rows)}, _COUNTED).rowcount
    values = ", ".join(f":{name}" for name in rows[0])
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608 - as above
    written_out = [column.name for column in table.columns if isinstance(column.type, JSON)]
    if written_out:
        rows = [row | {name: dump_json(row[name]) for name in written_out} for row in rows]
    return connection.exec_driver_sql(statement, rows, _COUNTED).rowcount
