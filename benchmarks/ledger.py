"""How fast the ledger turns journal records into SQL: decoding, rows, and one transaction a batch, without Kafka.

    python -m benchmarks.ledger --json
    python -m benchmarks.ledger --database-url postgresql+psycopg://USER@HOST/EMPTY_DATABASE --json

The last line is one flat JSON object. `decisions_per_second` is the whole; the seconds beside it say where it went, and
`cpu_seconds` what this process alone used, whatever else the machine was doing.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator

import sqlalchemy as sa

from app import entries
from features.declaration import HISTORY_NAMES, fingerprint
from plumbline import journal
from plumbline.decision import Decision, Outcome, Reason, Score, Source
from plumbline.transaction import Transaction
from store.engine import engine_at
from store.ledger import Rows, move_position, store
from store.schema import migrate

WANTED_PER_SECOND = 20_000
BATCH = 5_000
NOW_US = 1_700_000_000_000_000


def main() -> int:
    """Run it; exit code 1 when SQLite stores fewer than 20,000 decisions a second."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--decisions", type=int, default=200_000)
    parser.add_argument(
        "--database-url", default="", help="an empty database; SQLite in a temporary folder if not given"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        address = sa.make_url(arguments.database_url or f"sqlite:///{folder}/plumbline.db")
        engine = engine_at(address)
        migrate(engine)
        figures = measure(engine, arguments.decisions)
        engine.dispose()
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<24} {value:>14,}")
    return 0 if address.get_backend_name() != "sqlite" or figures["decisions_per_second"] >= WANTED_PER_SECOND else 1


def measure(engine: sa.Engine, decisions: int) -> dict[str, float]:
    """Store so many decisions in an empty database, one in fifty of them with an alert; the figures."""
    decoding = preparing = storing = cpu = 0.0
    position = None
    for start in range(0, decisions, BATCH):
        raw = [journal.encode(decision) for decision in made(start, min(start + BATCH, decisions))]
        begun, cpu_begun = time.perf_counter(), time.process_time()
        decoded = [journal.decode(each) for each in raw]
        decoded_at = time.perf_counter()
        rows = Rows()
        for sequence, entry in enumerate(decoded, start):
            entries.add(rows, entry, sequence, NOW_US // 1000 + sequence // 10)
        prepared_at = time.perf_counter()
        with engine.begin() as connection:
            move_position(connection, "decisions", 0, position, start + len(raw))
            store(connection, rows)
        position = start + len(raw)
        decoding += decoded_at - begun
        preparing += prepared_at - decoded_at
        storing += time.perf_counter() - prepared_at
        cpu += time.process_time() - cpu_begun
    return {
        "decisions": decisions,
        "decisions_per_second": round(decisions / (decoding + preparing + storing)),
        "decoding_seconds": round(decoding, 3),
        "preparing_seconds": round(preparing, 3),
        "storing_seconds": round(storing, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def made(first: int, end: int) -> Iterator[Decision]:
    """Decisions as a scorer journals them, with random ids and the full width of the history."""
    rng = random.Random(first)
    for n in range(first, end):
        alerted = n % 50 == 0
        yield Decision(
            transaction=Transaction(
                transaction_id=f"tx_{rng.getrandbits(64):016x}",
                occurred_at=NOW_US + n,
                account_id=f"account_{rng.randrange(100_000)}",
                merchant_id=f"merchant_{rng.randrange(10_000)}",
                amount_minor=rng.randrange(100_000),
                currency="EUR",
                channel="pos",
                mcc="5411",
                country="DE",
            ),
            source=Source("transactions", 0, n, NOW_US // 1000 + n // 10),
            history=tuple(rng.randrange(100_000) for _ in HISTORY_NAMES),
            fingerprint=fingerprint(),
            scores=(Score(1, 0.75 if alerted else 0.125),),
            policy_version="default",
            outcome=Outcome.REVIEW if alerted else Outcome.APPROVE,
            reasons=tuple(Reason("feature", f"feature_{k}", 0.5) for k in range(3)) if alerted else (),
            decided_at=NOW_US + n,
        )


if __name__ == "__main__":
    sys.exit(main())
