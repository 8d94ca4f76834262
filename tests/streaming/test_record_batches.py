"""A batch that cannot be read becomes one damaged message for each offset, and what lies behind it is read."""

import gzip
import struct
import tracemalloc

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.codec import snappy_encode
from kafka.consumer.fetcher import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c

from plumbline.errors import JournalRefused
from plumbline.message import Damaged
from streaming import record_batches
from streaming.record_batches import BATCH_MAX_BYTES, TooLarge, _Records, decompressed

HERE = TopicPartition("transactions", 0)
COUNT = 3
ATTRIBUTES, CRC = DefaultRecordBatch.ATTRIBUTES_OFFSET, DefaultRecordBatch.CRC_OFFSET


def batch(base, values=COUNT, codec=0, headers=()):
    """A batch's bytes; values: their number, or themselves."""
    values = [b"value %d" % (base + n) for n in range(values)] if isinstance(values, int) else values
    builder = MemoryRecordsBuilder(2, codec, 2**24)
    for value in values:
        builder.append(1_700_000_000_000, b"key", value, list(headers))
    builder.close()
    raw = bytearray(builder.buffer())
    struct.pack_into(">q", raw, 0, base)
    return raw


def signed(raw):
    """The batch with the checksum that its bytes have."""
    struct.pack_into(">I", raw, CRC, calc_crc32c(memoryview(raw)[ATTRIBUTES:]))
    return raw


def with_codec(raw, codec):
    """The batch with another codec in its attributes, rightly signed."""
    raw[ATTRIBUTES + 1] = raw[ATTRIBUTES + 1] & ~7 | codec
    return signed(raw)


def flipped(raw, at=-1):
    """The batch with one byte changed behind the checksum's back."""
    raw[at] ^= 0xFF
    return raw


class Reading:
    """A consumer's way through a partition that holds these batches."""

    def __init__(self, batches, damaged=True):
        self.log = [bytes(each) for each in batches]
        self.end = max(struct.unpack_from(">q", each)[0] for each in self.log) + COUNT
        self.seen = set()
        self.damaged = damaged
        self.position = 0
        self.fetches = 0

    def fetch(self):
        """Records from the position on, as one fetch gives them."""
        self.fetches += 1
        kept = [each for each in self.log if DefaultRecordBatch(each).next_offset > self.position]
        part = _Records(
            self.position, HERE, MemoryRecords(b"".join(kept)), isolation_level=IsolationLevel.READ_COMMITTED,
            damaged=self.damaged, seen=self.seen, end=lambda _: self.end,
        )  # fmt: skip
        found = []
        while part.record_iterator is not None:
            found += part.take(2)
        self.position = part.next_fetch_offset
        return found

    def all(self):
        """Everything up to the end, in a few fetches."""
        found = []
        while self.position < self.end:
            found += self.fetch()
            assert self.fetches < 10
        return found


def test_every_codec_and_none_is_read():
    batches = [batch(COUNT * codec, codec=codec) for codec in range(5)]
    found = Reading(batches).all()
    assert [(each.offset, each.value, each.key) for each in found] == [
        (n, b"value %d" % n, b"key") for n in range(5 * COUNT)
    ]


DAMAGES = {
    "a checksum that is wrong": lambda: flipped(batch(COUNT)),
    "a codec that nobody knows": lambda: with_codec(batch(COUNT), 6),
    "no lz4": lambda: with_codec(batch(COUNT), 3),
    "no zstd": lambda: with_codec(batch(COUNT), 4),
    "no gzip": lambda: with_codec(batch(COUNT), 1),
    "no snappy": lambda: with_codec(batch(COUNT), 2),
    "a first record whose length is beyond the batch": lambda: signed(flipped(batch(COUNT), 61)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_batch_that_cannot_be_read_becomes_damaged_messages_and_the_stream_goes_on(name):
    bad = DAMAGES[name]()
    found = Reading([batch(0), bad, batch(2 * COUNT)]).all()
    assert [each.offset for each in found] == list(range(3 * COUNT))
    assert [isinstance(each.value, Damaged) for each in found] == [False] * COUNT + [True] * COUNT + [False] * COUNT
    lost = found[COUNT].value
    assert (lost, lost.error.subject) == (bytes(bad), f"the batch at offsets {COUNT} to {2 * COUNT - 1}")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_reader_of_our_own_topics_is_told_instead(name):
    with pytest.raises(JournalRefused, match=r"transactions-0 cannot be read from offset 3 to 5"):
        Reading([batch(0), DAMAGES[name](), batch(2 * COUNT)], damaged=False).all()


def test_a_checksum_that_is_right_when_fetched_again_loses_nothing():
    reading = Reading([batch(0), flipped(batch(COUNT)), batch(2 * COUNT)])
    first = reading.fetch()
    assert [each.offset for each in first] == [0, 1, 2]
    reading.log[1] = bytes(batch(COUNT))
    assert [each.value for each in first + reading.all()] == [b"value %d" % n for n in range(3 * COUNT)]


def test_the_offsets_of_a_damaged_batch_end_where_the_next_begins_whatever_it_says_itself():
    bad = batch(COUNT)
    struct.pack_into(">i", bad, ATTRIBUTES + 2, 2**31 - 1)
    found = Reading([batch(0), bad, batch(2 * COUNT)]).all()
    assert [each.offset for each in found] == list(range(3 * COUNT))
    alone = Reading([batch(0), bad])
    assert [each.offset for each in alone.all()] == list(range(2 * COUNT))


def test_what_can_be_read_of_a_batch_is_read():
    raw = batch(COUNT)
    cut = raw.rindex(b"value 5") - 1
    raw[cut] = 0x7E  # the last value's length: more than is left
    found = Reading([batch(0), signed(raw), batch(2 * COUNT)]).all()
    assert [each.offset for each in found] == list(range(3 * COUNT))
    assert [isinstance(each.value, Damaged) for each in found] == [n == 5 for n in range(3 * COUNT)]


def test_headers_of_any_kind_and_number_are_no_obstacle():
    raw = batch(0, headers=[("name", b"x")] * 5)
    raw[:] = raw.replace(b"name", b"\xff\xfe\xfd\xfc")
    (first, *_) = Reading([signed(raw)]).all()
    assert (first.value, first.headers) == (b"value 0", [])


def bombs(size):
    zeros = bytes(size)
    return {
        1: gzip.compress(zeros), 2: snappy.compress(zeros), 3: lz4.frame.compress(zeros),
        4: zstandard.ZstdCompressor().compress(zeros),
    }  # fmt: skip


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_decompresses_to_more_than_is_allowed_is_never_held(codec, monkeypatch):
    monkeypatch.setattr(record_batches, "BATCH_MAX_BYTES", 2**20)
    bomb = bombs(2**26)[codec]
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decompressed(codec, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    assert decompressed(codec, bombs(2**20)[codec]) == bytes(2**20)


def test_blocks_of_snappy_are_bounded_together(monkeypatch):
    monkeypatch.setattr(record_batches, "BATCH_MAX_BYTES", 100_000)
    assert decompressed(2, snappy_encode(bytes(100_000))) == bytes(100_000)
    with pytest.raises(TooLarge):
        decompressed(2, snappy_encode(bytes(100_001)))
    assert BATCH_MAX_BYTES > 100_000


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.booleans(),
)
def test_no_byte_of_a_batch_can_hold_up_its_partition(codec, changes, sign):
    bad = batch(COUNT, codec=codec)
    for at, byte in changes:
        place = ATTRIBUTES + at % (len(bad) - ATTRIBUTES)
        if place not in range(ATTRIBUTES, ATTRIBUTES + 2 + 4):  # a signed batch is a broker's, which wrote these
            bad[place] = byte
    found = Reading([batch(0), signed(bad) if sign else bad, batch(2 * COUNT)]).all()
    offsets = [each.offset for each in found]
    assert offsets == sorted(set(offsets))
    good = [each.value for each in found if not isinstance(each.value, Damaged)]
    assert good[:COUNT] == [b"value %d" % n for n in range(COUNT)]
    assert good[-COUNT:] == [b"value %d" % n for n in range(2 * COUNT, 3 * COUNT)]
