"""`play` sends exactly what the archive holds, in its order, labels in their place."""

import datetime
import json
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from kafka import TopicPartition

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, Archive, write_archive
from archive.simulation.run import Plan, read_plan
from archive.simulation.stream import EndlessArrivals
from plumbline import journal, label, transaction
from plumbline.cli.main import run
from plumbline.decision import Source
from plumbline.errors import BrokerUnavailable, Invalid, NotFound, Refused, Unready
from plumbline.names import Topic
from plumbline.transaction import DAY_US, SECOND_US
from streaming import follow
from streaming import play as playing
from streaming.broker.local import LocalBroker
from streaming.kafka import close_producer, idempotent_producer, reader
from streaming.play import Played, play
from streaming.topics import ensure_topics

START = 17_750 * DAY_US
NOW = 20_000 * DAY_US
COUNT = 300
LABELLED = (7, 20, 21, 100)
HOUR_US = 3600 * SECOND_US
DELAY_US = 40 * SECOND_US + 1


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """300 transactions, one every ten seconds, four of them labelled 40 seconds later."""
    transactions = pa.table(
        {
            "transaction_id": [f"t{i}" for i in range(COUNT)],
            "occurred_at": [START + i * 10 * SECOND_US for i in range(COUNT)],
            "account_id": [f"a{i % 7}" for i in range(COUNT)],
            "merchant_id": [f"m{i % 5}" for i in range(COUNT)],
            "device_id": ["" if i % 2 else "d1" for i in range(COUNT)],
            "amount_minor": [100 + i for i in range(COUNT)],
            "currency": ["EUR"] * COUNT,
            "channel": ["pos"] * COUNT,
            "mcc": ["5411"] * COUNT,
            "country": ["DE"] * COUNT,
            "latitude_e6": [None if i % 2 else i for i in range(COUNT)],
            "longitude_e6": [None if i % 2 else -i for i in range(COUNT)],
        },
        schema=TRANSACTION_SCHEMA,
    )
    labels = pa.table(
        {
            "label_id": [f"l{i}" for i in LABELLED],
            "transaction_id": [f"t{i}" for i in LABELLED],
            "account_id": [f"a{i % 7}" for i in LABELLED],
            "merchant_id": [f"m{i % 5}" for i in LABELLED],
            "verdict": ["fraud"] * len(LABELLED),
            "source": ["archive"] * len(LABELLED),
            "known_at": [START + i * 10 * SECOND_US + DELAY_US for i in LABELLED],
            "note": ["pattern"] * len(LABELLED),
        },
        schema=LABEL_SCHEMA,
    )
    return write_archive(tmp_path_factory.mktemp("play") / "archive", [transactions], labels, "test")


def played(archive: Archive, bootstrap: str, prefix: str, **options) -> Played:
    defaults = {"due": playing.unpaced(), "stop": threading.Event(), "now_us": lambda: NOW}
    return play(archive, bootstrap, prefix, **{**defaults, **options})


def sent(bootstrap: str, topic: str, partitions: int = 1) -> list:
    """All records of a topic, by partition and offset."""
    wanted = [TopicPartition(topic, number) for number in range(partitions)]
    consumer = reader(bootstrap, wanted, committed_only=False)
    try:
        ends = consumer.end_offsets(wanted)
        records = []
        while any(consumer.position(each) < ends[each] for each in wanted):
            records += [record for batch in consumer.poll(1000).values() for record in batch]
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def rows(archive: Archive) -> list[dict]:
    return [row for batch in archive.transactions() for row in batch.to_pylist()]


def test_every_row_is_sent_once_in_order_and_parses_as_what_it_was(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    result = played(archive, kafka.bootstrap, topic_prefix)
    assert (result.transactions, result.labels, result.next_sequence, result.complete) == (COUNT, 4, 0, True)

    records = sent(kafka.bootstrap, topic_prefix + "transactions")
    got = [transaction.parse(record.value, NOW) for record in records]
    expected = [{name: row[name] for name in row if name != "sequence"} for row in rows(archive)]
    assert [{name: getattr(each, name) for name in each.__struct_fields__} for each in got] == expected
    assert [record.key.decode() for record in records] == [each.account_id for each in got]

    records = sent(kafka.bootstrap, topic_prefix + "labels")
    said = [label.parse(record.value, NOW) for record in records]
    assert [each.transaction_id for each in said] == [f"t{i}" for i in LABELLED]
    assert [record.key.decode() for record in records] == [f"t{i}" for i in LABELLED]
    assert {(each.verdict, each.source, each.note) for each in said} == {("fraud", "archive", "pattern")}


def test_a_label_is_written_before_any_later_transaction(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    played(archive, kafka.bootstrap, topic_prefix, due=playing.per_second(400))
    appended = {
        json.loads(record.value)["transaction_id"]: record.timestamp
        for record in sent(kafka.bootstrap, topic_prefix + "transactions")
    }
    for record in sent(kafka.bootstrap, topic_prefix + "labels"):
        number = int(record.key[1:])
        # 40 seconds and a microsecond later: after four more transactions, before the fifth.
        assert record.timestamp <= appended[f"t{number + 5}"]


def test_accounts_keep_their_order_over_many_partitions(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 3)
    played(archive, kafka.bootstrap, topic_prefix)
    by_account: dict[str, list[tuple[int, int]]] = {}
    for record in sent(kafka.bootstrap, topic_prefix + "transactions", 3):
        value = transaction.parse(record.value, NOW)
        by_account.setdefault(value.account_id, []).append((record.partition, value.occurred_at))
    assert sum(map(len, by_account.values())) == COUNT
    for positions in by_account.values():
        assert len({partition for partition, _ in positions}) == 1
        assert positions == sorted(positions)


def test_a_range_a_start_and_no_labels_are_kept_to(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    since, until = START + 100 * SECOND_US, START + 200 * SECOND_US
    kept = [row for row in rows(archive) if since <= row["occurred_at"] < until][4:]
    options = {
        "since_us": since,
        "until_us": until,
        "from_sequence": kept[0]["sequence"],
        "with_labels": False,
    }
    assert playing.extent(archive, **options) == (6, kept[0]["occurred_at"])
    assert played(archive, kafka.bootstrap, topic_prefix, **options).transactions == 6
    records = sent(kafka.bootstrap, topic_prefix + "transactions")
    assert [json.loads(record.value)["transaction_id"] for record in records] == [f"t{i}" for i in range(14, 20)]
    assert sent(kafka.bootstrap, topic_prefix + "labels") == []


def test_a_play_that_was_stopped_goes_on_without_gap_or_repetition(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    stop = threading.Event()

    def due(count: int, _at: int) -> float:
        if count == 50:
            stop.set()
        return 0.0

    first = played(archive, kafka.bootstrap, topic_prefix, due=due, stop=stop)
    assert not first.complete
    assert first.transactions + first.labels == 50
    second = played(archive, kafka.bootstrap, topic_prefix, from_sequence=first.next_sequence)
    assert second.complete
    ids = [
        json.loads(record.value)["transaction_id"] for record in sent(kafka.bootstrap, topic_prefix + "transactions")
    ]
    assert ids == [f"t{i}" for i in range(COUNT)]
    assert len(sent(kafka.bootstrap, topic_prefix + "labels")) == len(LABELLED)


def test_times_move_by_one_constant_and_ids_get_their_suffix(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    shift = NOW - START
    played(archive, kafka.bootstrap, topic_prefix, shift_us=shift, id_suffix=".r2")
    got = [transaction.parse(record.value, NOW) for record in sent(kafka.bootstrap, topic_prefix + "transactions")]
    assert [each.occurred_at for each in got] == [NOW + i * 10 * SECOND_US for i in range(COUNT)]
    assert [each.transaction_id for each in got] == [f"t{i}.r2" for i in range(COUNT)]
    first = label.parse(sent(kafka.bootstrap, topic_prefix + "labels")[0].value, NOW)
    assert (first.label_id, first.transaction_id) == ("l7.r2", "t7.r2")
    assert first.known_at == NOW + 70 * SECOND_US + DELAY_US


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"id_suffix": "a b"}, Invalid, "without a space"),
        ({"id_suffix": "x" * 64}, Invalid, "no transaction_id is longer than 64"),
        ({"shift_us": NOW - START + 2 * DAY_US}, Refused, "more than a day ahead of the clock"),
        (
            {"shift_us": NOW - START - 731 * DAY_US, "max_age_days": 730},
            Refused,
            "more than 730 days old.*--shift-to-now",
        ),
    ],
)
def test_what_the_scorer_would_refuse_is_not_sent(
    kafka, topic_prefix: str, archive: Archive, options, error, complaint
) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    with pytest.raises(error, match=complaint):
        played(archive, kafka.bootstrap, topic_prefix, **options)
    assert sent(kafka.bootstrap, topic_prefix + "transactions") == []


def test_a_missing_topic_is_named(kafka, topic_prefix: str, archive: Archive) -> None:
    with pytest.raises(NotFound, match=f"no topic {topic_prefix}transactions: create it with `plumbline topics`"):
        played(archive, kafka.bootstrap, topic_prefix)


def test_a_rate_is_kept(kafka, topic_prefix: str, archive: Archive) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    result = played(archive, kafka.bootstrap, topic_prefix, due=playing.per_second(300))
    assert result.seconds >= (COUNT + 4 - 1) / 300


class Answering(threading.Thread):
    """Journals an entry for each transaction and label it reads, one by one, as a scorer would."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        super().__init__()
        self.bootstrap, self.prefix, self.seen = bootstrap, prefix, []
        self.enough = COUNT + len(LABELLED)

    def run(self) -> None:
        sources = [TopicPartition(self.prefix + topic.value, 0) for topic in (Topic.TRANSACTIONS, Topic.LABELS)]
        consumer, producer = reader(self.bootstrap, sources), idempotent_producer(self.bootstrap)
        ends = time.monotonic() + 60
        while len(self.seen) < self.enough and time.monotonic() < ends:
            for records in consumer.poll(200).values():
                for record in records:
                    body = json.loads(record.value)
                    self.seen.append(body.get("label_id", body["transaction_id"]))
                    source = Source(record.topic, record.partition, record.offset, record.timestamp)
                    entry = journal.Rejected(source=source, error="test", journaled_at=0)
                    producer.send(self.prefix + Topic.DECISIONS.value, journal.encode(entry))
        consumer.close()
        close_producer(producer, 5)


def test_in_step_with_the_journal_everything_is_answered_in_the_order_of_the_archive(
    kafka, topic_prefix: str, archive: Archive
) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    scorer = Answering(kafka.bootstrap, topic_prefix)
    scorer.start()
    played(archive, kafka.bootstrap, topic_prefix, in_step=True)
    scorer.join()
    names = {"transactions": "transaction_id", "labels": "label_id"}
    assert scorer.seen == [row[names[part]] for part, batch in archive.arrivals() for row in batch.to_pylist()]


def test_in_step_without_a_scorer_says_so(
    kafka, topic_prefix: str, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(Unready, match="start the scorer with `plumbline score`"):
        played(archive, kafka.bootstrap, topic_prefix, in_step=True)


@pytest.mark.kafka
def test_a_broker_that_restarts_meanwhile_loses_and_doubles_nothing(tmp_path: Path, archive: Archive) -> None:
    with LocalBroker(tmp_path) as broker:
        ensure_topics(broker.bootstrap, "", 1)
        crash = threading.Event()

        def due(count: int, _at: int) -> float:
            if count == 100:
                crash.set()
            return count / 200

        def crashing() -> None:
            crash.wait(60)
            broker.kill()
            broker.start()

        thread = threading.Thread(target=crashing)
        thread.start()
        played(archive, broker.bootstrap, "", due=due)
        thread.join()
        records = sent(broker.bootstrap, "transactions")
        assert [json.loads(record.value)["transaction_id"] for record in records] == [f"t{i}" for i in range(COUNT)]
        assert len(sent(broker.bootstrap, "labels")) == len(LABELLED)


@pytest.mark.kafka
def test_a_broker_that_stays_away_is_told_with_the_place_to_go_on(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "DELIVERY_MS", 500)
    with LocalBroker(tmp_path) as broker:
        ensure_topics(broker.bootstrap, "", 1)

        def due(count: int, _at: int) -> float:
            if count == 100:
                broker.kill()
            return 0.0

        with pytest.raises(BrokerUnavailable, match=r"--from-sequence -\d+"):
            played(archive, broker.bootstrap, "", due=due)


def test_an_endless_bank_is_caught_up_with_and_then_nothing_is_sent_before_its_time(kafka, topic_prefix: str) -> None:
    """The clock of this test runs an hour a second, and begins two hours after the bank does."""
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    source = EndlessArrivals(Plan(accounts=2000, days=3, fraud_rate=0.0, transactions_per_account_day=20))
    first_us = next(source.arrivals())[1].column("sequence")[0].as_py()
    begun, behind_us, stop = time.monotonic(), 2 * HOUR_US, threading.Event()

    def elapsed() -> float:
        return time.monotonic() - begun

    def now_us() -> int:
        return first_us + behind_us + round(elapsed() * HOUR_US)

    threading.Timer(2.0, stop.set).start()
    due = playing.real_time(1e6, now_us, elapsed)
    result = play(source, kafka.bootstrap, topic_prefix, due=due, stop=stop, now_us=now_us)
    stopped_us = now_us()
    times = [
        transaction.parse(record.value, stopped_us).occurred_at
        for record in sent(kafka.bootstrap, topic_prefix + "transactions")
    ]
    assert not result.complete
    assert result.transactions == len(times)
    assert result.next_sequence == times[-1] + 1
    assert first_us + behind_us < times[-1] <= stopped_us
    arrived = source.arrivals(first_us, result.next_sequence)
    assert sum(batch.num_rows for _, batch in arrived) == len(times)


def test_the_command_plays_a_range_of_a_bank_from_a_file(kafka, topic_prefix: str, tmp_path: Path, monkeypatch, capsys):
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    file = tmp_path / "bank.json"
    file.write_text('{"accounts": 100, "days": 3, "start": "2024-01-01", "fraud_rate": 0.02}')
    monkeypatch.setenv("PLUMBLINE_MESSAGE_MAX_AGE_DAYS", "36500")
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    day = (datetime.date(2024, 1, 30) - datetime.date(1970, 1, 1)).days * DAY_US
    bounds = ["--from-sequence", str(day), "--to-sequence", str(day + DAY_US)]
    assert run(["play", "--bank", str(file), *bounds, "--json"]) == 0
    made = list(EndlessArrivals(read_plan(file)).arrivals(day, day + DAY_US))
    assert len(sent(kafka.bootstrap, topic_prefix + "transactions")) == sum(
        batch.num_rows for part, batch in made if part == "transactions"
    )
    assert run(["play", "--bank", str(file)]) == 2
    assert "--rate, --until or --to-sequence" in capsys.readouterr().err
    file.write_text('{"accounts": "many"}')
    assert run(["play", "--bank", str(file), *bounds]) == 1
    assert "a readable JSON file of a simulation's options" in capsys.readouterr().err
