"""The SQL tables of the guard: how far it is, versions under guard, and incidents.

Times are microseconds since 1970 UTC, as in `store.tables`.
"""

from typing import Any

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.tables import ID_CHARACTERS, Base


class Guard(Base):
    """The one row (id 1) in which the guard says how far it is.

    begin: sequence from which a restart reads the journal again, that of the assignment under guard; sequence: newest
    entry taken, -1 before the first; behind_ms: how long the oldest entry not taken had waited at the last look.
    """

    __tablename__ = "guard"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    updated_at: Mapped[int]
    begin: Mapped[int]
    sequence: Mapped[int]
    behind_ms: Mapped[int]


class Trial(Base):
    """One version under guard in one assignment; `sequence` is the assignment's in the journal.

    state: `watching`, `passed`, `breached`, `ended` (another assignment came first); per_mille: of the accounts, 0 for
    a shadow; spent: part of the alarm budget used up, of 1; figures: of each rule the one closest to its alarm, as
    `release.incidents` writes them; began_at, ended_at: journal's times.
    """

    __tablename__ = "trials"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    assignment: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    champion: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    per_mille: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[int]
    passed_at: Mapped[int | None]
    ended_at: Mapped[int | None]
    decisions: Mapped[int]
    alpha: Mapped[float]
    spent: Mapped[float]
    figures: Mapped[Any]


class Incident(Base):
    """A version that broke a guardrail, the picture of it, and what was done.

    sequence, version: the trial's; last_sequence: newest entry judged; picture: what `release.incidents` writes of the
    figure over time; rollback: the assignment that undoes it; effective_*: the first decision under that.
    """

    __tablename__ = "incidents"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    version: Mapped[int]
    champion: Mapped[int]
    assignment: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    role: Mapped[str] = mapped_column(String(16))
    rule: Mapped[str] = mapped_column(String(16))
    slice: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    opened_at: Mapped[int]
    last_sequence: Mapped[int]
    picture: Mapped[Any]
    rollback: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    why: Mapped[str] = mapped_column(Text)
    published_at: Mapped[int | None]
    effective_at: Mapped[int | None]
    effective_sequence: Mapped[int | None]
    acknowledged_at: Mapped[int | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(128))
    note: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        UniqueConstraint("sequence", "version"),
        {"sqlite_autoincrement": True},
    )
