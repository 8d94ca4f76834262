"""The way back to a champion of another declaration: one person, at once, while the stream runs."""

import numpy as np
import pytest
from msgspec.structs import replace

from features.declaration import DECLARATION
from features.grammar import Feature, Measure
from features.sweep import History
from plumbline.decision import Decision
from release import carrying
from store import releases
from streaming.arrivals import arrivals
from streaming.known import Known
from streaming.prepared import prepare
from streaming.state import State
from streaming.verify import listed, verify
from tests.release.streamed import BOB, Bank, passes

WIDER = replace(
    DECLARATION,
    history=(*DECLARATION.history, Measure("account", "count", "14d")),
    features=(
        *DECLARATION.features,
        Feature("account_count_14d_log", "log", ("account_count_14d",), "transactions in 14 days", "14 天交易笔数"),
    ),
)
OLD, NEW = DECLARATION.fingerprint, WIDER.fingerprint


@pytest.fixture
def bank(kafka, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "LEASE_SECONDS", 1.0)
    found = Bank(kafka.bootstrap, tmp_path, monkeypatch)
    found.start_scorer()
    yield found
    found.close()


def paid(bank, count=40):
    """The decisions on so many more payments."""
    before = len(decisions(bank.stream.answered()))
    bank.stream.pay(count)
    return decisions(bank.stream.answered())[before:]


def decisions(entries):
    return [each for _, each in entries if isinstance(each, Decision)]


def prepared(bank):
    prepare(
        bank.bootstrap, bank.stream.journal, bank.stream.snapshots, WIDER, archive=None, until_us=None,
        remembered=1_000_000, tell=lambda _: None,
    )  # fmt: skip


def switched(bank):
    """Version 2, of a wider declaration, takes over from version 1 by the usual steps."""
    bank.register(1)
    bank.release(1, "champion")
    paid(bank)
    bank.register(2, declaration=WIDER)
    prepared(bank)
    bank.release(2, "shadow")
    bank.release(2, "canary", 500)
    paid(bank)
    bank.release(2, "champion")


def roll_back(bank):
    return carrying.roll_back(bank.site, None, by=BOB, why="looks wrong")


def test_a_champion_of_another_declaration_can_be_rolled_back_to_at_once(bank):
    switched(bank)
    beside = paid(bank)
    assert {each.scores[0].model_version for each in beside} == {2}
    assert {(each.fingerprint, *(other.fingerprint for other in each.other_histories)) for each in beside} == {
        (NEW, OLD)
    }, "the former champion's history is journaled with every decision, and so checked by every fold and audit"
    # The former champion is not asked for anything while it is kept ready.
    calls = bank.client.calls["score"]
    paid(bank, 1)
    assert bank.client.calls["score"] == calls + 1
    roll_back(bank)
    assert bank.stages() == {1: "champion", 2: "retired"}
    back = paid(bank)
    assert {(each.scores[0].model_version, each.fingerprint, each.other_histories) for each in back} == {(1, OLD, ())}
    bank.require_agreement()
    every = decisions(bank.stream.entries())
    for declaration in (DECLARATION, WIDER):
        swept = History(declaration).advance(arrivals(every))
        recorded = [each.history_of(declaration.fingerprint) for each in every]
        assert all(row is None or np.array_equal(row, swept[n]) for n, row in enumerate(recorded))


def test_a_kept_declaration_survives_a_snapshot_a_crash_and_a_takeover(bank):
    switched(bank)
    paid(bank)
    bank.scorer.leave()
    found = listed(bank.stream.snapshots)
    assert NEW in [each.fingerprint for each in found[-1].manifest.declarations]
    assert OLD in [each.fingerprint for each in found[-1].manifest.declarations]

    def begin(declaration):
        return State(Known(1_000_000), {declaration.fingerprint: History(declaration)})

    verify(found, begin, bank.bootstrap, bank.stream.journal, 1_000_000, lambda _: None)
    assert not any(each.bad for each in found), [(each.refused, each.different) for each in found]
    bank.start_scorer()
    paid(bank)
    bank.scorer.crash()
    bank.start_scorer()  # which folds the whole journal, the prepared history among it
    paid(bank)
    roll_back(bank)
    assert bank.stages() == {1: "champion", 2: "retired"}
    assert {each.fingerprint for each in paid(bank)} == {OLD}


def test_a_former_champion_that_is_not_served_is_kept_ready_all_the_same(bank):
    switched(bank)
    bank.client.absent = {1}
    bank.register(3, declaration=WIDER)
    bank.release(3, "shadow")
    assert bank.assignments()[-1].kept_ready == (1,)
    bank.client.absent = set()
    roll_back(bank)
    assert bank.stages()[1] == "champion"


def test_two_champions_back(bank):
    switched(bank)
    bank.register(3, declaration=WIDER)
    for step in (("shadow",), ("canary", 500), ("champion",)):
        carrying.carry_out(bank.site, bank.allowed(3, *step), passes)
    assert bank.assignments()[-1].kept_ready == (1, 2)
    roll_back(bank)
    assert (bank.assignments()[-1].decides, bank.assignments()[-1].kept_ready) == (2, (1,))
    roll_back(bank)
    assert (bank.assignments()[-1].decides, bank.assignments()[-1].kept_ready) == (1, ())
    assert {each.fingerprint for each in paid(bank)} == {OLD}
