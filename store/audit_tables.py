"""The SQL tables of findings: audits and imbalances, which stand until somebody acknowledges them.

Times are microseconds since 1970 UTC, as in `store.tables`.
"""

from typing import Any

from sqlalchemy import String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from store.tables import NAME_CHARACTERS, Base


class Acknowledged:
    """Columns of what stands until a person who may says that it was seen, and why it need not stand any longer.

    acknowledged_at, acknowledged_by: None while it stands; acknowledged_why: that person's reason.
    """

    acknowledged_at: Mapped[int | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(128))
    acknowledged_why: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))


class Audit(Acknowledged, Base):
    """One run of the audit over a range of the journal, or what the continuous audit found; see `store.audits`.

    origin: `audit` or `watch`; journal: where its records were read, empty in rows of older releases; sample: of the
    accounts, such as `1/100`, empty where all were compared; first_sequence, last_sequence: of the entries compared, 0
    and -1 where none was; raw_missing: entries whose message nobody kept any longer.
    """

    __tablename__ = "audits"

    id: Mapped[int] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(String(8), default="audit", server_default=text("'audit'"))
    journal: Mapped[str] = mapped_column(String(NAME_CHARACTERS), default="", server_default=text("''"))
    sample: Mapped[str] = mapped_column(String(32), default="", server_default=text("''"))
    started_at: Mapped[int]
    finished_at: Mapped[int]
    first_sequence: Mapped[int]
    last_sequence: Mapped[int]
    compared: Mapped[int]
    different: Mapped[int]
    raw_missing: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    detail: Mapped[Any]

    __table_args__ = ({"sqlite_autoincrement": True},)


class Imbalance(Acknowledged, Base):
    """Counts of messages that were unequal for so long that messages were lost or doubled.

    opened_at, seen_at: when it had lasted that long, and when it was counted last; cleared_at: when the counts were
    equal again, None while they are not; count: the largest imbalance; equations: those that did not hold then.
    """

    __tablename__ = "imbalances"

    id: Mapped[int] = mapped_column(primary_key=True)
    opened_at: Mapped[int]
    seen_at: Mapped[int]
    cleared_at: Mapped[int | None]
    count: Mapped[int]
    equations: Mapped[Any]

    __table_args__ = ({"sqlite_autoincrement": True},)
