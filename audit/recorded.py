"""What the journal says: its entries in order, and as the files that the batch path reads."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from kafka import TopicPartition

from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Entry, LabelApplied
from plumbline.names import Topic
from streaming.kafka import end_offsets, reader

Numbered = tuple[int, Entry]

CHUNK_ENTRIES: Final = 20_000
POLL_MS: Final = 500

TRANSACTION_FILES: Final = pa.schema(
    [("sequence", pa.int64()), ("account_id", pa.string()), ("merchant_id", pa.string()), ("device_id", pa.string()),
     ("occurred_at", pa.int64()), ("amount_minor", pa.int64()), ("latitude_e6", pa.int32()),
     ("longitude_e6", pa.int32())]
)  # fmt: skip
LABEL_FILES: Final = pa.schema(
    [("sequence", pa.int64()), ("account_id", pa.string()), ("merchant_id", pa.string()), ("known_at", pa.int64())]
)


def present_end(bootstrap: str, prefix: str) -> int:
    """The offset after the journal's newest committed entry. Raises BrokerUnavailable, NotFound."""
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    return end_offsets(bootstrap, [partition.topic])[partition]


def entries(bootstrap: str, prefix: str, first: int, stop: int | None) -> Iterator[list[Numbered]]:
    """Journal entries from sequence `first` to before `stop` (the present end when None), in chunks, in order.

    stop: at most `present_end`. Raises BrokerUnavailable, and msgspec.ValidationError for a record that is no entry.
    """
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    stop = present_end(bootstrap, prefix) if stop is None else stop
    with closing(reader(bootstrap, {partition: first}, most_records=CHUNK_ENTRIES)) as consumer:
        while consumer.position(partition) < stop:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                chunk = [(each.offset, journal.decode(each.value)) for each in records if each.offset < stop]
                if chunk:
                    yield chunk


def write_arrivals(folder: Path, number: int, chunk: Sequence[Numbered]) -> None:
    """Put a chunk's decided transactions and counted labels into the folder, as Parquet files of that number."""
    transactions = [
        {"sequence": sequence, **{name: getattr(entry.transaction, name) for name in TRANSACTION_FILES.names[1:]}}
        for sequence, entry in chunk
        if isinstance(entry, Decision)
    ]
    labels = [
        {"sequence": sequence, "account_id": entry.account_id, "merchant_id": entry.merchant_id,
         "known_at": entry.label.known_at}
        for sequence, entry in chunk
        if isinstance(entry, LabelApplied) and entry.effect == "counted"
    ]  # fmt: skip
    _write(folder / f"transactions-{number:06d}.parquet", transactions, TRANSACTION_FILES)
    _write(folder / f"labels-{number:06d}.parquet", labels, LABEL_FILES)


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
