"""A scorer as a thread on a real broker, with a fake model: a test can stop it at an exact place of its life."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka import TopicPartition

from observe.metrics import Metrics
from plumbline.journal import Entry
from plumbline.names import Topic
from plumbline.times import ANY_AGE_DAYS
from streaming.control import publish
from streaming.leading import Scoring
from streaming.model import Model
from streaming.scorer import run
from streaming.topics import ensure_topics
from tests.fakes import FakeClient, payment, raw
from tests.scorer_process import PATIENCE_SECONDS, Journal, Stream


def now_us() -> int:
    """This machine's clock."""
    return time.time_ns() // 1000


class ScorerThread:
    """`streaming.scorer.run` in a thread; `error` is what it ended with, `states` what it announced."""

    def __init__(self, scoring: Scoring, client: FakeClient) -> None:
        self.scoring, self.stop = scoring, threading.Event()
        self.states: list[tuple[str, int]] = []
        self.error: BaseException | None = None
        self.metrics = Metrics()
        self._client = client
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._told = threading.Condition()

    def _run(self) -> None:
        try:
            run(self.scoring, Model(self._client, now_us), self.metrics, now_us, self.stop, self._announce)
        except Exception as error:  # noqa: BLE001 - whatever ends it is what the test looks at
            self.error = error
        self._announce("ended", 0)

    def _announce(self, state: str, sequence: int) -> None:
        with self._told:
            self.states.append((state, sequence))
            self._told.notify_all()

    def start(self) -> "ScorerThread":
        """Begin."""
        self._thread.start()
        return self

    def until(self, state: str) -> "ScorerThread":
        """Wait until it announces a state, or has ended."""
        with self._told:
            found = self._told.wait_for(lambda: {state, "ended"} & {each for each, _ in self.states}, PATIENCE_SECONDS)
        assert found, f"not {state} within {PATIENCE_SECONDS} s: {self.states}"
        return self

    def leading(self) -> "ScorerThread":
        """Start, and wait until it leads."""
        self.start().until("leading")
        if self.error is not None:
            raise self.error
        assert "leading" in {each for each, _ in self.states}, self.states
        return self

    def ended(self) -> BaseException | None:
        """Wait until it ends by itself; returns what it ended with."""
        self.until("ended")
        self._thread.join()
        return self.error

    def leave(self) -> None:
        """End it as SIGTERM does. Raises what it ended with."""
        self.stop.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE_SECONDS)
            assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def crash(self) -> None:
        """End it, and leave no snapshot: what a SIGKILL leaves where snapshots are far apart."""
        self.leave()
        shutil.rmtree(self.scoring.snapshots)


class Installation:
    """Topics of its own on the broker, a folder, and the scorers that use both."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, partitions: int = 2) -> None:
        self.bootstrap, self.prefix, self.folder = bootstrap, prefix, folder
        self.client = FakeClient()
        self.paid = 0
        self.scorers: list[ScorerThread] = []
        ensure_topics(bootstrap, prefix, partitions)
        self.stream = Stream(bootstrap, prefix)

    @property
    def journal(self) -> TopicPartition:
        """The journal's partition."""
        return TopicPartition(self.topic(Topic.DECISIONS), 0)

    @property
    def snapshots(self) -> Path:
        """The folder of the scorers' snapshots."""
        return self.folder / "snapshots"

    def topic(self, topic: Topic) -> str:
        """A topic's name here."""
        return self.prefix + topic.value

    def scorer(self, **changes: Any) -> ScorerThread:
        """A scorer that is not started yet; changes: of its `Scoring`."""
        settings = {
            "bootstrap": self.bootstrap, "prefix": self.prefix, "snapshots": self.snapshots,
            "batch_max_transactions": 64, "snapshot_every_transactions": 1_000_000,
            "remembered_transactions": 1_000_000, "message_max_age_days": ANY_AGE_DAYS,
        }  # fmt: skip
        made = ScorerThread(Scoring(**(settings | changes)), self.client)
        self.scorers.append(made)
        return made

    def pay(self, count: int, first: int | None = None, **changes: Any) -> None:
        """So many payments of 40 accounts; first: the number of the first one, when some are sent again."""
        begin = self.paid if first is None else first
        if first is None:
            self.paid += count
        given = {"occurred_at": now_us()} | changes
        made = [
            payment(n, account_id=f"a{n % 40}", merchant_id=f"m{n % 7}") | given for n in range(begin, begin + count)
        ]
        self.stream.send(Topic.TRANSACTIONS, [(each["account_id"].encode(), raw(each)) for each in made])

    def publish(self, control: Any) -> None:
        """Send a control message."""
        offset = publish(self.bootstrap, self.prefix, control)
        self.stream.sent[self.topic(Topic.CONTROL), 0] = offset + 1

    def read(self, until: Callable[[Journal], None]) -> list[tuple[int, Entry]]:
        """The journal's entries with their sequence numbers, read until something is true of them."""
        found = Journal(self.bootstrap, self.prefix)
        try:
            until(found)
            return found.entries
        finally:
            found.close()

    def answered(self) -> list[tuple[int, Entry]]:
        """The journal, once it holds an entry of every message."""
        return self.read(lambda found: found.until_answered(self.stream))

    def entries(self) -> list[tuple[int, Entry]]:
        """The journal as it is."""
        return self.read(lambda found: found.until_end())

    def close(self) -> None:
        """End every scorer."""
        for each in self.scorers:
            each.stop.set()
        for each in self.scorers:
            if each._thread.ident is not None:
                each._thread.join(PATIENCE_SECONDS)
        self.stream.close()
