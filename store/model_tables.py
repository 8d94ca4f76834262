"""The SQL tables of the model registry: versions and the facts of their making, requests, and every change of stage.

`model_changes` is only ever added to, and is what counts: the stage in `model_versions` is where its rows lead to.
Times are microseconds since 1970 UTC, as in `store.tables`.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from store.tables import ID_CHARACTERS, NAME_CHARACTERS, Base

STAGE_CHARACTERS = 16
PERSON_CHARACTERS = NAME_CHARACTERS


class ModelVersion(Base):
    """A model version as its card told when it was registered, and its stage now.

    per_mille: accounts of every thousand that it decides for as a canary or an arm; files: SHA-256 by path; rows,
    metrics, slices, card: as in `plumbline.json`; seed, code_commit, lock_sha256: None and empty where the card does
    not say; gate: what a later judgement on quality said, null before it; made_by: who trained it.
    """

    __tablename__ = "model_versions"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    stage: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    per_mille: Mapped[int]
    trained_at: Mapped[int]
    registered_at: Mapped[int]
    made_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    fingerprint: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    train_days: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    test_days: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    archive_digest: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    seed: Mapped[int | None]
    code_commit: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    lock_sha256: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    rows: Mapped[Any]
    metrics: Mapped[Any]
    slices: Mapped[Any]
    files: Mapped[Any]
    gate: Mapped[Any | None]
    card: Mapped[Any]


class ModelRequest(Base):
    """Somebody's wish to change a stage, who allowed it, and what came of it.

    kind: `promote`, `rollback`, `experiment` or `stop`; version, to_stage, per_mille: of a promotion; of a rollback and
    a stop the version meant (a stop's winner), or None; arms: {version: accounts of every thousand} of an experiment;
    over: whether it may replace an assignment that the registry did not make; state: `waiting`, `approved`, `applying`,
    `done`, `refused` or `withdrawn`; evidence: what was checked as it was carried out, or why it was refused.
    """

    __tablename__ = "model_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    version: Mapped[int | None] = mapped_column(ForeignKey("model_versions.version"))
    to_stage: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    per_mille: Mapped[int]
    arms: Mapped[Any]
    name: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    why: Mapped[str] = mapped_column(Text)
    over: Mapped[bool]
    asked_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    asked_at: Mapped[int]
    expires_at: Mapped[int]
    approved_by: Mapped[str | None] = mapped_column(String(PERSON_CHARACTERS))
    approved_at: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    finished_at: Mapped[int | None]
    evidence: Mapped[Any | None]

    __table_args__ = (Index(None, "state", "id"), {"sqlite_autoincrement": True})


class ModelChange(Base):
    """One version went from one stage to another; never altered.

    from_stage: empty when it was registered; approved_by: empty of a rollback, which one person may do; assignment:
    the name of the one that brought it into force, empty where the scorer had nothing to change; experiment: the one
    that ran from here on.
    """

    __tablename__ = "model_changes"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int]
    version: Mapped[int] = mapped_column(ForeignKey("model_versions.version"))
    kind: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    from_stage: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    to_stage: Mapped[str] = mapped_column(String(STAGE_CHARACTERS))
    per_mille: Mapped[int]
    asked_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    approved_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    why: Mapped[str] = mapped_column(Text)
    evidence: Mapped[Any]
    assignment: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    experiment: Mapped[str] = mapped_column(String(ID_CHARACTERS))
    request_id: Mapped[int | None] = mapped_column(ForeignKey("model_requests.id"))

    __table_args__ = (Index(None, "version", "id"), {"sqlite_autoincrement": True})


class ModelExperiment(Base):
    """A comparison with fixed arms; arms: {version: accounts of every thousand}; verdict: why it was stopped."""

    __tablename__ = "model_experiments"

    name: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    champion: Mapped[int]
    arms: Mapped[Any]
    started_at: Mapped[int]
    started_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    approved_by: Mapped[str] = mapped_column(String(PERSON_CHARACTERS))
    why: Mapped[str] = mapped_column(Text)
    stopped_at: Mapped[int | None]
    stopped_by: Mapped[str | None] = mapped_column(String(PERSON_CHARACTERS))
    winner: Mapped[int | None]
    verdict: Mapped[Any | None]
