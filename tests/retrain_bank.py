"""A small bank for the nightly retrain's tests: an archive, and a journal kept in files, as a scorer would write it.

There is no broker and no process: messages are decided by the scorer's own fold, at a clock that the test sets.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from archive.kept import Kept, append, nothing_kept, read_kept, write_manifest
from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, Archive, write_archive
from archive.record import Record
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.sweep import History
from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Entry
from plumbline.policy import Policy
from plumbline.transaction import DAY_US
from streaming.backfill import fold_archive
from streaming.batch import process
from streaming.known import Known
from streaming.state import State
from tests.fakes import FakeClient, Numbered, fake_model, raw

FIRST = 18_000
"""The first day of the bank, as a number of days since 1970."""


def paid(number: int, at_us: int, rng: random.Random, **changes: Any) -> dict[str, Any]:
    """A payment as JSON fields, of one of a few accounts."""
    return {
        "transaction_id": f"t{number}", "occurred_at": at_us, "account_id": f"a{rng.randrange(12)}",
        "merchant_id": f"m{rng.randrange(6)}", "device_id": rng.choice(["", "d1", "d2", "d3"]),
        "amount_minor": rng.randrange(1, 50_000), "currency": rng.choice(["EUR", "GBP"]),
        "channel": rng.choice(["pos", "ecom"]), "mcc": rng.choice(["5411", "5812"]),
        "country": rng.choice(["DE", "FR"]), "latitude_e6": None, "longitude_e6": None,
    } | changes  # fmt: skip


def told(number: int, of: str, known_at: int, verdict: str = "fraud", source: str = "chargeback", by: str = "") -> Any:
    """A label as JSON fields."""
    return {
        "label_id": f"l{number}", "transaction_id": of, "verdict": verdict, "source": source, "known_at": known_at,
        "by": by, "note": "",
    }  # fmt: skip


def archive_of(path: Path, payments: list[dict[str, Any]], labels: list[dict[str, Any]]) -> Archive:
    """An archive of payments in order of time, and labels about them."""
    parties = {each["transaction_id"]: each for each in payments}
    rows = [
        {name: ({**parties.get(each["transaction_id"], {}), **each}).get(name, "x") for name in LABEL_SCHEMA.names}
        for each in labels
    ]
    return write_archive(
        path,
        [pa.Table.from_pylist(payments, schema=TRANSACTION_SCHEMA)],
        pa.Table.from_pylist(rows, schema=LABEL_SCHEMA),
        "made for a test",
    )


@dataclass
class KeptBank:
    """A journal in the making; every `decide` is one micro-batch, every `keep` one block of the kept journal."""

    folder: Path
    archive: Archive | None = None
    declaration: Declaration = DECLARATION
    entries: list[tuple[int, Entry]] = field(default_factory=list)
    kept: int = 0

    def __post_init__(self) -> None:
        histories = {self.declaration.fingerprint: History(self.declaration)}
        self.state = State(Known(100_000), histories=histories)
        if self.archive is not None:
            fold_archive(self.state, self.archive, None, lambda _rows: None)
        self.state.policy = Policy(version="p1", review_at=0.9, decline_at=0.97)
        self.model = fake_model(FakeClient())
        self.payments, self.labels = Numbered("transactions"), Numbered("labels")
        self._next = 0

    def decide(self, now_us: int, payments: list[dict[str, Any]], labels: list[dict[str, Any]] | None = None) -> None:
        """Take messages at a moment, labels first, as the scorer does."""
        batch = process(
            self.state, self.model,
            label=[self.labels.message(raw(each)) for each in labels or []],
            transaction=[self.payments.message(raw(each)) for each in payments],
            now_us=now_us,
        )  # fmt: skip
        for entry in batch.entries:
            self.entries.append((self._next, entry))
            self._next += 1
        self._next += 1  # a transaction's marker takes a place

    def keep(self) -> Kept:
        """Keep what was journaled since the last time, as one block."""
        self.folder.mkdir(exist_ok=True)
        if (self.folder / "journal.json").exists():
            before = read_kept(self.folder)
        else:
            digest = "" if self.archive is None else self.archive.manifest.digest
            before = nothing_kept("", digest, None)
            write_manifest(self.folder, before)
        new = [(sequence, entry) for sequence, entry in self.entries if sequence >= before.stop]
        records = [
            Record(sequence, self._ms(entry), journal.encode(entry), *self._source(entry)) for sequence, entry in new
        ]
        return append(self.folder, before, before.stop, self._next, [records])

    @staticmethod
    def _ms(entry: Entry) -> int:
        return (entry.decided_at if isinstance(entry, Decision) else entry.journaled_at) // 1000

    @staticmethod
    def _source(entry: Entry) -> tuple[str, int, int]:
        source = entry.source
        return ("", 0, -1) if source is None else (source.topic, source.partition, source.offset)


def played(bank: KeptBank, days: range, rng: random.Random, *, a_day: int = 20, first: int = 0, delay: int = 3) -> int:
    """Play days of payments into the bank: some late, one in ten fraud, told some days later; a block each day.

    Returns the number after the last payment.
    """
    number, waiting = first, []
    for day in days:
        midnight = (FIRST + day) * DAY_US
        for hour in range(4):
            now = midnight + (hour + 1) * DAY_US // 4 - 1
            payments = []
            for _ in range(a_day // 4):
                late = rng.randrange(2 * DAY_US) if rng.random() < 0.1 else 0
                at = now - rng.randrange(DAY_US // 4) - late
                payments.append(paid(number, at, rng))
                if rng.random() < 0.1:
                    waiting.append((now + delay * DAY_US, f"t{number}"))
                number += 1
            due = [each for each in waiting if each[0] <= now]
            waiting = [each for each in waiting if each[0] > now]
            bank.decide(now, payments, [told(number * 100 + n, of, at) for n, (at, of) in enumerate(due)])
        bank.keep()
    return number
