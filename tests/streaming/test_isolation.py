"""An unexpected error in one message costs that message alone; one that is no message's fault costs none."""

import pytest
from structlog.testing import capture_logs

from observe.metrics import Metrics
from plumbline.decision import Decision
from plumbline.journal import Rejected
from plumbline.policy import DEFAULT_POLICY
from streaming import batch as module
from streaming.arrivals import arrivals
from streaming.batch import Batch, process
from streaming.counts import Counts
from streaming.isolation import UNPROCESSABLE_MAX, Isolation, ProcessingFailed, decides_made_up_payment
from streaming.known import Known
from streaming.rejections import LEAST_MESSAGES, WINDOW_SECONDS, Rejections
from streaming.state import State
from tests.fakes import NOW, Clock, FakeClient, Numbered, fake_model, payment, raw

BAD = "t13"


class Defect(Exception):
    """A fault of our own."""


@pytest.fixture
def defect(monkeypatch):
    """Code that ends at one transaction."""
    sound = arrivals

    def broken(rows):
        if any(getattr(each, "transaction_id", "") == BAD for each in rows):
            raise Defect(BAD)
        return sound(rows)

    monkeypatch.setattr(module, "arrivals", broken)


def life(isolation, journal, messages, model, most=8):
    """One life of a leader, from the fold of the journal on: until all is journaled, or an unexpected error."""
    state = State(Known(1000))
    state.activate(DEFAULT_POLICY)
    state.fold(list(enumerate(journal)))
    while left := messages[state.positions.get(("transactions", 0), 0) :][:most]:
        parts = [[each] for each in left] if isolation.alone([each.place for each in left]) else [left]
        for part in parts:
            try:
                batch = process(
                    state, model, transaction=part, now_us=NOW, unprocessable=isolation.unprocessable
                )  # fmt: skip
            except Exception as error:
                raise ProcessingFailed([each.place for each in part]) from error
            journal += batch.entries


def test_a_message_that_ends_our_code_is_rejected_alone_after_two_starts(defect):
    isolation, journal, model = Isolation(), [], fake_model()
    topic = Numbered("transactions")
    messages = [topic.message(raw(payment(n))) for n in range(30)]
    starts = 0
    while True:
        try:
            life(isolation, journal, messages, model)
            break
        except ProcessingFailed as failure:
            starts += 1
            isolation.failed(failure, lambda: decides_made_up_payment(model, NOW))
    assert starts == 2
    assert [each.source.offset for each in journal] == list(range(30))
    (rejected,) = [each for each in journal if isinstance(each, Rejected)]
    assert (rejected.kind, rejected.source.offset) == ("unprocessable", 13)
    assert "message transactions-0 at offset 13" in rejected.error
    assert sum(isinstance(each, Decision) for each in journal) == 29
    metrics = Metrics()
    Counts(metrics).took(Batch(entries=[rejected]), 0.0)
    assert b"plumbline_unprocessable_total 1.0" in metrics.text()


def test_where_a_made_up_payment_fails_too_no_message_is_blamed(monkeypatch):
    isolation, model = Isolation(), fake_model()
    monkeypatch.setattr(module, "arrivals", lambda rows: {}[len(rows)])
    messages = [Numbered("transactions").message(raw(payment(1)))]
    with pytest.raises(ProcessingFailed) as failure:
        life(isolation, [], messages, model)
    isolation.failed(failure.value, lambda: decides_made_up_payment(model, NOW))
    with pytest.raises(ProcessingFailed) as again:
        life(isolation, [], messages, model)
    with pytest.raises(KeyError):
        isolation.failed(again.value, lambda: decides_made_up_payment(model, NOW))
    assert isolation.unprocessable == set()


def test_a_model_that_is_down_is_no_fault_of_the_code():
    client = FakeClient()
    client.down = True
    assert decides_made_up_payment(fake_model(client, Clock()), NOW)


def test_too_many_of_them_end_the_scorer():
    isolation = Isolation()
    for n in range(UNPROCESSABLE_MAX + 1):
        failure = ProcessingFailed([("transactions", 0, n)])
        failure.__cause__ = Defect(str(n))
        isolation.failed(failure, lambda: True)
        if n < UNPROCESSABLE_MAX:
            isolation.failed(failure, lambda: True)
    with pytest.raises(Defect):
        isolation.failed(failure, lambda: True)


def test_a_share_of_rejections_above_the_limit_is_a_metric_and_one_line_in_the_log():
    metrics = Metrics()
    rejections = Rejections(metrics, 0.05)
    topic = Numbered("transactions")
    state = State(Known(1000))
    state.activate(DEFAULT_POLICY)
    mixed = [topic.message(raw(payment(n)) if n % 10 else b"junk") for n in range(2 * LEAST_MESSAGES)]
    entries = process(state, fake_model(), transaction=mixed, now_us=NOW).entries
    with capture_logs() as logged:
        rejections.took(entries[: LEAST_MESSAGES - 1], 0.0)
        assert logged == []
        rejections.took(entries[LEAST_MESSAGES - 1 :], 1.0)
        rejections.took(entries, 2.0)
    assert [each["event"] for each in logged] == ["many messages are rejected"]
    assert b"plumbline_rejected_share 0.1" in metrics.text()
    rejections.look(2.0 + WINDOW_SECONDS)
    assert b"plumbline_rejected_share 0.0" in metrics.text()
