"""The decision API in this process: its real parts on a real database, over a stand-in for Kafka and the scorer."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from kafka import TopicPartition

from app.api.board import Board, Journaled
from app.api.core import Decisions
from app.api.deadline import Deadlines
from app.api.gate import Gate
from app.api.keyring import Keyring
from app.api.lookup import Lookup
from app.api.rates import Rates
from observe.metrics import Metrics
from plumbline import journal
from plumbline.decision import Decision, Outcome, Score, Source
from plumbline.errors import NotTaken
from plumbline.transaction import Transaction, parse
from store.engine import engine_at, transaction
from store.keys import SCOPES, add_key, text_of
from store.schema import migrate
from tests.fakes import NOW

SECRET = "s" * 43


def decision_on(paid: Transaction, offset: int) -> Decision:
    """A decision as a scorer might journal it."""
    return Decision(
        transaction=paid, source=Source("transactions", 0, offset, NOW // 1000), history=(1, 2), fingerprint="f",
        scores=(Score(1, 0.25),), policy_version="p", outcome=Outcome.APPROVE, reasons=(), decided_at=NOW,
    )  # fmt: skip


@dataclass
class FakeKafka:
    """Takes transactions and, where it `decides`, journals a decision on each at once; `down`, it takes nothing."""

    board: Board
    decides: bool = True
    down: bool = False
    silent: bool = False
    taken: list[bytes] = field(default_factory=list)

    def send(self, key, value, taken, failed):
        if self.down:
            raise NotTaken("Kafka does not answer at nowhere: nothing was written, try again in a moment")
        self.taken.append(value)
        if self.silent:
            return
        paid = parse(value, NOW)
        assert key == paid.account_id.encode()
        taken(0, len(self.taken) - 1)
        if self.decides:
            self.decide(paid.transaction_id)

    def decide(self, transaction_id: str) -> bytes:
        """Journal the decision on something that was taken."""
        offset, paid = next(
            (n, each) for n, raw in enumerate(self.taken) if (each := parse(raw, NOW)).transaction_id == transaction_id
        )
        raw = journal.encode(decision_on(paid, offset))
        self.board.decided(transaction_id, Journaled(offset, raw))
        return raw


class ApiParts:
    """Everything that the transports stand on; `key` opens all scopes."""

    def __init__(self, folder: Path, requests_per_second: int = 100_000, callers_max: int = 64) -> None:
        import sqlalchemy as sa

        self.engine = engine_at(sa.URL.create("sqlite", database=str(folder / "plumbline.db")))
        migrate(self.engine)
        self.metrics = Metrics()
        self.board = Board(1000)
        self.kafka = FakeKafka(self.board)
        self.lookup = Lookup(self.board, self.engine, "127.0.0.1:1", TopicPartition("decisions", 0))
        self.keyring = Keyring(self.engine, lambda: NOW)
        self.decisions = Decisions(
            self.board, self.kafka, self.lookup, self.metrics, lambda: NOW, fallback=Outcome.REVIEW,
            callers_max=callers_max,
        )  # fmt: skip
        self.gate = Gate(self.keyring, Rates(requests_per_second))
        self.deadlines = Deadlines(300, 2000)
        self.key = self.add_key("all", tuple(SCOPES))

    def add_key(self, name: str, scopes: tuple[str, ...]) -> str:
        """A new key's text, known to the keyring."""
        key_id = f"{abs(hash(name)) % 16**12:012x}"
        with transaction(self.engine) as session:
            add_key(
                session, name=name, scopes=scopes, key_id=key_id, secret=SECRET, created_by="test", created_at=NOW
            )  # fmt: skip
        self.keyring.refresh()
        return text_of(key_id, SECRET)

    def app(self, document: bytes = b"{}", unready=lambda: ""):
        """The HTTP application."""
        from app.api.http import create_api

        return create_api(
            self.decisions, self.gate, self.deadlines, self.metrics, document, unready
        )  # fmt: skip

    def counted(self, name: str, *labels: str) -> float:
        """A counter's value."""
        return self.metrics.counter(name).labels(*labels)._value.get()

    def close(self) -> None:
        self.lookup.close()
        self.engine.dispose()


def parts_of(raw: bytes) -> dict[str, msgspec.Raw]:
    """The fields of an answer, each as its own bytes."""
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])


def elapsed(begun: float) -> float:
    """Seconds since a monotonic moment."""
    return time.monotonic() - begun
