"""The one owner of a release, on both databases."""

import threading
import time

import pytest
import sqlalchemy as sa

from plumbline.errors import ReleaseHeld
from store import releases
from store.engine import transaction
from store.releases import owning


def own(engine: sa.Engine, doing: str = "a promotion", *, urgent: bool = False, wait: float = 0.0, lease: float = 30.0):
    return owning(engine, doing, urgent=urgent, wait_seconds=wait, seconds=lease)


def test_a_second_command_is_told_who_has_it_and_gets_it_afterwards(engine: sa.Engine) -> None:
    with own(engine), pytest.raises(ReleaseHeld, match="a promotion changes the stream at this moment"), own(engine):
        pass
    with own(engine) as owner:
        owner.check()


def test_an_urgent_command_takes_it_and_the_other_hears_of_it_in_its_own_transaction(engine: sa.Engine) -> None:
    with own(engine) as promotion:
        with own(engine, "a rollback", urgent=True) as rollback:
            with pytest.raises(ReleaseHeld, match="a promotion was overtaken by a rollback"), transaction(engine) as s:
                promotion.require(s)
            rollback.check()
            with pytest.raises(ReleaseHeld, match="a rollback changes"), own(engine, "another", urgent=True):
                pass
        with pytest.raises(ReleaseHeld):
            promotion.check()


def test_a_killed_owner_holds_it_up_until_its_lease_ends(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "_release", lambda owner: None)
    with own(engine, lease=0.6):
        pass
    begun = time.monotonic()
    with own(engine, wait=20.0):
        assert time.monotonic() - begun > 0.3


def test_a_living_owner_keeps_it_for_longer_than_its_lease(engine: sa.Engine) -> None:
    with own(engine, lease=0.5) as owner:
        with pytest.raises(ReleaseHeld), own(engine, wait=1.5):
            pass
        owner.check()


def test_a_lease_from_before_the_clock_was_set_back_is_free(engine: sa.Engine) -> None:
    with own(engine) as lost:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE release_owner SET expires_at_ms = expires_at_ms + 3600000"))
        with own(engine), pytest.raises(ReleaseHeld):
            lost.check()


def test_of_many_at_once_one_has_it_at_a_time(engine: sa.Engine) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with own(engine, wait=60.0) as owner:
            with lock:
                inside += 1
                most = max(most, inside)
            owner.check()
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (inside, most) == (0, 1)
