"""An experiment's counts are accounts by who had them, and versions are compared by what SQL holds of them."""

import json

import pytest

from plumbline.assignment import Arm, Assignment
from plumbline.cli import main as cli
from release.comparing import agreement
from release.experiments import standing
from release.registering import register
from store.engine import transaction
from store.model_tables import ModelExperiment
from store.tables import Decision, Label, ShadowScore
from tests.release.rows import decision_row

ACCOUNTS = [f"account-{number}" for number in range(400)]


def labelled(session, number, account, outcome, verdict, at=200):
    session.add(Decision(**decision_row(number, account_id=account, outcome=outcome, decided_at=at, model_version=1)))
    session.add(
        Label(
            label_id=f"l{number}", sequence=10_000 + number, transaction_id=f"t{number}", account_id=account,
            merchant_id="m", verdict=verdict, source="analyst", known_at=at, by="", note="", effect="counted",
            journaled_at=at,
        )
    )  # fmt: skip


def test_each_account_counts_once_for_the_arm_that_has_it(installed):
    dealt = Assignment(version="e", decides=1, arms=(Arm(2, 300),), kind="experiment", salt="spring")
    mine = [each for each in ACCOUNTS if dealt.routed(each)[0] == 2]
    others = [each for each in ACCOUNTS if dealt.routed(each)[0] == 1]
    with transaction(installed) as session:
        found = ModelExperiment(
            name="spring", champion=1, arms={"2": 300}, started_at=100, started_by="ada", approved_by="bob", why=""
        )
        session.add(found)
        told = [
            *((each, "decline", "fraud") for each in mine[:40] * 2),
            *((each, "approve", "fraud") for each in mine[40:45]),
            *((each, "review", "genuine") for each in others[:7]),
            *((each, "approve", "genuine") for each in others[7:9]),
            (others[9], "review", "fraud"),
        ]
        for number, (account, outcome, verdict) in enumerate(told):
            labelled(session, number, account, outcome, verdict)
        labelled(session, 999, others[10], "review", "fraud", at=50)
        session.flush()
        now = standing(session, found)
    arm, champion = now.arms[0], now.champion
    assert (arm.per_mille, arm.caught, arm.missed, arm.false_alerts) == (300, 40, 5, 0)
    assert (champion.per_mille, champion.caught, champion.missed, champion.false_alerts) == (700, 1, 0, 7)
    assert now.stop.verdict in {"harm", "winner"}, "forty to one is no chance"
    assert json.loads(json.dumps(now.facts()))["sides"][1]["version"] == 2


def test_agreement_is_of_transactions_that_both_scored(installed):
    with transaction(installed) as session:
        for number, (decider, score, shadow, other) in enumerate(
            [(1, 0.5, 2, 0.5), (1, 0.5, 2, 0.25), (2, 0.75, 1, 0.5), (1, 0.5, 2, None), (3, 0.1, 2, 0.9)]
        ):
            session.add(Decision(**decision_row(number, model_version=decider, score=score)))
            session.add(ShadowScore(sequence=number, version=shadow, score=other, failure=""))
        session.flush()
        assert agreement(session, 1, 2) == {
            "compared": 3, "equal": 1, "mean_distance": pytest.approx(0.5 / 3), "max_distance": 0.25,
        }  # fmt: skip
        assert agreement(session, 1, 3) is None


def test_versions_are_compared_on_the_command_line(installed, base, another, capsys):
    another(2, seed=9, metrics={"ap": 0.5}, slices={"channel=pos": {"rows": 1.0, "frauds": 0.0}})
    with transaction(installed) as session:
        for number in (1, 2):
            register(session, base, number, by="ada", now_us=1)
    assert cli.run(["models", "compare", "1", "2", "--json"]) == cli.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["seed"] == [None, 9]
    assert found["metrics"] == {"ap": [None, 0.5]}
    assert (found["files"], found["agreement"]) == ({}, None)
    assert cli.run(["models", "compare", "1", "2"]) == cli.DONE
    assert "no transaction was decided by one and scored by the other" in capsys.readouterr().out
    assert cli.run(["models", "compare", "1", "7"]) == cli.FAILED
    assert cli.run(["models", "experiment", "status"]) == cli.FAILED
    assert cli.run(["models", "experiment", "start", "x", "--arm", "2=0.01%", "--by", "ada@bank.example"]) == cli.USAGE
