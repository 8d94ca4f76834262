"""The journal's records: what is written reads back to the same bits, and nothing else is read."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline import journal
from plumbline.decision import Alert, Decision, Outcome, Reason, Score, Source, alert_of
from plumbline.label import Label
from plumbline.policy import Policy
from plumbline.transaction import Transaction

TRANSACTION = Transaction(
    transaction_id="t-1",
    occurred_at=1_700_000_000_000_000,
    account_id="a-1",
    merchant_id="m-1",
    amount_minor=5_000,
    currency="JPY",
    channel="transfer",
    mcc="0000",
    country="ZZ",
)
SOURCE = Source("transactions", 0, 7, 1_700_000_000_001)
LABEL = Label(label_id="l-1", transaction_id="t-1", verdict="fraud", source="chargeback", known_at=1)


def decision(**changes: object) -> Decision:
    fields: dict[str, object] = {
        "transaction": TRANSACTION,
        "source": SOURCE,
        "history": (0, -(2**63), 2**63 - 1),
        "fingerprint": "0123456789abcdef",
        "scores": (Score(3, 0.25),),
        "policy_version": "default",
        "outcome": Outcome.REVIEW,
        "reasons": (Reason("feature", "amount_to_mean", 0.5), Reason("rule", "review_amount")),
        "decided_at": 1_700_000_000_000_001,
    }
    return Decision(**{**fields, **changes})  # type: ignore[arg-type]


ENTRIES = [
    decision(),
    decision(scores=(), reasons=(Reason("fault", "model_unavailable"),)),
    journal.Conflict(transaction=TRANSACTION, source=SOURCE, identical=True, journaled_at=1),
    journal.Rejected(source=SOURCE, error="transaction: mcc is None", journaled_at=1),
    journal.LabelApplied(label=LABEL, source=SOURCE, effect="unknown_transaction", journaled_at=1),
    journal.LabelApplied(
        label=LABEL, source=SOURCE, effect="counted", account_id="a-1", merchant_id="m-1", occurred_at=7, journaled_at=1
    ),
    journal.ControlApplied(
        policy=Policy(version="p", declined_accounts=frozenset({"a", "b", "c"})), source=None, journaled_at=1
    ),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_an_entry_reads_back_as_it_was_written(entry: journal.Entry) -> None:
    assert journal.decode(journal.encode(entry)) == entry


def test_a_label_journaled_before_labels_brought_their_transactions_time_is_read() -> None:
    entry = ENTRIES[5]
    raw = msgspec.json.decode(journal.encode(entry))
    assert raw.pop("occurred_at") == 7
    assert journal.decode(msgspec.json.encode(raw)) == msgspec.structs.replace(entry, occurred_at=0)


@given(st.floats(0, 1, width=32))
def test_a_float32_score_reads_back_to_the_same_bits(value: float) -> None:
    entry = journal.decode(journal.encode(decision(scores=(Score(1, value),))))
    assert isinstance(entry, Decision)
    assert struct.pack("<f", entry.scores[0].value) == struct.pack("<f", value)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)).map(tuple))
def test_history_keeps_every_int64(history: tuple[int, ...]) -> None:
    entry = journal.decode(journal.encode(decision(history=history)))
    assert isinstance(entry, Decision)
    assert entry.history == history


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_the_same_policy_is_the_same_bytes_whatever_order_its_lists_were_made_in(accounts: list[str]) -> None:
    def written(names: list[str]) -> bytes:
        policy = Policy(version="p", declined_accounts=frozenset(names))
        return journal.encode(journal.ControlApplied(policy=policy, source=None, journaled_at=1))

    assert written(accounts) == written(sorted(accounts))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"type":"opinion"}',
        journal.encode(decision()).replace(b'"decision"', b'"conflict"'),
        journal.encode(decision())[:-1] + b',"approved":true}',
        journal.encode(decision()).replace(b'"review"', b'"maybe"', 1),
        journal.encode(decision()).replace(b"0.25", b"1.25"),
        journal.encode(decision()).replace(b"0.25", b"null"),
    ],
)
def test_anything_else_is_not_read(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        journal.decode(raw)


def test_a_dead_letter_keeps_the_raw_bytes() -> None:
    letter = journal.DeadLetter(
        raw=b"\xff\x00{", error="no JSON", field="record", allowed="JSON", source=SOURCE, rejected_at=1
    )
    assert msgspec.json.decode(msgspec.json.encode(letter), type=journal.DeadLetter) == letter


def test_outcomes_are_ordered_by_severity() -> None:
    assert sorted([Outcome.DECLINE, Outcome.APPROVE, Outcome.REVIEW]) == [
        Outcome.APPROVE,
        Outcome.REVIEW,
        Outcome.DECLINE,
    ]
    assert max(Outcome.REVIEW, Outcome.APPROVE) is Outcome.REVIEW
    assert Outcome.DECLINE >= Outcome.DECLINE > Outcome.REVIEW
    assert [outcome.severity for outcome in Outcome] == [0, 1, 2]


def test_an_outcome_is_not_compared_with_its_name() -> None:
    with pytest.raises(TypeError):
        sorted([Outcome.APPROVE, "review"])  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("entry", "alert"),
    [
        (decision(outcome=Outcome.APPROVE), None),
        (
            decision(),
            Alert(
                transaction_id="t-1", outcome=Outcome.REVIEW, expected_loss_minor=1_250, opened_at=1_700_000_000_000_001
            ),
        ),
        (
            decision(scores=()),
            Alert(
                transaction_id="t-1", outcome=Outcome.REVIEW, expected_loss_minor=5_000, opened_at=1_700_000_000_000_001
            ),
        ),
    ],
    ids=["approved", "scored", "unscored"],
)
def test_an_alert_holds_the_expected_loss_and_all_of_it_without_a_score(entry: Decision, alert: Alert | None) -> None:
    assert alert_of(entry) == alert
