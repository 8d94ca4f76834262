"""Late, early, doubled, contradicting: any messages in any order, batches and restarts, against a naive oracle."""

import itertools
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import HISTORY_NAMES
from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Conflict, ControlApplied, LabelApplied, Rejected
from plumbline.policy import DEFAULT_POLICY
from plumbline.transaction import DAY_US
from streaming import state as states
from streaming.batch import process
from streaming.known import Known
from streaming.snapshot import freeze, read, write
from streaming.state import CaughtUp, State
from streaming.verify import differences
from tests.fakes import NOW, FakeClient, Numbered, fake_model, payment, raw, told
from tests.intake_oracle import intake

BATCH_MOST = 6
HOUR_US = DAY_US // 24
IDS = st.integers(0, 9)

# On the edges of windows, of the lateness and of the clock's tolerance; several of them twice, so that times tie.
SINCE = [-40 * DAY_US, -30 * DAY_US, -8 * DAY_US, -7 * DAY_US, -DAY_US, -HOUR_US, -1, 0, 0, 0, HOUR_US, DAY_US]
times = st.sampled_from([NOW + each for each in [*SINCE, DAY_US + 1]])

transactions = st.builds(
    lambda number, at, amount, device, place: (
        "transactions",
        payment(number, occurred_at=at, amount_minor=amount, device_id=device, latitude_e6=place, longitude_e6=place),
    ),
    IDS, times, st.integers(0, 2), st.sampled_from(["", "d1"]), st.sampled_from([None, 1_000_000]),
)  # fmt: skip
labels = st.builds(
    lambda number, of, verdict, at: ("labels", told(number, of, verdict, known_at=at)),
    st.integers(0, 3), IDS, st.sampled_from(["fraud", "fraud", "genuine", "unsure"]), times,
)  # fmt: skip
batches = st.lists(st.lists(st.one_of(transactions, transactions, labels), max_size=BATCH_MOST), max_size=10)
restarts = st.sampled_from(["none", "none", "fold", "snapshot", "tail"])


class Scorers:
    """Scorers that take over from one another, by their journal and snapshots alone."""

    def __init__(self, remembered, folder):
        self.remembered, self.folder = remembered, folder
        self.journal = [ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)]
        self.topics = {name: Numbered(name) for name in ("labels", "transactions")}
        self.older = State(Known(remembered))
        self.state = self.folded()

    def take(self, batch):
        """One micro-batch of (topic, fields)."""
        sent = {
            name: [topic.message(raw(fields)) for of, fields in batch if of == name]
            for name, topic in self.topics.items()
        }
        taken = process(
            self.state, fake_model(FakeClient()), label=sent["labels"], transaction=sent["transactions"], now_us=NOW
        )
        self.journal += [journal.decode(journal.encode(entry)) for entry in taken.entries]
        self.state.sequence = len(self.journal) - 1

    def folded(self):
        """The state of one who was never there, and folds the journal from its beginning."""
        state = State(Known(self.remembered))
        state.fold(enumerate(self.journal))
        return state

    def restart(self, how):
        """Put another scorer in the place of the leader."""
        leader = self.state
        if how == "fold":
            self.state = self.folded()
        elif how == "snapshot":
            self.state = read(write(self.folder, freeze(CaughtUp(self.state))), self.remembered)
        elif how == "tail":
            self.state = self.older
            self.state.fold(list(enumerate(self.journal))[self.state.sequence + 1 :])
        assert differences(self.state, leader) == []
        assert list(self.state.waiting) == list(leader.waiting), "the order says which of them gives way"
        self.older = self.folded()


def said(entry):
    """An entry as the oracle says it."""
    match entry:
        case Decision():
            return {"kind": "decision", "id": entry.transaction.transaction_id, "history": entry.history}
        case Conflict():
            return {"kind": "conflict", "identical": entry.identical}
        case LabelApplied():
            return {"kind": "label", "effect": entry.effect, "own": entry.source is not None}
        case Rejected():
            return {"kind": "rejected"}


def in_order(batch):
    """The messages of a batch in the order in which the scorer takes them."""
    return sorted(batch, key=lambda message: message[0] == "transactions")


@given(
    batches,
    st.lists(restarts, min_size=10, max_size=10),
    st.sampled_from([BATCH_MOST, 1000]),
    st.sampled_from([2, 99]),
)
@settings(max_examples=120)
def test_any_disorder_gives_exactly_the_oracles_entries_and_history(stream, hows, remembered, waiting_most):
    with tempfile.TemporaryDirectory() as folder, patch.object(states, "WAITING_MOST", waiting_most):
        scorers = Scorers(remembered, Path(folder))
        for batch, how in zip(stream, hows, strict=False):
            scorers.take(batch)
            scorers.restart(how)
    messages = list(itertools.chain.from_iterable(in_order(batch) for batch in stream))
    wanted, history = intake(messages, remembered=remembered, waiting_most=waiting_most, now=NOW)
    for entry in wanted:
        if "row" in entry:
            entry["history"] = tuple(history[entry.pop("row")].tolist())
    assert [said(entry) for entry in scorers.journal[1:]] == wanted


@given(batches, st.data())
@settings(max_examples=60)
def test_how_messages_are_cut_into_batches_changes_no_history_as_long_as_the_topics_keep_step(stream, data):
    """One batch a message against batches of any size that do not bring a label before what was sent before it."""
    messages = list(itertools.chain.from_iterable(in_order(batch) for batch in stream))
    runs = [list(run) for _, run in itertools.groupby(messages, key=lambda message: message[0])]
    cut = []
    for run in runs:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(run)), max_size=3)) | {0, len(run)})
        cut += [run[begin:end] for begin, end in itertools.pairwise(cuts)]
    one_by_one, in_batches = Scorers(1000, None), Scorers(1000, None)
    for message in messages:
        one_by_one.take([message])
    for batch in cut:
        in_batches.take(batch)
    assert one_by_one.journal == in_batches.journal
    assert differences(one_by_one.state, in_batches.state) == []


def measure(decision, name):
    return decision.history[HISTORY_NAMES.index(name)]


@pytest.fixture
def scorers(tmp_path):
    return Scorers(1000, tmp_path)


def entries(scorers, *batch):
    begun = len(scorers.journal)
    scorers.take(batch)
    return scorers.journal[begun:]


def pay(number, **changes):
    return "transactions", payment(number, **changes)


def tell(number, of, verdict="fraud", **changes):
    return "labels", told(number, of, verdict, **changes)


@pytest.mark.parametrize("how", ["none", "fold", "snapshot", "tail"])
def test_a_fraud_label_that_overtook_its_transaction_counts_right_after_it(scorers, how):
    (early,) = entries(scorers, tell(1, 1, known_at=NOW - 5))
    assert (early.effect, early.account_id) == ("waiting", "")
    scorers.restart(how)
    first, label, second = entries(scorers, pay(1, occurred_at=NOW), pay(4, occurred_at=NOW))
    assert (label.effect, label.source, label.label) == ("counted", None, early.label)
    assert (label.account_id, label.merchant_id) == ("a1", "m1")
    assert [measure(each, "account_fraud_count_30d") for each in (first, second)] == [0, 1]
    assert [each.effect for each in entries(scorers, tell(2, 1))] == ["repeated"]
    scorers.restart("fold")


@pytest.mark.parametrize("how", ["none", "fold", "snapshot", "tail"])
def test_labels_mark_the_transactions_they_speak_of_in_any_order_and_over_restarts(scorers, how):
    days = {
        number: NOW - age * DAY_US for number, age in ((0, 30), (2, 20), (4, 9), (6, 8), (8, 3))
    }  # all of merchant m0
    scorers.take([pay(number, occurred_at=at) for number, at in days.items() if number != 4])
    applied = entries(scorers, tell(1, 2), tell(2, 4), tell(3, 6))
    assert [(each.effect, each.occurred_at) for each in applied] == [
        ("counted", days[2]), ("waiting", 0), ("counted", days[6]),
    ]  # fmt: skip
    scorers.restart(how)
    _, late, found = entries(scorers, pay(4, occurred_at=days[4]), pay(10, occurred_at=NOW))
    assert (late.effect, late.occurred_at) == ("counted", days[4])
    names = ("merchant_fraud_run_7d", "merchant_seconds_since_fraud_run_7d")
    assert [measure(found, name) for name in names] == [3, 20 * 86_400], "t0 was genuine, and t8 is too young to say"
    scorers.restart(how)


def test_backlogs_of_both_topics_lose_no_label(scorers):
    """After an outage the first batch may hold every label and the first few transactions."""
    told_early = [tell(n, n) for n in range(6)]
    scorers.take([*told_early, *(pay(n, occurred_at=NOW) for n in range(3))])
    scorers.take([pay(n, occurred_at=NOW) for n in range(3, 6)])
    (last,) = entries(scorers, pay(9, occurred_at=NOW))
    assert measure(last, "account_fraud_count_30d") == 2  # t0, t3 and t6 are of the account a0; t6 was never sent


def test_the_verdicts_of_one_transaction_keep_the_first_fraud_in_history_whatever_follows(scorers):
    scorers.take([pay(1, occurred_at=NOW)])
    verdicts = ["genuine", "fraud", "genuine", "fraud", "unsure"]
    found = entries(scorers, *(tell(n, 1, verdict) for n, verdict in enumerate(verdicts)))
    assert [each.effect for each in found] == ["not_fraud", "counted", "not_fraud", "repeated", "not_fraud"]
    (after,) = entries(scorers, pay(4, occurred_at=NOW))
    assert measure(after, "account_fraud_count_30d") == 1


def test_a_clock_a_day_ahead_is_taken_and_one_microsecond_more_is_not(scorers):
    ahead, beyond, now = entries(
        scorers, pay(1, occurred_at=NOW + DAY_US), pay(4, occurred_at=NOW + DAY_US + 1), pay(7, occurred_at=NOW)
    )
    assert [type(each) for each in (ahead, beyond, now)] == [Decision, Rejected, Decision]
    assert measure(now, "account_count_30d") == 0, "what lies ahead is not in a window yet"
    assert measure(now, "account_seconds_since") == 0, "but it is the newest of the account"
    assert measure(now, "account_merchant_ever") == 1


def test_a_transaction_days_late_finds_its_windows_as_they_were(scorers):
    scorers.take([pay(1, occurred_at=NOW - 6 * DAY_US)])
    scorers.take([pay(4, occurred_at=NOW)])
    (late,) = entries(scorers, pay(7, occurred_at=NOW - 5 * DAY_US))
    assert (measure(late, "account_count_1d"), measure(late, "account_count_7d")) == (0, 1)
    assert measure(late, "account_seconds_since") == 0
    (after,) = entries(scorers, pay(10, occurred_at=NOW + 1))
    assert measure(after, "account_count_7d") == 3, "what came late counts for those after it"


def test_transactions_of_one_moment_see_those_that_came_first(scorers):
    found = entries(scorers, *(pay(n, occurred_at=NOW) for n in (1, 4, 7)))
    assert [measure(each, "account_count_10m") for each in found] == [0, 1, 2]
