"""The SQL tables of a release under way: who owns it, what was published for it, and how far the journal was compared.

Times are microseconds since 1970 UTC, as in `store.tables`, but for those of the database's own clock, which end in
`_ms`.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from store.tables import ID_CHARACTERS, NAME_CHARACTERS, Base

OWNER_CHARACTERS = 64


class ReleaseOwner(Base):
    """One row, made by the migration: the command that may change the stream and the registry now.

    owner: empty when nobody is; doing: what it does, for the errors of those who wait; urgent: whether it is a
    rollback, which no promotion holds up; acquired_at_ms, expires_at_ms: milliseconds by the database's clock;
    sequence: the newest journal entry that was compared with the registry (-1 before any); active: the assignment that
    is active at that place, None before any.
    """

    __tablename__ = "release_owner"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(OWNER_CHARACTERS))
    doing: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    urgent: Mapped[bool]
    acquired_at_ms: Mapped[int]
    expires_at_ms: Mapped[int]
    sequence: Mapped[int]
    active: Mapped[Any | None]


class ReleasePublication(Base):
    """An assignment that a request publishes, written down before it is sent, and what became of it.

    assignment: its name, which is made from its content; body: the assignment; after: where each version that moves is
    then, and the experiment that runs then; evidence: what was checked before; state: `intended`, `recorded` (it came
    into effect and the registry says so), `refused` (by the scorer, as outcome says) or `abandoned` (it is not on the
    control topic; should it come into effect all the same, it is recorded).
    """

    __tablename__ = "release_publications"

    id: Mapped[int] = mapped_column(primary_key=True)
    assignment: Mapped[str] = mapped_column(String(ID_CHARACTERS), unique=True)
    request_id: Mapped[int] = mapped_column(ForeignKey("model_requests.id"))
    body: Mapped[Any]
    after: Mapped[Any]
    evidence: Mapped[Any]
    state: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    made_at: Mapped[int]
    ended_at: Mapped[int | None]

    __table_args__ = (Index(None, "state"), {"sqlite_autoincrement": True})
