"""Two processes that write the same row at the same moment: nothing is lost, and neither of them falls over.

Each case runs in two real sessions. The first has written and not committed when the second begins to write; then the
first commits.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from plumbline.errors import Invalid, Refused
from store import guards, keys, retrains, watch
from store.engine import engine_at, transaction
from store.guard_tables import Guard, Incident, Trial
from store.people import Role, User
from store.retrain_tables import RetrainRun
from store.tables import ApiKey, Balance, ContinuousAudit, Recomputation
from store.users import add_user

Act = Callable[[Session, int], Any]


def together(engine: sa.Engine, act: Act) -> list[Any]:
    """What two sessions got, 1 and 2, or what they raised; 1 had written first, and committed when 2 began to write."""
    other = engine_at(engine.url)
    writes, found = threading.Event(), list[Any]([None, None])

    @event.listens_for(other, "before_cursor_execute")
    def noted(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("PRAGMA", "SELECT")) or "FOR UPDATE" in statement:
            writes.set()

    def second() -> None:
        try:
            with transaction(other) as session:
                found[1] = act(session, 2)
                session.flush()
        except Exception as error:  # noqa: BLE001 - compared by the test
            found[1] = error
        finally:
            writes.set()

    thread = threading.Thread(target=second)
    with transaction(engine) as session:
        found[0] = act(session, 1)
        session.flush()
        thread.start()
        assert writes.wait(60)
    thread.join()
    other.dispose()
    return found


def only(engine: sa.Engine, table: type[Any]) -> Any:
    with Session(engine, expire_on_commit=False) as session:
        return session.scalars(sa.select(table)).one()


def count(engine: sa.Engine, table: type[Any]) -> int:
    with Session(engine) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def trial(state: str = "watching", passed_at: int | None = None) -> Trial:
    return Trial(
        sequence=5, version=2, assignment="a", champion=1, role="canary", per_mille=50, state=state, began_at=1,
        passed_at=passed_at, decisions=10, alpha=0.01, spent=0.5, figures=[],
    )  # fmt: skip


def incident(why: str) -> Incident:
    return Incident(
        sequence=5, version=2, champion=1, assignment="a", role="canary", rule="errors", slice="", opened_at=1,
        last_sequence=9, picture={}, rollback="r", why=why, note="",
    )  # fmt: skip


def run_row(verdict: str) -> RetrainRun:
    return RetrainRun(
        run="2026-01-31", cut_off=1, verdict=verdict, step="", started_at=1, updated_at=2, finished_at=None,
        seconds=1.0, attempts=1, version=None, champion=None, rows=0, arguments={}, steps=[], gate=None, metrics=None,
        error="", tensorboard="", host="h",
    )  # fmt: skip


FIRST_ROWS: dict[str, tuple[Act, type[Any]]] = {
    "the continuous audit": (lambda s, n: watch.begin_continuous_audit(s, 10 * n, n), ContinuousAudit),
    "the balance": (lambda s, n: watch.record_balance(s, n, None, {}, n), Balance),
    "the guard's position": (lambda s, n: guards.record_position(s, 0, n, 0, n), Guard),
    "a trial": (lambda s, n: guards.record_trial(s, trial()), Trial),
    "a nightly run": (lambda s, n: retrains.record(s, run_row("running")), RetrainRun),
    "an incident": (lambda s, n: guards.open_incident(s, incident(f"w{n}")).why, Incident),
}


@pytest.mark.parametrize("name", FIRST_ROWS)
def test_a_first_row_is_written_once_by_two(engine: sa.Engine, name: str) -> None:
    act, table = FIRST_ROWS[name]
    found = together(engine, act)
    assert not [each for each in found if isinstance(each, Exception)]
    assert count(engine, table) == 1
    if table is Incident:
        assert found == ["w1", "w1"], "both hear of the same one"


def test_what_a_trial_passed_and_that_it_was_breached_stays(engine: sa.Engine) -> None:
    states = [("breached", 7), ("watching", None), ("passed", 9)]
    with transaction(engine) as session:
        guards.record_trial(session, trial())
    for state, passed_at in states:
        with transaction(engine) as session:
            guards.record_trial(session, trial(state, passed_at))
    found = only(engine, Trial)
    assert (found.state, found.passed_at) == ("breached", 7)
    found = together(engine, lambda s, n: guards.record_trial(s, trial("watching", n)))
    assert (found, only(engine, Trial).passed_at) == ([None, None], 7)


def test_of_two_acknowledgements_the_second_hears_of_the_first(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        number = guards.open_incident(session, incident("w")).id
    _, second = together(engine, lambda s, n: guards.acknowledge(s, number, f"person {n}", f"note {n}", n))
    assert isinstance(second, Refused)
    assert "person 1" in str(second)
    assert (only(engine, Incident).acknowledged_by, only(engine, Incident).note) == ("person 1", "note 1")


def test_a_fact_of_an_incident_is_noted_once(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        guards.open_incident(session, incident("w"))

    def note(session: Session, n: int) -> None:
        guards.note_once(session.scalars(sa.select(Incident)).one(), published_at=n)

    assert together(engine, note) == [None, None]
    assert only(engine, Incident).published_at == 1


def test_two_wishes_for_one_decision_are_one_and_its_first_answer_stays(engine: sa.Engine, stored_decision) -> None:
    with transaction(engine) as session:
        session.add(stored_decision("tx_1", 0))
    numbers = together(engine, lambda s, n: watch.ask_recomputation(s, "tx_1", f"person {n}", n).id)
    assert numbers[0] == numbers[1]
    assert only(engine, Recomputation).asked_by == "person 1"
    assert together(engine, lambda s, n: watch.answer_recomputation(s, numbers[0], f"equal {n}", {}, n)) == [None, None]
    assert (only(engine, Recomputation).result, only(engine, Recomputation).answered_at) == ("equal 1", 1)


def test_of_two_keys_of_one_name_the_second_is_refused(engine: sa.Engine) -> None:
    def add(session: Session, n: int) -> None:
        keys.add_key(session, name="platform", scopes=["decisions:read"], key_id=f"{n:012x}", secret="s",
                     created_by="ada", created_at=n)  # fmt: skip

    _, second = together(engine, add)
    assert isinstance(second, Invalid)
    assert "a name that no key ever had" in str(second)
    assert together(engine, lambda s, n: keys.disable_key(s, "platform", n).disabled_at) == [1, 1]
    assert together(engine, lambda s, n: keys.mark_used(s, {f"{1:012x}": 100 - n})) == [None, None]
    assert only(engine, ApiKey).last_used_at == 99


def test_two_who_count_for_the_continuous_audit_add_up_or_one_hears_of_the_other(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        watch.begin_continuous_audit(session, 10, 1)

    def count_up(session: Session, n: int) -> int:
        row = watch.locked_continuous_audit(session)
        assert row is not None
        row.compared += n
        return row.compared

    assert together(engine, count_up) == [1, 3]
    assert only(engine, ContinuousAudit).compared == 3


def add(session: Session, email: str, n: int) -> None:
    add_user(session, email=email, name="", roles=["analyst"], password_hash="", uniquifier=str(n) * 32)


def test_of_two_people_with_one_address_the_second_is_refused(engine: sa.Engine) -> None:
    _, second = together(engine, lambda s, n: add(s, "ada@bank.example", n))
    assert isinstance(second, Invalid)
    assert "an address that nobody has yet" in str(second)
    assert count(engine, User) == 1


def test_the_first_two_people_share_a_new_role(engine: sa.Engine) -> None:
    assert together(engine, lambda s, n: add(s, f"person{n}@bank.example", n)) == [None, None]
    assert (count(engine, User), count(engine, Role)) == (2, 1)
