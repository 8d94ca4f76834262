"""The newest decisions of the journal, from the broker or from a kept journal's files, as rows of a declaration."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from kafka import TopicPartition

from archive.kept import KeptJournal
from features.grammar import Declaration
from plumbline import journal
from plumbline.decision import Decision
from plumbline.names import Topic
from plumbline.transaction import DAY_US, Transaction
from streaming.kafka import end_offsets, reaching, reader

POLL_MS: Final = 200
CHUNK_ENTRIES: Final = 2048
ABSENT_SHARE: Final = 0.3
"""Of the values of a made history, those that are 0 as where nothing came before."""
MADE_AT: Final = 1_767_225_600_000_000
"""2026-01-01: the made payments' first moment, microseconds since 1970 UTC."""


class Row(msgspec.Struct, frozen=True):
    """A transaction, its history in a declaration's order, and whether that was taken over from another one."""

    transaction: Transaction
    history: tuple[int, ...]
    carried_over: bool


def rows_of(
    decisions: Iterable[Decision], declaration: Declaration, measures: Mapping[str, Sequence[str]]
) -> list[Row]:
    """Rows of a declaration from journaled decisions; measures: names of each known declaration, by fingerprint.

    Without a journaled history of the declaration, measures of the same name are taken over, and others are 0: the gate
    asks whether two computers compute alike, for which any history will do.
    """
    found = []
    for each in decisions:
        history = each.history_of(declaration.fingerprint)
        if history is not None and len(history) == len(declaration.history_names):
            found.append(Row(each.transaction, history, False))
        elif len(names := measures.get(each.fingerprint, ())) == len(each.history) > 0:
            known = dict(zip(names, each.history, strict=True))
            history = tuple(known.get(name, 0) for name in declaration.history_names)
            found.append(Row(each.transaction, history, True))
    return found


def made_rows(declaration: Declaration, count: int) -> list[Row]:
    """Rows that nobody paid, the same in every process: for the first version of all, before there is any payment.

    Amounts, places and histories lie over many orders of magnitude, so that every part of the graph has work.
    """
    draw = np.random.default_rng(0)
    history = (10.0 ** draw.uniform(0, 9, (count, len(declaration.history_names)))).astype(np.int64)
    history[draw.random(history.shape) < ABSENT_SHARE] = 0
    amounts = (10.0 ** draw.uniform(0, 7, count)).astype(np.int64)
    return [
        Row(
            Transaction(
                transaction_id=f"made-{n}", occurred_at=MADE_AT + int(draw.integers(0, 28 * DAY_US)),
                account_id=f"account-{n % 97}", merchant_id=f"merchant-{n % 31}", device_id=f"device-{n % 53}",
                amount_minor=int(amounts[n]), currency=("EUR", "USD", "JPY")[n % 3], channel=("pos", "ecom")[n % 2],
                mcc=("5411", "5812", "7995", "4829")[n % 4], country=("DE", "FR", "US", "ZZ")[n % 4],
                latitude_e6=int(draw.integers(-90_000_000, 90_000_000)),
                longitude_e6=int(draw.integers(-180_000_000, 180_000_000)),
            ),
            tuple(history[n].tolist()),
            True,
        )
        for n in range(count)
    ]  # fmt: skip


def newest_decisions(bootstrap: str, prefix: str, count: int) -> list[Decision]:
    """At most `count` of the newest decisions, oldest first. Raises BrokerUnavailable, NotFound."""
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    back = 2 * count
    while True:  # labels, other entries and transactions' marks lie between decisions, nobody knows how many
        first = max(0, end - back)
        found = _decisions(bootstrap, partition, first, end, count)
        if len(found) == count or first == 0:
            return list(found)
        back *= 4


def kept_decisions(folder: Path, count: int) -> list[Decision]:
    """The same from a kept journal. Raises InvalidArchive for a block that was changed."""
    found: deque[Decision] = deque(maxlen=count)
    for chunk in KeptJournal(folder).chunks():
        entries = (journal.decode(each.value) for each in chunk if each.value is not None)
        found.extend(each for each in entries if isinstance(each, Decision))
    return list(found)


def _decisions(bootstrap: str, partition: TopicPartition, first: int, end: int, count: int) -> deque[Decision]:
    found: deque[Decision] = deque(maxlen=count)
    if first >= end:
        return found
    with closing(reader(bootstrap, {partition: first}, most_records=CHUNK_ENTRIES)) as consumer, reaching(bootstrap):
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                entries = (journal.decode(each.value) for each in records if each.offset < end)
                found.extend(each for each in entries if isinstance(each, Decision))
    return found
