"""The board: one sender an id, everybody else waits; bounded memory; the first decision stands."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import TopicPartition

from app.api import board as boards
from app.api.board import Board, Journaled, Waiting
from app.api.following import Following
from app.api.keyring import Keyring
from plumbline.errors import NotTaken, TransactionRejected
from plumbline.transaction import parse
from tests.fakes import NOW, payment, raw


def paid(number, **changes):
    return parse(raw(payment(number, **changes)), NOW)


def test_of_all_who_claim_an_id_at_once_one_sends_and_all_are_woken():
    board = Board(10)
    ready = threading.Barrier(16)

    def claim(_):
        ready.wait()
        return board.claim(paid(1))

    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(claim, range(16)))
        assert [is_new for _, is_new in claims].count(True) == 1
        (waiting,) = {known for known, _ in claims}
        woken = [pool.submit(waiting.settled.wait, 10) for _ in range(8)]
        board.decided("t1", Journaled(5, b"{}"))
        assert all(each.result() for each in woken)
    assert waiting.found == Journaled(5, b"{}")
    assert board.claim(paid(1)) == (Journaled(5, b"{}"), False)
    assert not board.is_waiting("t1")


def test_the_first_decision_stands_and_the_oldest_is_forgotten():
    board = Board(3)
    for n in range(5):
        board.decided(f"t{n}", Journaled(n, b"%d" % n))
    board.decided("t4", Journaled(9, b"another"))
    assert [board.find(f"t{n}") for n in range(5)] == [None, None, *(Journaled(n, b"%d" % n) for n in (2, 3, 4))]


@pytest.mark.parametrize("first", ["acknowledged", "rejected"])
def test_a_rejection_finds_its_sender_whichever_of_the_two_is_known_first(first):
    board = Board(3)
    waiting, _ = board.claim(paid(1))
    steps = [lambda: board.taken(waiting, (0, 7)), lambda: board.rejected((0, 7), "why")]
    for step in steps if first == "acknowledged" else steps[::-1]:
        step()
    assert waiting.settled.is_set()
    assert isinstance(waiting.error, TransactionRejected)
    assert board.claim(paid(1))[1], "it may be sent again"


def test_what_failed_may_be_sent_again_and_does_not_touch_a_later_attempt():
    board = Board(3)
    waiting, _ = board.claim(paid(1))
    board.failed(waiting, NotTaken("no"))
    later, is_new = board.claim(paid(1))
    assert is_new
    board.failed(waiting, NotTaken("told twice"))
    assert board.claim(paid(1)) == (later, False)


def test_those_on_their_way_are_bounded(monkeypatch):
    monkeypatch.setattr(boards, "WAITING_MAX", 2)
    board = Board(3)
    for n in range(4):
        assert isinstance(board.claim(paid(n))[0], Waiting)
    assert [board.is_waiting(f"t{n}") for n in range(4)] == [False, False, True, True]
    board.conflicted("t3", 11)
    assert not board.is_waiting("t3")


class Stumbling(Following):
    """A reader that meets something nobody thought of, once, after it had caught up."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.attempts = 0
        self.again = threading.Event()

    def _follow(self):
        self.attempts += 1
        if self.attempts == 1:
            self.caught_up.set()
            raise ZeroDivisionError("nobody thought of it")
        self.unready_meanwhile = not self.caught_up.is_set()
        self.again.set()
        self._stop.wait()


def test_a_reader_that_meets_what_nobody_thought_of_says_it_is_not_ready_and_begins_again():
    following = Stumbling(Board(3), "127.0.0.1:1", "transactions", TopicPartition("decisions", 0), 10)
    following.start()
    try:
        assert following.again.wait(10)
        assert following.unready_meanwhile
    finally:
        following.close()


def test_a_keyring_outlives_what_nobody_thought_of():
    keyring = Keyring(None, lambda: NOW)  # no engine at all
    keyring._try_refresh()
    assert keyring._keys == {}
