"""Record batches from the broker, read so that no batch can hold up its partition.

kafka-python raises out of `poll` for a batch whose checksum is wrong, whose codec it does not know, or whose content it
cannot read, and never moves past it. Here each message of such a batch is given out as `plumbline.message.Damaged`, so
that whoever reads a source answers it like any other message; readers of our own topics, in which nothing may be
missing, are told by an error. What a batch decompresses to is bounded, since a megabyte of zstd can hold gigabytes.
Headers are skipped: nothing here uses them, and a platform may put any bytes there.

`install` is the only place that reaches into a consumer: it gives the consumer's fetcher another class for the records
of one fetched partition.
"""

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import lz4.frame
import snappy
import structlog
import zstandard
from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord, Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError, KafkaError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import calc_crc32c, decode_varint

from plumbline.errors import JournalRefused, UnreadableMessage
from plumbline.message import Damaged

log = structlog.get_logger()

BATCH_MAX_BYTES: Final = 64 * 2**20
"""Most that a batch may decompress to; a producer's batch is a megabyte by default."""

_TIME_MAX_MS: Final = 2**53 - 1
_MAGIC: Final = 2
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_CODECS: Final = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


class TooLarge(ValueError):
    """A batch that decompresses to more than BATCH_MAX_BYTES."""


def decompressed(codec: int, data: bytes) -> bytes:
    """A batch's records. codec: Kafka's number, 1 to 4. Raises one of UNREADABLE for what is none of that codec."""
    if codec == 1:
        return _read(gzip.GzipFile(fileobj=io.BytesIO(data)))
    if codec == 2:
        return _snappy(data)
    if codec == 3:
        return _read(lz4.frame.LZ4FrameFile(io.BytesIO(data)))
    return _read(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True))


def _read(opened: Any) -> bytes:
    with opened:
        found: bytes = opened.read(BATCH_MAX_BYTES + 1)
    if len(found) > BATCH_MAX_BYTES:
        raise TooLarge(f"more than {BATCH_MAX_BYTES} bytes when decompressed")
    return found


def _snappy(data: bytes) -> bytes:
    """Blocks behind the header of Java's library, or one block alone; each says first how long it will be."""
    if not data.startswith(_XERIAL):
        return _snappy_block(data, BATCH_MAX_BYTES)
    blocks, size, at = [], 0, _XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = struct.unpack_from("!I", data, at)
        block = data[at + 4 : at + 4 + length]
        if len(block) != length:
            raise ValueError(f"a block of {length} bytes is cut short to {len(block)}")
        blocks.append(_snappy_block(block, BATCH_MAX_BYTES - size))
        size += len(blocks[-1])
        at += 4 + length
    return b"".join(blocks)


def _snappy_block(block: bytes, most: int) -> bytes:
    length = 0
    for n, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            break
    if length > most:
        raise TooLarge(f"more than {BATCH_MAX_BYTES} bytes when decompressed")
    found: bytes = snappy.uncompress(block)
    return found


UNREADABLE: Final = (
    CorruptRecordError, KafkaError, ValueError, IndexError, EOFError, OSError, RuntimeError, struct.error, zlib.error,
    zstandard.ZstdError, snappy.UncompressError,
)  # fmt: skip
"""What libraries raise of bytes that are none of theirs: about content alone, since nothing here waits for anything."""


class _Batch(DefaultRecordBatch):
    """A batch of today's format, whose records are read without their headers."""

    _buffer: bytearray
    _pos: int

    def open(self) -> None:
        """Decompress it. Raises UnreadableMessage."""
        codec = self.compression_type
        if codec not in _CODECS:
            known = ", ".join(f"{n} ({name})" for n, name in _CODECS.items())
            raise unreadable(self.base_offset, self.last_offset, "codec", codec, f"one of {known}")
        if codec:
            try:
                self._buffer = bytearray(decompressed(codec, bytes(self._buffer[self._pos :])))
            except UNREADABLE as error:
                allowed = f"records that {_CODECS[codec]} can decompress ({type(error).__name__}: {error})"
                raise unreadable(self.base_offset, self.last_offset, "content", _CODECS[codec], allowed) from error
            self._pos = 0
        self._decompressed = True

    def record(self, expected: int) -> tuple[int, int, bytes | None, bytes | None]:
        """The next record: offset, timestamp, key and value; expected: the lowest offset that it may have.

        Raises ValueError or IndexError for one that is malformed.
        """
        buffer = self._buffer
        length, pos = decode_varint(buffer, self._pos)
        end = pos + length
        if length < 0 or end > len(buffer):
            raise ValueError(f"a record of {length} bytes where {len(buffer) - pos} are left")
        _, pos = decode_varint(buffer, pos)
        ts_delta, pos = decode_varint(buffer, pos)
        offset_delta, pos = decode_varint(buffer, pos)
        key_length, pos = decode_varint(buffer, pos)
        key = None if key_length < 0 else bytes(buffer[pos : pos + key_length])
        pos += max(key_length, 0)
        value_length, pos = decode_varint(buffer, pos)
        value = None if value_length < 0 else bytes(buffer[pos : pos + value_length])
        pos += max(value_length, 0)
        offset = self.base_offset + offset_delta
        sound = pos <= end and min(key_length, value_length) >= -1 and expected <= offset <= self.last_offset
        if not sound:
            raise ValueError(
                f"a record at offset {offset} of {length} bytes, with {key_length} of key, {value_length} of value"
            )
        self._pos = end
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        return offset, self.max_timestamp if appended else self.first_timestamp + ts_delta, key, value

    @property
    def left(self) -> int:
        """Bytes that no record has taken."""
        return len(self._buffer) - self._pos


def unreadable(first: int, last: int, field: str, value: object, allowed: str) -> UnreadableMessage:
    """Why the messages of a batch cannot be read."""
    return UnreadableMessage(f"the batch at offsets {first} to {last}", field, value, allowed)


class _Records(Fetcher.PartitionRecords):
    """The records of one fetched partition."""

    def __init__(
        self, *given: Any, damaged: bool, seen: set[tuple[Any, int]], end: Callable[[Any], int | None], **more: Any
    ):
        """damaged: give `Damaged` for what cannot be read, instead of raising JournalRefused.

        seen: batches whose checksum was wrong once: they are fetched again before they count as damaged; end: the
        offset after a partition's newest record.
        """
        self._damaged = damaged
        self._seen = seen
        self._end = end
        super().__init__(*given, **more)

    def _unpack_records(self, tp: Any, records: MemoryRecords, *_: Any) -> Iterator[ConsumerRecord]:
        while records.has_next():
            raw = bytes(records._next_slice)
            base = struct.unpack_from(">q", raw)[0]
            if raw[MemoryRecords.MAGIC_OFFSET] != _MAGIC:
                yield from self._legacy(tp, records.next_batch(), raw)
                continue
            records.next_batch()
            batch = _Batch(raw)
            if (found := calc_crc32c(memoryview(raw)[batch.ATTRIBUTES_OFFSET :])) != batch.crc:
                if (tp, base) not in self._seen:
                    self._seen.add((tp, base))
                    break  # it may have been the way here: it is fetched once more
                stop = self._stop(tp, batch, records)
                allowed = f"{found:08x}, the CRC-32C of its bytes"
                error = unreadable(base, stop - 1, "checksum", f"{batch.crc:08x}", allowed)
                yield from self._lost(tp, raw, error, base, stop, batch.max_timestamp)
                continue
            self.leader_epoch = batch.leader_epoch
            if self._hidden(batch):
                self.next_fetch_offset = batch.next_offset
                continue
            yield from self._good(tp, batch, raw)
            self.next_fetch_offset = batch.next_offset
        self.drain()

    def _hidden(self, batch: _Batch) -> bool:
        """Whether a batch is a transaction's marker, or of one that was aborted."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _good(self, tp: Any, batch: _Batch, raw: bytes) -> Iterator[ConsumerRecord]:
        """The records of a batch whose checksum is right, up to the first that cannot be read; the rest is damaged."""
        expected = batch.base_offset
        try:
            batch.open()
            for _ in range(batch.records_count):
                offset, timestamp, key, value = batch.record(expected)
                expected = offset + 1
                yield self._given(tp, offset, timestamp, batch.timestamp_type, key, value)
            if batch.left and expected <= batch.last_offset:
                raise ValueError(f"{batch.left} bytes after {batch.records_count} records")
        except UnreadableMessage as why:
            yield from self._lost(tp, raw, why, expected, batch.next_offset, batch.max_timestamp)
        except (ValueError, IndexError) as malformed:
            allowed = f"records of Kafka's format ({malformed})"
            error = unreadable(
                batch.base_offset, batch.last_offset, "content", f"{batch.records_count} records", allowed
            )
            yield from self._lost(tp, raw, error, expected, batch.next_offset, batch.max_timestamp)

    def _legacy(self, tp: Any, batch: Any, raw: bytes) -> Iterator[ConsumerRecord]:
        """The records of a format that brokers before 4.0 may still hold."""
        expected, why = self.next_fetch_offset, ""
        try:
            if batch.validate_crc():
                for each in batch:
                    yield self._given(tp, each.offset, each.timestamp, each.timestamp_type, each.key, each.value)
                    expected = each.offset + 1
            else:
                why = "the batch's checksum is wrong"
        except UNREADABLE as raised:
            why = f"{type(raised).__name__}: {raised}"
        if why:
            # Such a batch has the offset of its last record.
            stop = max(batch.base_offset, expected) + 1
            error = unreadable(expected, stop - 1, "content", f"format {batch.magic}", f"readable records ({why})")
            yield from self._lost(tp, raw, error, expected, stop, 0)

    def _stop(self, tp: Any, batch: _Batch, records: MemoryRecords) -> int:
        """The offset after a batch whose own word for it cannot be trusted: where the next begins, if that is here."""
        if records.has_next():
            (following,) = struct.unpack_from(">q", records._next_slice)
            return max(int(following), int(batch.base_offset) + 1)
        end = self._end(tp) or batch.base_offset + 1
        stop: int = max(min(batch.next_offset, end), batch.base_offset + 1)
        return stop

    def _lost(
        self, tp: Any, raw: bytes, error: UnreadableMessage, first: int, stop: int, timestamp: int
    ) -> Iterator[ConsumerRecord]:
        if not self._damaged:
            raise JournalRefused(
                f"{tp.topic}-{tp.partition} cannot be read from offset {first} to {stop - 1} ({error}): restore the "
                "topic from a replica or a backup"
            )
        log.error(
            "unreadable messages", topic=tp.topic, partition=tp.partition, first=first, last=stop - 1, error=str(error)
        )
        value = Damaged(raw, error)
        at_ms = timestamp if 0 <= timestamp <= _TIME_MAX_MS else 0
        for offset in range(max(first, self.fetch_offset), stop):
            yield self._given(tp, offset, at_ms, 0, None, value)
        self.next_fetch_offset = stop

    def _given(
        self, tp: Any, offset: int, timestamp: int, timestamp_type: int, key: bytes | None, value: bytes | None
    ) -> ConsumerRecord:
        self.records_read += 1
        self.bytes_read += len(key or b"") + len(value or b"") + 1
        self.next_fetch_offset = offset + 1
        key_size, value_size = (-1 if part is None else len(part) for part in (key, value))
        return ConsumerRecord(
            tp.topic, tp.partition, self.leader_epoch, offset, timestamp, timestamp_type, key, value, [], None,
            key_size, value_size, -1,
        )  # fmt: skip


def install(consumer: KafkaConsumer, *, damaged: bool) -> None:
    """Have a consumer read batches as this module says.

    damaged: its readers take `Damaged` in the place of messages that cannot be read; otherwise `poll` raises
    JournalRefused at the first of them.
    """
    consumer._fetcher.PartitionRecords = functools.partial(
        _Records, damaged=damaged, seen=set(), end=consumer.highwater
    )
