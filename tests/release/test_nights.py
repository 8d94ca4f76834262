"""What a night may change in the registry by itself: into the shadow what the gate passed, and room for it."""

import pytest

from plumbline.errors import Refused
from release import nights
from release.registering import register
from store import models
from store.engine import transaction
from store.model_tables import ModelChange
from store.models import APPROVED, NIGHT, set_gate

PASSED = {"verdict": "passed"}


def placed(session, number, stage, by="ada@bank.example", before="candidate"):
    version = models.model_version(session, number)
    version.stage = stage
    session.add(
        ModelChange(
            at=number, version=number, kind="promote", from_stage=before, to_stage=stage, per_mille=0, asked_by=by,
            approved_by="", why="", evidence={}, assignment="", experiment="",
        )
    )  # fmt: skip
    session.flush()


@pytest.fixture
def bank(installed, base, another):
    """Version 1 is the champion; 2 to 7 are candidates."""
    for number in range(2, 8):
        another(number)
    with transaction(installed) as session:
        for number in range(1, 8):
            register(session, base, number, by="ada", now_us=number)
        placed(session, 1, "champion")
    return installed


def test_a_candidate_that_the_gate_passed(bank):
    with transaction(bank) as session:
        with pytest.raises(Refused, match="was not passed by the gate"):
            nights.ask_for_shadow(session, 2, why="", now_us=10)
        set_gate(session, 2, {"verdict": "refused"})
        with pytest.raises(Refused, match=r"was not passed by the gate \(refused\)"):
            nights.ask_for_shadow(session, 2, why="", now_us=10)
        set_gate(session, 2, PASSED)
        asked = nights.ask_for_shadow(session, 2, why="a night", now_us=10)
        assert (asked.state, asked.asked_by, asked.to_stage, asked.over) == (APPROVED, NIGHT, "shadow", False)
        again = nights.ask_for_shadow(session, 2, why="a night", now_us=11)
        assert again.id == asked.id, "a start that was killed finds its request"
        placed(session, 2, "shadow")
        asked.state = models.DONE
        with pytest.raises(Refused, match="is shadow"):
            nights.ask_for_shadow(session, 2, why="", now_us=10)


def test_room_is_made_of_the_oldest_that_a_night_brought_in_and_nobody_asks_about(bank):
    with transaction(bank) as session:
        for number, by in ((2, "ada@bank.example"), (3, NIGHT), (4, NIGHT)):
            placed(session, number, "shadow", by)
        assert nights.ask_to_make_room(session, 7, now_us=10) is None, "there is room for a fourth"
        placed(session, 5, "shadow", NIGHT)
        models.ask(session, kind="promote", version=3, to_stage="canary", per_mille=10, by="ada@bank.example", now_us=9)
        asked = nights.ask_to_make_room(session, 7, now_us=10)
        assert (asked.version, asked.to_stage, asked.asked_by) == (4, "retired", NIGHT)
        assert nights.ask_to_make_room(session, 7, now_us=11).id == asked.id
        assert nights.ask_to_make_room(session, 5, now_us=11) is None, "it is one of them"


def test_peoples_shadows_are_left_alone(bank):
    with transaction(bank) as session:
        for number in (2, 3, 4, 5):
            placed(session, number, "shadow")
        with pytest.raises(Refused, match="people brought them in or ask about them: retire one"):
            nights.ask_to_make_room(session, 7, now_us=10)


@pytest.mark.parametrize("name", ["retrain", "guard"])
def test_no_person_has_a_jobs_name(bank, name):
    from store.users import add_user

    with transaction(bank) as session:
        add_user(session, email=name, name="X", roles=["engineer"], password_hash="none", uniquifier="f" * 32)
    with transaction(bank) as session, pytest.raises(Refused, match="and no person: give another name"):
        models.ask(session, kind="promote", version=2, to_stage="shadow", by=name, now_us=9)
