"""`plumbline keep`: what is kept is what the broker has, message by message; and whoever is killed goes on."""

import json
import multiprocessing
import os
import signal
import time

import msgspec
import pytest

from archive.kept import KeptJournal, append, held, nothing_kept, read_kept, write_manifest
from archive.record import Record
from audit.recorded import LiveJournal
from plumbline.cli import main as cli
from plumbline.decision import Decision
from plumbline.errors import InvalidArchive, Refused
from streaming.kafka import administrator
from streaming.keep import keep
from streaming.known import Known
from streaming.records import records
from streaming.state import State
from tests.fakes import fake_model
from tests.journal_writer import JournalWriter
from tests.recorded import Recorded, decided, keep_in, partition_of, small_stream, write_to_kafka
from tests.recorded import records as as_read


def journal_of(prefix: str, count: int = 150) -> Recorded:
    return decided(State(Known(1000)), fake_model(), small_stream(count), prefix)


def bare(rows):
    """Records without what a broker decides: its times and the places that transactions' ends take."""
    return [(each.value, each.topic, each.offset, each.message, each.state) for each in rows]


def read(journal):
    return [each for chunk in journal.chunks() for each in chunk]


def test_both_readers_give_the_same_records(kafka, topic_prefix, tmp_path):
    """The contract of the audit's two sources: the broker itself, and what was kept of it."""
    of = journal_of(topic_prefix)
    lost = of.at(Decision)[20]
    of = of.without_entry(lost)
    write_to_kafka(kafka.bootstrap, of)
    live = read(LiveJournal(kafka.bootstrap, topic_prefix))
    assert bare(live) == bare(as_read(of))
    assert [each.value for each in live].count(None) == 1
    keep(tmp_path / "kept", kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None, block_sequences=40)
    kept = KeptJournal(tmp_path / "kept")
    assert read(kept) == live
    assert len(kept.kept.blocks) > 3
    assert bare(read(KeptJournal(keep_in(tmp_path / "made", of)))) == bare(live)


def test_a_later_run_adds_what_is_new_and_changes_no_block(kafka, topic_prefix, tmp_path):
    of = journal_of(topic_prefix, 200)
    half = len(of.entries) // 2
    write_to_kafka(kafka.bootstrap, Recorded(of.prefix, of.entries[:half], of.messages))
    folder = tmp_path / "kept"

    def run():
        return keep(folder, kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None, block_sequences=60)

    first = run()
    before = {file.name: file.read_bytes() for file in folder.glob("*.parquet")}
    assert run() == first, "nothing new, nothing done"
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    writer.write(of.entries[half:])
    writer.close()
    second = run()
    assert second.blocks[: len(first.blocks)] == first.blocks
    assert second.digest != first.digest
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert bare(read(KeptJournal(folder))) == bare(as_read(of))


def test_messages_that_the_broker_has_dropped_are_gone_and_not_missing(kafka, topic_prefix):
    of = journal_of(topic_prefix)
    write_to_kafka(kafka.bootstrap, of)
    partition = partition_of(topic_prefix, "transactions")
    with administrator(kafka.bootstrap) as admin:
        admin.delete_records({partition: 30})
    states = {
        each.offset: each.state for each in read(LiveJournal(kafka.bootstrap, topic_prefix)) if "trans" in each.topic
    }
    assert {state for offset, state in states.items() if offset < 30} == {"gone"}
    assert {state for offset, state in states.items() if offset >= 30} == {"here"}


def test_a_message_that_its_topic_never_held_is_told_from_one_that_is_gone(kafka, topic_prefix):
    of = journal_of(topic_prefix)
    at = of.at(Decision)[-1]
    source = msgspec.structs.replace(of.entries[at].source, offset=10**6)
    write_to_kafka(
        kafka.bootstrap,
        Recorded(of.prefix, [*of.entries, msgspec.structs.replace(of.entries[at], source=source)], of.messages),
    )
    assert read(LiveJournal(kafka.bootstrap, topic_prefix))[-1].state == "never"


def test_a_reading_from_the_middle_begins_with_what_its_entries_name(kafka, topic_prefix):
    of = journal_of(topic_prefix)
    write_to_kafka(kafka.bootstrap, of)
    live = LiveJournal(kafka.bootstrap, topic_prefix)
    whole = read(live)
    first = whole[60].sequence
    part = [each for chunk in records(kafka.bootstrap, topic_prefix, first, live.end) for each in chunk]
    assert part == whole[60:]


def _keep_slowly(folder, bootstrap, prefix):
    keep(folder, bootstrap, prefix, ("", None), tell=lambda rows: time.sleep(60), block_sequences=50)


def test_a_run_that_was_killed_is_taken_up_again(kafka, topic_prefix, tmp_path):
    of = journal_of(topic_prefix)
    write_to_kafka(kafka.bootstrap, of)
    folder = tmp_path / "kept"
    child = multiprocessing.get_context("spawn").Process(
        target=_keep_slowly, args=(folder, kafka.bootstrap, topic_prefix)
    )
    child.start()
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)  # a file that another process writes is no event one could wait for
    with pytest.raises(Refused, match="another process keeps the journal"), held(folder):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert list(folder.glob(".*.partial"))
    keep(folder, kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None, block_sequences=50)
    assert not list(folder.glob(".*.partial"))
    assert read(KeptJournal(folder)) == read(LiveJournal(kafka.bootstrap, topic_prefix))


def test_the_command_keeps_and_says_what(kafka, topic_prefix, tmp_path, monkeypatch, capsys):
    of = journal_of(topic_prefix)
    write_to_kafka(kafka.bootstrap, of)
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    assert cli.run(["keep", "--json"]) == cli.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == told["added"] == len(of.entries)
    assert told["digest"] == read_kept(tmp_path / "journal").digest
    assert cli.run(["keep", "--json"]) == cli.DONE
    assert json.loads(capsys.readouterr().out)["added"] == 0


def test_a_folder_of_another_installation_is_refused(kafka, topic_prefix, tmp_path):
    of = journal_of("other.")
    folder = keep_in(tmp_path / "kept", of)
    with pytest.raises(Refused, match=r"was begun with prefix 'other\.'"):
        keep(folder, kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None)
    longer = keep_in(tmp_path / "longer", journal_of(topic_prefix))
    write_to_kafka(kafka.bootstrap, Recorded(topic_prefix, of.entries[:3], {}))
    with pytest.raises(Refused, match="they are not of one installation"):
        keep(longer, kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None)


@pytest.fixture
def kept(tmp_path):
    return keep_in(tmp_path / "kept", journal_of("bank."))


def test_a_manifest_that_was_changed_is_refused(kept):
    manifest = kept / "journal.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(InvalidArchive, match="format is 9"):
        read_kept(kept)
    manifest.write_bytes(whole[:-30])
    with pytest.raises(InvalidArchive, match="a manifest"):
        read_kept(kept)
    first = read_kept_blocks(whole)[0]["sha256"].encode()
    manifest.write_bytes(whole.replace(first, b"0" * 64))
    with pytest.raises(InvalidArchive, match="the digest over its list of blocks"):
        read_kept(kept)


def read_kept_blocks(raw):
    return json.loads(raw)["blocks"]


def test_a_block_that_was_taken_out_of_the_list_is_noticed(tmp_path):
    rows = [Record(n, n, b"{}") for n in range(9)]
    folder = tmp_path / "kept"
    with held(folder):
        manifest = nothing_kept("", "", None)
        for first in (0, 3, 6):
            manifest = append(folder, manifest, first, first + 3, [rows[first : first + 3]])
        cut = nothing_kept("", "", None)
        for block in (manifest.blocks[0], manifest.blocks[2]):
            cut = msgspec.structs.replace(cut, blocks=(*cut.blocks, block))
        from archive.kept import _digest

        write_manifest(folder, msgspec.structs.replace(cut, digest=_digest(cut.blocks)))
    with pytest.raises(InvalidArchive, match="one from 3 on"):
        read(KeptJournal(folder))
