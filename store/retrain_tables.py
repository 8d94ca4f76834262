"""The SQL table of nights: how each run of the retraining went, for people to read.

What counts is `run.json` in the run's own folder; a row is written from it, and may be behind while SQL is away.
Times are microseconds since 1970 UTC, as in `store.tables`.
"""

from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from store.tables import ID_CHARACTERS, NAME_CHARACTERS, Base

WORD_CHARACTERS = 16


class RetrainRun(Base):
    """One night.

    run: its name, a cut-off's date and a digest; cut_off: moment after which nothing counts; verdict: `running`,
    `stopped`, `failed`, `refused`, `registered` or `shadowed`, of which the last three are final; step: the one at
    work, or in which the run ended, empty when it is done; updated_at: its newest sign of life; finished_at: None while
    the verdict is not final; seconds: of work, over all starts; attempts: how often a process began; version: of the
    registry, once there is one; champion: the version that the candidate was held against; rows: that trained;
    steps: list of {name, state, seconds, rows, facts, inputs, outputs, digest}, state being `waiting`, `running`,
    `done` or `failed`, and the last three SHA-256 of what it read and wrote, by name and in all;
    gate: {passed, checks}, None before it spoke; metrics: {candidate, champion}; error: why it failed or was refused;
    tensorboard: folder of the fit's logs; host: where it ran last.
    """

    __tablename__ = "retrain_runs"

    run: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    cut_off: Mapped[int]
    verdict: Mapped[str] = mapped_column(String(WORD_CHARACTERS))
    step: Mapped[str] = mapped_column(String(WORD_CHARACTERS))
    started_at: Mapped[int]
    updated_at: Mapped[int]
    finished_at: Mapped[int | None]
    seconds: Mapped[float]
    attempts: Mapped[int]
    version: Mapped[int | None]
    champion: Mapped[int | None]
    rows: Mapped[int]
    arguments: Mapped[Any]
    steps: Mapped[Any]
    gate: Mapped[Any | None]
    metrics: Mapped[Any | None]
    error: Mapped[str] = mapped_column(Text)
    tensorboard: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    host: Mapped[str] = mapped_column(String(NAME_CHARACTERS))

    __table_args__ = (Index(None, "started_at"),)
