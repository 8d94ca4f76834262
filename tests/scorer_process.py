"""`plumbline score` as a real process, the stream that feeds it, and the journal as its readers see it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import TopicPartition

from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import DeadLetter
from plumbline.names import Topic
from plumbline.times import ANY_AGE_DAYS
from streaming.kafka import close_producer, idempotent_producer, reader
from streaming.known import Known
from streaming.records import present_end
from streaming.state import State

PATIENCE_SECONDS = 90.0


ANY_AGE = {"PLUMBLINE_MESSAGE_MAX_AGE_DAYS": str(ANY_AGE_DAYS)}
"""Tests send payments of fixed days, which a broker takes in whenever the test runs."""


class ScorerProcess:
    """A scorer that tells of its states; `environ` holds its settings."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self.log = log
        self.states: list[dict[str, Any]] = []
        self._told = threading.Condition()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plumbline.cli.main", "score", "--json"],
                env=kept | ANY_AGE | environ, stdout=subprocess.PIPE, stderr=output, text=True,
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._tell(json.loads(line))
        self._tell({"state": "ended"})

    def _tell(self, state: dict[str, Any]) -> None:
        with self._told:
            self.states.append(state)
            self._told.notify_all()

    def wait_for(self, state: str, after: int = 0) -> dict[str, Any]:
        """The first time it told of this state, among all but the first `after` times that it told of anything."""

        def found() -> dict[str, Any] | None:
            return next((each for each in self.states[after:] if each["state"] in (state, "ended")), None)

        with self._told:
            self._told.wait_for(found, PATIENCE_SECONDS)
            told = found()
        if told is None or told["state"] != state:
            raise AssertionError(f"no {state!r} in {self.states}; the log ends: {self.log.read_text()[-3000:]}")
        return told

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM; returns its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """End it however it is, when a test is over."""
        if self.process.poll() is None:
            self.kill()


class Stream:
    """Messages to the scorer's topics; remembers how many each partition took."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = idempotent_producer(bootstrap)
        self._prefix = prefix
        self.sent: dict[tuple[str, int], int] = {}

    def send(self, topic: Topic, messages: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Send (key, value) messages, and return when the broker has them."""
        name = self._prefix + topic.value
        for each in [self._producer.send(name, value, key=key) for key, value in messages]:
            taken = each.get(timeout=PATIENCE_SECONDS)
            place = (name, taken.partition)
            self.sent[place] = max(self.sent.get(place, 0), taken.offset + 1)

    def close(self) -> None:
        """Let the producer go."""
        close_producer(self._producer, 1.0)


class Journal:
    """The journal from its first entry, as a reader of committed records sees it."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
        self._consumer = reader(bootstrap, [self._partition], most_records=5000)
        self.entries: list[tuple[int, journal.Entry]] = []

    def until(self, true: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Read on until something is true of the entries."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what}: not within {seconds} s; {len(self.entries)} entries so far"
            for records in self._consumer.poll(timeout_ms=200).values():
                self.entries += [(each.offset, journal.decode(each.value)) for each in records]

    def until_answered(self, stream: Stream, seconds: float = PATIENCE_SECONDS) -> None:
        """Read on until every message of the stream has an entry."""
        self.until(lambda: sum(stream.sent.values()) <= len(self.sources()), "every message is answered", seconds)

    def until_end(self) -> None:
        """Read on to where the journal ends now."""
        end = present_end(self._bootstrap, self._partition.topic.removesuffix(Topic.DECISIONS.value))
        self.until(lambda: self._consumer.position(self._partition) >= end, f"entries before {end}")

    def until_more(self, count: int = 1) -> None:
        """Read on until there are so many entries more than now."""
        wanted = len(self.entries) + count
        self.until(lambda: len(self.entries) >= wanted, f"{count} more entries")

    def sources(self) -> list[tuple[str, int, int]]:
        """Topic, partition and offset of every message that has an entry, in the journal's order."""
        found = [entry.source for _, entry in self.entries]
        return [(each.topic, each.partition, each.offset) for each in found if each is not None]

    def decisions(self) -> list[Decision]:
        """All decisions."""
        return [entry for _, entry in self.entries if isinstance(entry, Decision)]

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def check_conserved(found: Journal, stream: Stream) -> None:
    """Every message once, in its partition's order; no id decided twice; every history is what a fold computes."""
    sources = found.sources()
    for (topic, partition), count in stream.sent.items():
        assert [at for name, number, at in sources if (name, number) == (topic, partition)] == list(range(count))
    assert len(sources) == sum(stream.sent.values())
    decided = [each.transaction.transaction_id for each in found.decisions()]
    assert len(set(decided)) == len(decided)
    numbers = [number for number, _ in found.entries]
    assert numbers == sorted(set(numbers))
    State(Known(1_000_000)).fold(found.entries)


def dead_letters(bootstrap: str, prefix: str, count: int) -> list[DeadLetter]:
    """The first so many dead letters."""
    consumer = reader(bootstrap, [TopicPartition(prefix + Topic.DEAD_LETTER.value, 0)])
    found: list[DeadLetter] = []
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        while len(found) < count and time.monotonic() < end:
            for records in consumer.poll(timeout_ms=200).values():
                found += [msgspec.json.decode(each.value, type=DeadLetter) for each in records]
    finally:
        consumer.close()
    return found
