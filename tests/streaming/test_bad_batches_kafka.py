"""What a platform or a disk can do to a batch, on a real broker: every offset is answered, and nothing starts over."""

import hashlib
import json
import struct

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c

from archive.kept import KeptJournal
from audit.counting import count_once
from plumbline.journal import Rejected
from plumbline.message import RAW_MAX_BYTES
from plumbline.names import Topic
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker
from streaming.kafka import administrator, end_offsets
from streaming.keep import keep
from streaming.records import present_end, records
from tests.declared_model import declared_models
from tests.fakes import payment, raw
from tests.scorer_process import check_conserved, dead_letters
from tests.scorer_site import Site
from tests.serving_process import ModelServer

pytestmark = pytest.mark.slow

LARGE_BYTES = 12 * 2**20
"""More than a fetch asks for of one partition."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    with ModelServer(declared_models(tmp_path_factory), folder / "serve.log") as running:
        running.wait_for("serving")
        yield running


def produced(site, payments, **settings):
    """Send them as one producer of any platform does, all in one batch where they fit."""
    producer = KafkaProducer(bootstrap_servers=site.bootstrap, linger_ms=200, max_request_size=2**25, **settings)
    topic = site.prefix + Topic.TRANSACTIONS.value
    sent = [producer.send(topic, each, key=b"a1", partition=0, headers=[("h", b"x" * 100)]) for each in payments]
    written = [each.get(timeout=60) for each in sent]
    producer.close()
    site.stream.sent[topic, 0] = written[-1].offset + 1
    return [each.offset for each in written]


def starts(site):
    """How often its scorers began again, and what their logs say."""
    text = "".join(each.log.read_text() for each in site.scorers)
    return text.count("starting over"), text


def test_all_codecs_and_a_message_of_any_size_are_answered_without_starting_over(kafka, topic_prefix, server, tmp_path):
    site = Site(kafka.bootstrap, topic_prefix, server.target, tmp_path)
    try:
        with administrator(kafka.bootstrap) as admin:
            # Kafka replaces all settings of a topic at once: the declared ones stay.
            settings = {"max.message.bytes": str(2 * LARGE_BYTES), "message.timestamp.type": "LogAppendTime"}
            name = topic_prefix + Topic.TRANSACTIONS.value
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
        site.scorer().wait_for("leading")
        for n, codec in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
            produced(site, [raw(payment(10 * n + each)) for each in range(3)], compression_type=codec)
        junk = b"x" * LARGE_BYTES
        (at,) = produced(site, [junk])
        produced(site, [raw(payment(90))])
        site.journal.until_answered(site.stream)
        check_conserved(site.journal, site.stream)
        assert len(site.journal.decisions()) == 16
        (letter,) = dead_letters(site.bootstrap, site.prefix, 1)
        assert (letter.source.offset, letter.raw, letter.raw_length) == (at, junk[:RAW_MAX_BYTES], LARGE_BYTES)
        assert letter.raw_sha256 == hashlib.sha256(junk).hexdigest()
        assert starts(site)[0] == 0, starts(site)[1]
    finally:
        site.close()


def damage(folder, topic, place):
    """Change the batches that the broker's disk holds of partition 0, in the order of `place`'s kinds."""
    (log,) = (folder / "kafka").rglob(f"{topic}-0/00000000000000000000.log")
    data = bytearray(log.read_bytes())
    at = 0
    for kind in place:
        size = struct.unpack_from(">i", data, at + 8)[0] + 12
        attributes, crc = at + DefaultRecordBatch.ATTRIBUTES_OFFSET, at + DefaultRecordBatch.CRC_OFFSET
        if kind == "checksum":
            data[at + size - 1] ^= 0xFF
        elif kind == "codec":
            data[attributes + 1] |= 6
        elif kind == "content":
            data[attributes + 1] |= 4
        if kind in {"codec", "content"}:
            struct.pack_into(">I", data, crc, calc_crc32c(memoryview(data)[attributes : at + size]))
        at += size
    log.write_bytes(data)


@pytest.mark.kafka
@pytest.mark.skipif(find_java() is None, reason="needs Java")
def test_damaged_batches_are_rejected_offset_by_offset_and_every_reader_goes_on(server, tmp_path):
    with LocalBroker(tmp_path) as broker:
        site = Site(broker.bootstrap, "", server.target, tmp_path)
        try:
            kinds = ["good", "checksum", "good", "codec", "content", "good"]
            offsets = [produced(site, [raw(payment(10 * n + each)) for each in range(3)]) for n in range(len(kinds))]
            broker.stop()
            damage(tmp_path, "transactions", kinds)
            broker.start()
            scorer = site.scorer()
            scorer.wait_for("leading")
            site.journal.until_answered(site.stream)
            check_conserved(site.journal, site.stream)
            rejected = {each.source.offset: each for _, each in site.journal.entries if isinstance(each, Rejected)}
            assert sorted(rejected) == [
                at for kind, each in zip(kinds, offsets, strict=True) if kind != "good" for at in each
            ]
            assert {each.kind for each in rejected.values()} == {"unreadable"}
            for n, word in ((1, "checksum"), (3, "codec is 6"), (4, "content")):
                first, *_, last = offsets[n]
                assert f"the batch at offsets {first} to {last}: {word}" in rejected[first].error
            letters = dead_letters(site.bootstrap, site.prefix, len(rejected))
            assert [each.source for each in letters] == [each.source for each in rejected.values()]
            assert all(0 < len(each.raw) <= RAW_MAX_BYTES and each.raw_sha256 for each in letters)
            assert starts(site)[0] == 0, starts(site)[1]

            assert scorer.stop() == 0
            counted = count_once(broker.bootstrap, "", None, lambda: 0)
            assert (counted.imbalance, counted.kinds["rejected"], counted.kinds["decision"]) == (0, 9, 9)
            states = [
                each.state
                for part in records(broker.bootstrap, "", 0, present_end(broker.bootstrap, ""))
                for each in part
            ]
            assert (states.count("here"), states.count("gone")) == (9, 9)
            kept = keep(tmp_path / "kept", broker.bootstrap, "", ("", None), tell=lambda _: None)
            assert kept.stop == end_offsets(broker.bootstrap, ["decisions"]).popitem()[1]
            read = [each for part in KeptJournal(tmp_path / "kept").chunks() for each in part]
            assert [each.state for each in read] == states
            assert json.loads(read[-1].value)["type"] in {"decision", "rejected"}
            assert len(site.journal.decisions()) == 9
        finally:
            site.close()
