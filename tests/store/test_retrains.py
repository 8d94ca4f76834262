"""Nights in SQL: the newest first, and a row that is written again replaces the one before."""

import pytest
import sqlalchemy as sa

from plumbline.errors import NotFound
from store.engine import transaction
from store.retrain_tables import RetrainRun
from store.retrains import newest, one, record


def night(run: str, **facts: object) -> RetrainRun:
    row: dict[str, object] = {
        "run": run, "cut_off": 1, "verdict": "running", "step": "fit", "started_at": 1, "updated_at": 1,
        "finished_at": None, "seconds": 0.5, "attempts": 1, "version": None, "champion": None, "rows": 0,
        "arguments": {"seed": 0}, "steps": [], "gate": None, "metrics": None, "error": "", "tensorboard": "",
        "host": "h",
    }  # fmt: skip
    return RetrainRun(**row | facts)


def test_a_row_is_replaced_and_the_newest_come_first(engine: sa.Engine) -> None:
    for run, started_at in (("2026-01-02-a", 20), ("2026-01-01-b", 10), ("2026-01-03-c", 30)):
        with transaction(engine) as session:
            record(session, night(run, started_at=started_at))
    with transaction(engine) as session:
        record(session, night("2026-01-02-a", started_at=20, verdict="shadowed", version=2, gate={"passed": True}))
    with transaction(engine) as session:
        assert [each.run for each in newest(session)] == ["2026-01-03-c", "2026-01-02-a", "2026-01-01-b"]
        assert [each.run for each in newest(session, 1)] == ["2026-01-03-c"]
        found = one(session, "2026-01-02-a")
        assert (found.verdict, found.version, found.gate) == ("shadowed", 2, {"passed": True})
        assert one(session, "2026-01-01-b").gate is None
        with pytest.raises(NotFound, match="there is no run nothing"):
            one(session, "nothing")
