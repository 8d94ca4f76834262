"""A version that would decline a great share of all payments decides only after a person accepted that."""

import json

import pytest

from plumbline.cli import main as cli
from plumbline.declines import decline_share
from plumbline.errors import Refused
from release.held import ACCEPTED, require_accepted
from release.registering import register
from store.engine import transaction
from store.models import ask, model_version, open_requests

ADA = "ada@bank.example"


def card(share, most=0.02):
    return {"costs": {"assumed": {"decline_share_most": most}, "spent": {"decline_share": share}}}


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        (card(0.19), 0.19), (card(0.02), None), (card(0.0), None), (card(0.19, most=0.5), None), ({}, None),
        ({"costs": {"spent": {"decline_share": 0.021}}}, 0.021), ({"costs": None}, None),
    ],
)  # fmt: skip
def test_a_version_is_held_for_what_its_card_says(facts, held):
    assert decline_share(facts) == held


def promote(*words):
    return cli.run(["models", "promote", "2", "--by", ADA, "--json", *words])


def test_a_held_version_may_be_a_shadow_and_decides_only_where_somebody_accepted_it(base, another, installed, capsys):
    another(2, **card(0.19))
    with transaction(installed) as session:
        register(session, base, 2, by=ADA, now_us=5)
    assert promote("--to", "champion") == cli.FAILED
    refusal = capsys.readouterr().err
    assert "version 2 would decline 19.00% of all payments under its thresholds, more than 2.00%" in refusal
    assert "--accept-declines" in refusal
    with transaction(installed) as session:
        assert open_requests(session, 5) == []
    assert promote("--to", "champion", "--accept-declines") == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["evidence"] == {ACCEPTED: {"version": 2, "share": 0.19, "by": ADA}}


def test_a_request_for_a_held_version_that_nobody_accepted_is_never_applied(base, another, installed):
    another(2, **card(0.19))
    with transaction(installed) as session:
        register(session, base, 2, by=ADA, now_us=5)
        version = model_version(session, 2)
        for evidence in (None, {ACCEPTED: {"version": 2, "share": 0.05, "by": ADA}}):
            request = ask(
                session, kind="promote", by=ADA, now_us=5, version=2, to_stage="canary", why=str(evidence),
                per_mille=10 if evidence else 20, evidence=evidence,
            )  # fmt: skip
            with pytest.raises(Refused, match="would decline"):
                require_accepted(version, request)
