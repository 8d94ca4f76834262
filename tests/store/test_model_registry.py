"""Requests and the second person, on both databases."""

import threading

import pytest
import sqlalchemy as sa

from plumbline.errors import NotFound, Refused, UserNotFound
from plumbline.transaction import SECOND_US
from store import models
from store.engine import transaction
from store.model_tables import ModelChange, ModelVersion
from store.users import add_user, disable

PEOPLE = {"ada": "engineer", "bob": "supervisor", "cy": "analyst"}


@pytest.fixture
def filled(engine: sa.Engine) -> sa.Engine:
    with transaction(engine) as session:
        for number, (name, role) in enumerate(PEOPLE.items()):
            add_user(
                session, email=f"{name}@bank", name=name, roles=[role], password_hash="", uniquifier=f"{number}" * 32
            )
        for number in (1, 2):
            models.add_version(session, version(number), "ada@bank")
    return engine


def version(number: int) -> ModelVersion:
    return ModelVersion(
        version=number, name="plumbline", stage="candidate", per_mille=0, trained_at=1, registered_at=2, made_by="ada",
        fingerprint="f", train_days="a..b", test_days="c..d", archive_digest="", seed=2**40, code_commit="",
        lock_sha256="", rows={"train": 1}, metrics={"ap": 0.1}, slices={}, files={"a": "b"}, gate=None, card={},
    )  # fmt: skip


def ask(engine: sa.Engine, by: str = "ada@bank", now_us: int = 10, **changes):
    with transaction(engine) as session:
        usual = {"kind": "promote", "version": 2, "to_stage": "shadow"}
        return models.ask(session, by=by, now_us=now_us, **usual | changes).id


def approve(engine: sa.Engine, request: int, by: str, now_us: int = 20):
    with transaction(engine) as session:
        return models.approve(session, request, by=by, now_us=now_us)


@pytest.mark.parametrize("same", ["ada@bank", "ADA@bank", " Ada@Bank ", "ａda@bank"])
def test_nobody_allows_their_own_request_however_they_write_their_name(filled, same):
    request = ask(filled)
    with pytest.raises(Refused, match="ada@bank asked for request 1, and so cannot allow it"):
        approve(filled, request, same)
    assert approve(filled, request, "Bob@bank").approved_by == "bob@bank"


def test_the_roles_decide_who_may_ask_and_allow(filled):
    with pytest.raises(Refused, match="cy@bank is analyst: expected engineer or supervisor"):
        ask(filled, by="cy@bank")
    with pytest.raises(UserNotFound):
        ask(filled, by="nobody@bank")
    request = ask(filled)
    with pytest.raises(Refused, match="cy@bank is analyst"):
        approve(filled, request, "cy@bank")
    with transaction(filled) as session:
        disable(session, "bob@bank", "x" * 32)
    with pytest.raises(Refused, match="bob@bank is disabled"):
        approve(filled, request, "bob@bank")
    with pytest.raises(NotFound):
        approve(filled, 99, "ada@bank")


def test_a_request_expires_and_is_allowed_once(filled):
    late = 10 + models.REQUEST_SECONDS * SECOND_US + 1
    request = ask(filled)
    assert ask(filled) == request, "the same wish is not doubled"
    with pytest.raises(Refused, match="older than 72 hours"):
        approve(filled, request, "bob@bank", late)
    with transaction(filled) as session:
        assert models.open_requests(session, late) == []
    assert ask(filled, now_us=late) != request
    assert approve(filled, request, "bob@bank").state == models.APPROVED
    assert approve(filled, request, "bob@bank", late).approved_at == 20
    with transaction(filled) as session:
        models.withdraw(session, request, by="ada@bank", now_us=30)
    with pytest.raises(Refused, match="is withdrawn"):
        approve(filled, request, "bob@bank")


def test_of_two_people_at_the_same_moment_one_is_the_second(filled):
    with transaction(filled) as session:
        for number in range(6):
            add_user(session, email=f"s{number}@bank", name="", roles=["supervisor"], password_hash="",
                     uniquifier=f"s{number}" * 16)  # fmt: skip
    request, ends = ask(filled), []

    def allow(name: str) -> None:
        try:
            ends.append(approve(filled, request, name).approved_by)
        except Refused:
            ends.append("")

    threads = [threading.Thread(target=allow, args=(f"s{number}@bank",)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with transaction(filled) as session:
        assert sorted(ends)[:-1] == [""] * 5
        assert models.model_request(session, request).approved_by == max(ends)


def test_a_rollback_needs_one_person_or_the_guard(filled):
    with transaction(filled) as session:
        for by in ("ada@bank", models.GUARD):
            asked = models.ask_alone(session, kind="rollback", by=by, now_us=1, version=2, why="p99")
            assert (asked.state, asked.asked_by) == (models.APPROVED, by)
    with transaction(filled) as session, pytest.raises(Refused):
        models.ask_alone(session, kind="rollback", by="cy@bank", now_us=1, version=2, why="")
    with pytest.raises(UserNotFound):
        ask(filled, by=models.GUARD)


def test_a_change_is_recorded_once_with_the_stages_it_leads_to(filled):
    request = ask(filled)
    approve(filled, request, "bob@bank")

    def change() -> ModelChange:
        return ModelChange(
            at=5, version=2, kind="promote", from_stage="candidate", to_stage="canary", per_mille=10,
            asked_by="ada@bank",
            approved_by="bob@bank", why="", evidence={}, assignment="release-1", experiment="", request_id=request,
        )  # fmt: skip

    for expected in (True, False):
        with transaction(filled) as session:
            found = models.model_request(session, request)
            assert models.finish(session, found, [change()], 6, {"rows": 1}) is expected
    with transaction(filled) as session:
        assert [each.to_stage for each in models.changes(session, 2)] == ["candidate", "canary"]
        assert (models.model_version(session, 2).stage, models.model_version(session, 2).per_mille) == ("canary", 10)
        assert models.model_request(session, request).state == models.DONE
        models.refuse(session, models.model_request(session, request), 9, {})
        assert models.approved_requests(session) == []
    with transaction(filled) as session:
        assert models.model_request(session, request).state == models.DONE
