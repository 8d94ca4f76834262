"""A whole installation without processes: topics with real messages, and the journal that a scorer would write of them.

A test may falsify entries before they are written, and store them in SQL as the ledger does.
"""

import threading
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from app.ledger import Ledger
from app.ledger import run as run_ledger
from audit.counting import Balanced, count_once
from features.grammar import fields_of
from observe.metrics import Metrics
from plumbline import journal
from plumbline.decision import Source
from plumbline.journal import AssignmentApplied, ControlApplied, DeadLetter, Entry
from plumbline.policy import DEFAULT_POLICY
from store.engine import engine_at
from store.schema import migrate
from streaming.batch import Message, process
from streaming.kafka import close_producer, idempotent_producer, transactional_producer
from streaming.known import Known
from streaming.model import Model
from streaming.state import State
from tests.fakes import NOW, Clock, fake_model
from tests.journal_writer import JournalWriter, read_topic

SOURCES = ("control", "labels", "transactions")


class Bank:
    """Topics with messages of every fate, and a journal that a test may falsify before it is written."""

    def __init__(
        self, bootstrap: str, prefix: str, folder: Path, model: Model | None = None, state: State | None = None
    ) -> None:
        self.bootstrap, self.prefix, self.folder = bootstrap, prefix, folder
        self.writer = JournalWriter(bootstrap, prefix)
        self.model = model or fake_model()
        self.state = state or State(Known(10_000))
        if self.state.policy is None:
            self.writer.write(beginning(self.state))
        self.taken: dict[str, int] = {}
        self.journaled: list[Entry] = []
        self.engine = engine_at(sa.URL.create("sqlite", database=str(folder / "plumbline.db")))
        migrate(self.engine)

    def send(self, topic: str, messages: Iterable[bytes]) -> None:
        """Send messages, and return when the broker has them."""
        producer = idempotent_producer(self.bootstrap)
        for each in [producer.send(self.prefix + topic, each, key=b"key") for each in messages]:
            each.get(timeout=30)
        close_producer(producer, 5)

    def send_in_transactions(self, messages: Iterable[bytes]) -> None:
        """Each in its own transaction, after one that is given up: both leave places without a message."""
        producer = transactional_producer(self.bootstrap, f"{self.prefix}platform", 30_000)
        for each in messages:
            for kept in (False, True):
                producer.begin_transaction()
                producer.send(self.prefix + "transactions", each)
                producer.flush()
                producer.commit_transaction() if kept else producer.abort_transaction()
        producer.close()

    def entries(self) -> tuple[list[Entry], list[DeadLetter]]:
        """The entries and dead letters for all that came since the last time, as a scorer would write them."""
        found = {
            name: [
                Message(Source(each.topic, each.partition, each.offset, each.timestamp), each.value)
                for each in read_topic(self.bootstrap, self.prefix + name)
                if each.offset >= self.taken.get(name, 0)
            ]
            for name in SOURCES
        }
        self.taken |= {name: each[-1].source.offset + 1 for name, each in found.items() if each}
        batch = process(
            self.state, self.model, control=found["control"], label=found["labels"],
            transaction=found["transactions"], now_us=NOW,
        )  # fmt: skip
        return batch.entries, batch.dead_letters

    def write(self, entries: list[Entry], letters: list[DeadLetter]) -> None:
        """Journal entries, and put dead letters beside them."""
        self.writer.write(entries)
        self.send("transactions.dead-letter", [journal.encode(each) for each in letters])

    def store(self) -> None:
        """As the ledger does, up to the journal's end."""
        run_ledger(
            Ledger(self.engine, self.bootstrap, self.prefix, threading.Event(), Metrics(), lambda: NOW), once=True
        )

    def count(self) -> Balanced:
        """Conservation, SQL's rows included."""
        return count_once(self.bootstrap, self.prefix, self.engine, lambda: NOW // 1000)

    def close(self) -> None:
        """Let everything go."""
        self.writer.close()
        self.engine.dispose()


def beginning(state: State) -> list[Entry]:
    """The first entries of a journal, as a first start writes them; the state takes their policy."""
    state.policy = DEFAULT_POLICY
    declarations = {name: fields_of(history.declaration) for name, history in state.histories.items()}
    return [
        AssignmentApplied(assignment=None, fingerprints=(), declarations=declarations, source=None, journaled_at=NOW),
        ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW),
    ]


def model_in_process(folder: Path) -> Model:
    """The version in a folder, loaded in this process, as a scorer's client."""
    from training.evaluate import load_version
    from training.in_process import InProcess

    return Model(InProcess(load_version(folder), int(folder.name)), Clock().monotonic)
