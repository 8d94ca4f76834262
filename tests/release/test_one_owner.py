"""One release command at a time, and registry and stream that agree after any way in which one may end."""

import threading

import msgspec
import pytest
import sqlalchemy as sa

from plumbline.assignment import Assignment
from plumbline.errors import BrokerUnavailable, Refused, ReleaseHeld
from release import carrying, publishing
from store import models, releases
from store.engine import transaction
from store.model_tables import ModelChange
from store.release_tables import ReleasePublication
from store.releases import owning
from streaming.control import publish
from tests.release.streamed import ADA, BOB, Bank, Killed, passes
from tests.scorer_thread import now_us


@pytest.fixture
def bank(kafka, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "LEASE_SECONDS", 1.0)
    found = Bank(kafka.bootstrap, tmp_path, monkeypatch)
    found.start_scorer()
    yield found
    found.close()


def killed_at(step):
    def tell(done):
        if done == step:
            raise Killed

    return tell


def killed(bank, number, step):
    """A command that is killed after a step: it lets go of nothing, and its lease has to run out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "_release", lambda owner: None)
        with pytest.raises(Killed):
            carrying.carry_out(bank.site, number, passes, killed_at(step))


def refuses(version):
    raise Refused("parity: a row differs by now")


def test_a_promotion_that_a_rollback_overtakes_changes_nothing(bank):
    """The rollback does not wait for it: it takes the release, and the promotion stops at its next step."""
    number = bank.canary()
    carrying.carry_out(bank.site, number, passes)
    promotion = bank.allowed(2, "champion")
    stuck, go = threading.Event(), threading.Event()
    said = []

    def tell(step):
        if step == "parity":
            stuck.set()
            assert go.wait(60)

    def promote():
        try:
            carrying.carry_out(bank.site, promotion, passes, tell)
        except ReleaseHeld as error:
            said.append(str(error))

    thread = threading.Thread(target=promote)
    thread.start()
    assert stuck.wait(60)
    carrying.roll_back(bank.site, 2, by=BOB, why="looks wrong")
    go.set()
    thread.join(60)
    assert bank.stages() == {1: "champion", 2: "retired"}
    assert f"request {promotion} (promote) was overtaken" in said[0]
    assert bank.request(promotion) == models.REFUSED, "a rollback ends requests for what it took back"
    bank.require_agreement()
    bank.register(3)
    bank.release(3, "shadow")
    bank.require_agreement()


def test_a_promotion_waits_for_a_rollback_and_says_for_whom(bank):
    number = bank.canary()
    bank.site = carrying.Site(**{**fields(bank.site), "wait_seconds": 0.3})
    with owning(bank.engine, "request 9 (rollback)", urgent=True, wait_seconds=0.0):
        with pytest.raises(ReleaseHeld, match=r"request 9 \(rollback\) changes the stream at this moment"):
            carrying.carry_out(bank.site, number, passes)
        with pytest.raises(ReleaseHeld), owning(bank.engine, "another", urgent=True, wait_seconds=0.0):
            pass
    assert bank.request(number) == models.APPROVED


def fields(value):
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def test_what_is_published_cannot_be_withdrawn(bank):
    number = bank.canary()

    def withdraw(step):
        if step == "published":
            with pytest.raises(Refused, match="already published"), transaction(bank.engine) as session:
                models.withdraw(session, number, by=ADA, now_us=now_us())

    carrying.carry_out(bank.site, number, passes, withdraw)
    assert bank.request(number) == models.DONE
    bank.require_agreement()


def test_what_was_withdrawn_before_is_not_published(bank):
    number = bank.canary()

    def withdraw(step):
        if step == "thresholds":
            with transaction(bank.engine) as session:
                models.withdraw(session, number, by=ADA, now_us=now_us())

    with pytest.raises(Refused, match="withdrawn or refused at this moment"):
        carrying.carry_out(bank.site, number, passes, withdraw)
    assert bank.request(number) == models.WITHDRAWN
    bank.require_agreement()


def test_a_listener_that_fails_does_not_keep_a_release_from_being_recorded(bank):
    number = bank.canary()

    def fails(step):
        if step == "published":
            raise OSError("the terminal has gone")

    with pytest.raises(OSError, match="terminal"):
        carrying.carry_out(bank.site, number, passes, fails)
    assert bank.request(number) == models.DONE
    bank.require_agreement()


def test_the_same_request_twice_at_once_is_applied_once(bank):
    number = bank.canary()
    before, said = len(bank.assignments()), []
    begin = threading.Barrier(2)

    def work():
        begin.wait(30)
        said.append(carrying.carry_out(bank.site, number, passes))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (len(said), said[0]["assignment"]["version"]) == (2, said[1]["assignment"]["version"])
    assert len(bank.assignments()) == before + 1
    with transaction(bank.engine) as session:
        moved = [each.to_stage for each in models.changes(session, 2)]
    assert moved == ["candidate", "shadow", "canary"]
    bank.require_agreement()


@pytest.mark.parametrize("step", ["intended", "published", "in_force"])
def test_killed_behind_its_intention_the_next_command_records_what_is_active(bank, step):
    """Even where that command's gate would refuse it by now, and where it has waited for too long."""
    number = bank.canary()
    killed(bank, number, step)
    if step == "intended":
        with pytest.raises(Refused, match="parity"):
            carrying.carry_out(bank.site, number, refuses)
        assert bank.request(number) == models.REFUSED
    else:
        late = carrying.Site(**{**fields(bank.site), "now_us": lambda: now_us() + 10**12})
        assert carrying.carry_out(late, number, refuses)["assignment"]["arms"] == [{"version": 2, "per_mille": 100}]
        assert bank.request(number) == models.DONE
    bank.require_agreement()


def meant(bank):
    """The assignment of the newest publication."""
    with transaction(bank.engine) as session:
        newest = sa.select(ReleasePublication).order_by(ReleasePublication.id.desc()).limit(1)
        return msgspec.convert(session.scalars(newest).one().body, Assignment)


def test_a_message_that_comes_after_all_is_recorded_although_it_was_given_up(bank):
    """Its sender stood still between its intention and its publication, and goes on when nobody expects it."""
    number = bank.canary()
    killed(bank, number, "intended")
    assert bank.reconcile().abandoned == [meant(bank).version]
    assert bank.request(number) == models.APPROVED
    sent = publishing.send(bank.bootstrap, bank.prefix, meant(bank))
    publishing.wait_in_force(bank.bootstrap, bank.prefix, sent, 30)
    assert bank.reconcile().recorded == [meant(bank).version]
    assert bank.request(number) == models.DONE
    bank.require_agreement()


def test_a_message_that_comes_behind_a_rollback_is_refused_by_the_scorer(bank):
    carrying.carry_out(bank.site, bank.canary(), passes)
    promotion = bank.allowed(2, "champion")
    killed(bank, promotion, "intended")
    late = meant(bank)
    carrying.roll_back(bank.site, 2, by=BOB, why="looks wrong")
    assert bank.request(promotion) == models.REFUSED
    sent = publishing.send(bank.bootstrap, bank.prefix, late)
    with pytest.raises(Refused, match="replaces"):
        publishing.wait_in_force(bank.bootstrap, bank.prefix, sent, 30)
    bank.reconcile()
    assert bank.stages() == {1: "champion", 2: "retired"}
    bank.require_agreement()


def test_an_answer_that_comes_between_two_look_ups_is_seen(bank, monkeypatch):
    """The scorer answers at once, before the one who published looks for the answer."""
    publishing_publish = publish

    def slowly(bootstrap, prefix, message):
        offset = publishing_publish(bootstrap, prefix, message)
        sent = publishing.Sent(offset, 0)
        assert publishing.answer(bootstrap, prefix, sent, 30) is not None
        return offset

    monkeypatch.setattr(publishing, "publish", slowly)
    sent = publishing.send(bank.bootstrap, bank.prefix, Assignment(version="quick", decides=1))
    publishing.wait_in_force(bank.bootstrap, bank.prefix, sent, 0.0)
    again = publishing.sent_before(bank.bootstrap, bank.prefix, sent.offset)
    publishing.wait_in_force(bank.bootstrap, bank.prefix, again, 0.0)


def test_without_a_scorer_the_request_stays_and_the_next_command_goes_on(bank):
    number = bank.canary()
    bank.scorer.leave()
    bank.site = carrying.Site(**{**fields(bank.site), "wait_seconds": 0.5})
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="no scorer took it within"):
            carrying.carry_out(bank.site, number, passes)
        assert bank.request(number) == models.APPLYING
    bank.start_scorer()
    bank.site = carrying.Site(**{**fields(bank.site), "wait_seconds": 20.0})
    carrying.carry_out(bank.site, number, passes)
    assert bank.request(number) == models.DONE
    bank.require_agreement()
    with transaction(bank.engine) as session:
        assert session.query(ModelChange).filter(ModelChange.request_id == number).count() == 1
