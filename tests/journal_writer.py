"""A journal for the ledger's tests: written to a real broker in transactions, and what SQL should hold of it.

`expected` goes from the raw JSON straight to rows, by a way of its own, so that it can judge `app.entries`.
"""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from plumbline import journal
from plumbline.decision import MODEL_UNAVAILABLE, Decision, Outcome, Reason, Score, Source
from plumbline.label import Label
from plumbline.policy import Policy
from plumbline.transaction import Transaction
from store.tables import Alert, Base
from streaming.kafka import end_offsets, partitions, reader, transactional_producer
from streaming.topics import ensure_topics

NOW = 1_700_000_000_000_000
FROM_JOURNAL = (
    "decisions",
    "alerts",
    "labels",
    "conflicts",
    "rejected",
    "policies",
    "assignments",
    "tallies",
    "shadow_scores",
)


def entries(count: int, seed: int) -> Iterator[journal.Entry]:
    """A plausible journal: mostly decisions, among them all other kinds of entry; ids differ between seeds."""
    return itertools.islice(_entries(seed), count)


def _entries(seed: int) -> Iterator[journal.Entry]:
    rng = random.Random(seed)
    decided: list[Transaction] = []
    waiting: dict[str, Label] = {}
    for n in itertools.count():
        source = Source("transactions", 0, n, NOW // 1000 + n)
        kind = rng.choices(["decision", "label", "conflict", "rejected", "control", "answered"], [88, 5, 2, 2, 1, 2])[0]
        if kind == "decision" or not decided:
            decided.append(_transaction(f"tx_{seed}_{n}", rng))
            yield _decision(decided[-1], source, rng)
            if (label := waiting.pop(decided[-1].transaction_id, None)) is not None:
                yield _counted_late(label, decided[-1])
        elif kind == "label":
            told = rng.choice(decided)
            early = rng.random() < 0.2  # it overtook its transaction
            label = Label(
                label_id=f"label_{seed}_{n}",
                transaction_id=f"tx_{seed}_{n + 1}" if early else told.transaction_id,
                verdict=rng.choice(["fraud", "genuine", "unsure"]),
                source=rng.choice(["analyst", "chargeback"]),
                known_at=NOW + n,
                by="ada",
                note="line\nbreak, 汉字, NUL \0 and all",
            )
            waits = early and label.verdict == "fraud"
            if waits:
                waiting[label.transaction_id] = label
            yield journal.LabelApplied(
                label=label,
                source=source,
                effect="waiting" if waits else "unknown_transaction" if early else "counted",
                account_id="" if early else told.account_id,
                merchant_id="" if early else told.merchant_id,
                occurred_at=0 if early else told.occurred_at,
                journaled_at=NOW + n,
            )
        elif kind == "conflict":
            again = rng.choice(decided)
            yield journal.Conflict(transaction=again, source=source, identical=n % 2 == 0, journaled_at=NOW + n)
        elif kind == "answered":
            yield _answered(n, rng)
        elif kind == "rejected":
            yield journal.Rejected(
                source=source, error="transaction: record is b'\\xff\\x00': no", journaled_at=NOW + n
            )
        else:
            policy = Policy(version=f"policy_{seed}_{n}", declined_accounts=frozenset({"acc_1"}))
            yield journal.ControlApplied(policy=policy, source=None, journaled_at=NOW + n)


def _answered(n: int, rng: random.Random) -> journal.Answered:
    """What a shadow said of two entries, or how a champion answered."""
    if rng.random() < 0.3:
        return journal.Answered(version=3, role="champion", rows=5, micros=n, journaled_at=NOW + n)
    failed = rng.random() < 0.3
    return journal.Answered(
        version=4, role="shadow", rows=2, failure="deadline" if failed else "", micros=n, sequences=(2 * n, 2 * n + 1),
        values=() if failed else (0.25, rng.randrange(2**24) / 2**24), journaled_at=NOW + n,
    )  # fmt: skip


def _counted_late(label: Label, of: Transaction) -> journal.LabelApplied:
    """The second entry of a label that waited for its transaction."""
    return journal.LabelApplied(
        label=label, source=None, effect="counted", account_id=of.account_id, merchant_id=of.merchant_id,
        occurred_at=of.occurred_at, journaled_at=label.known_at + 1,
    )  # fmt: skip


def _transaction(transaction_id: str, rng: random.Random) -> Transaction:
    placed = rng.random() < 0.5
    return Transaction(
        transaction_id=transaction_id,
        occurred_at=NOW - rng.randrange(10**9),
        account_id=f"acc_{rng.randrange(50)}",
        merchant_id=f"mer_{rng.randrange(20)}",
        device_id="" if rng.random() < 0.5 else f"dev_{rng.randrange(9)}",
        amount_minor=rng.randrange(10**12),
        currency="EUR",
        channel="ecom",
        mcc="5411",
        country="DE",
        latitude_e6=rng.randrange(-90_000_000, 90_000_000) if placed else None,
        longitude_e6=rng.randrange(-180_000_000, 180_000_000) if placed else None,
    )


def _decision(transaction: Transaction, source: Source, rng: random.Random) -> Decision:
    scored = rng.random() < 0.9
    score = rng.randrange(2**24) / 2**24  # a float32 exactly
    return Decision(
        transaction=transaction,
        source=source,
        history=tuple(rng.choice([0, 1, 2**63 - 1, -(2**63), rng.randrange(10**9)]) for _ in range(12)),
        fingerprint="0123456789abcdef",
        scores=(Score(3, score), Score(4, 0.5)) if scored else (),
        policy_version="default",
        outcome=rng.choices(list(Outcome), [8, 1, 1])[0] if scored else Outcome.REVIEW,
        reasons=(Reason("feature", "amount_ratio", 0.1 + 0.2),) if scored else (MODEL_UNAVAILABLE,),
        decided_at=NOW + rng.randrange(10**9),
    )


class JournalWriter:
    """Writes entries to the journal topic as a scorer does: in transactions, some of them given up."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        ensure_topics(bootstrap, prefix, 1)
        self.bootstrap = bootstrap
        self.topic = f"{prefix}decisions"
        self._producer = transactional_producer(bootstrap, f"{prefix}test", 30_000)

    def write(self, written: Sequence[journal.Entry], *, size: int = 100) -> None:
        """Each `size` entries in one transaction, and after every third one a transaction that is aborted."""
        for number, start in enumerate(range(0, len(written), size)):
            self._producer.begin_transaction()
            for entry in written[start : start + size]:
                self._producer.send(self.topic, journal.encode(entry), partition=0)
            self._producer.commit_transaction()
            if number % 3 == 2:
                self._producer.begin_transaction()
                self._producer.send(self.topic, b"never to be seen", partition=0)
                self._producer.flush()
                self._producer.abort_transaction()

    def write_raw(self, value: bytes | None) -> None:
        """One record as it is, in a transaction of its own."""
        self._producer.begin_transaction()
        self._producer.send(self.topic, value, key=b"raw", partition=0)
        self._producer.commit_transaction()

    def close(self) -> None:
        """Let the producer go."""
        self._producer.close()


def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Every committed record of a topic, in order."""
    consumer = reader(bootstrap, [], most_records=5000)
    try:
        wanted = partitions(consumer, topic)
        ends = end_offsets(bootstrap, [topic])
        consumer.assign(wanted)
        consumer.seek_to_beginning(*wanted)
        found: list[Any] = []
        while any(consumer.position(partition) < ends[partition] for partition in wanted):
            for records in consumer.poll(timeout_ms=200).values():
                found += records
        return found
    finally:
        consumer.close()


def contents(engine: sa.Engine) -> dict[str, list[dict[str, Any]]]:
    """All that the ledger stored, by table, in the order of primary keys; alerts' ids are left out."""
    found = {}
    with engine.connect() as connection:
        for name in FROM_JOURNAL:
            table = Base.metadata.tables[name]
            columns = [column for column in table.columns if column is not Alert.__table__.c.id]
            rows = connection.execute(sa.select(*columns)).mappings()
            found[name] = _sorted(dict(row) for row in rows)
    return found


def expected(records: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    """What `contents` must be after these records of the journal."""
    tables: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in FROM_JOURNAL}
    for record in records:
        body = json.loads(record.value)
        kind = body.pop("type")
        if kind == "decision":
            _expect_decision(tables, body, record)
        elif kind == "label":
            label = body["label"]
            row = {**label, "effect": body["effect"], "journaled_at": body["journaled_at"], "sequence": record.offset}
            row |= {"account_id": body["account_id"], "merchant_id": body["merchant_id"]}
            row["note"] = label["note"].replace("\0", "\ufffd")
            stored = tables["labels"].setdefault(label["label_id"], row)
            same = stored["transaction_id"] == label["transaction_id"]  # else another label of that id came first
            if body["source"] is None and same and stored["effect"] == "waiting":
                stored |= {name: row[name] for name in ("effect", "account_id", "merchant_id")}
            alert = tables["alerts"].get(label["transaction_id"])
            if alert is not None and label["source"] == "analyst" and alert["status"] == "open":
                alert |= {"status": "closed", "closed_at": label["known_at"], "closed_by": label["by"]}
        elif kind == "control":
            policy = body["policy"]
            row = {"sequence": record.offset, "version": policy["version"], "body": policy}
            tables["policies"][record.offset] = {**row, "journaled_at": body["journaled_at"]}
        elif kind == "assignment":
            given = body["assignment"]
            row = {"sequence": record.offset, "version": given["version"] if given else "", "body": given}
            row |= {"fingerprints": body["fingerprints"], "declarations": sorted(body["declarations"])}
            tables["assignments"][record.offset] = {**row, "journaled_at": body["journaled_at"]}
        elif kind == "answered":
            for n, of in enumerate(body["sequences"]):
                row = {"sequence": of, "version": body["version"], "failure": body["failure"]}
                row["score"] = body["values"][n] if body["values"] else None
                tables["shadow_scores"].setdefault((of, body["version"]), row)
        elif kind not in {"begun", "memory", "sources"}:  # of those SQL holds nothing
            source = body.pop("source")
            row = {"sequence": record.offset, "source_partition": source["partition"], **body}
            row["source_offset"] = source["offset"]
            if kind == "conflict":
                row["transaction_id"] = body["transaction"]["transaction_id"]
                tables["conflicts"][record.offset] = row
            else:
                for journal_alone in ("kind", "max_age_days"):
                    row.pop(journal_alone, None)
                tables["rejected"][record.offset] = {**row, "source_topic": source["topic"]}
    return {name: _sorted(rows.values()) for name, rows in tables.items()}


def _expect_decision(tables: dict[str, dict[Any, dict[str, Any]]], body: dict[str, Any], record: Any) -> None:
    transaction, source, scores = body.pop("transaction"), body.pop("source"), body.pop("scores")
    row = {"latitude_e6": None, "longitude_e6": None, "device_id": "", "assignment": "", "route": "newest"}
    row |= {**transaction, **body}
    row |= {"sequence": record.offset, "journaled_at_ms": record.timestamp, "received_at_ms": source["appended_at_ms"]}
    row |= {"source_partition": source["partition"], "source_offset": source["offset"]}
    row |= {
        "score": scores[0]["value"] if scores else None,
        "model_version": scores[0]["model_version"] if scores else None,
    }
    tables["decisions"][row["transaction_id"]] = row
    second = record.timestamp // 1000
    tally = tables["tallies"].setdefault(second, {"second": second, "approve": 0, "review": 0, "decline": 0})
    tally[row["outcome"]] += 1
    if row["outcome"] != "approve":
        loss = round((1.0 if row["score"] is None else row["score"]) * row["amount_minor"])
        tables["alerts"][row["transaction_id"]] = {
            "transaction_id": row["transaction_id"],
            "outcome": row["outcome"],
            "expected_loss_minor": loss,
            "opened_at": row["decided_at"],
            "status": "open",
            "closed_at": None,
            "closed_by": None,
        }


def _sorted(rows: Any) -> list[dict[str, Any]]:
    return sorted((dict(sorted(row.items())) for row in rows), key=lambda row: json.dumps(row, sort_keys=True))
