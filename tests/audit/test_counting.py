"""Conservation on a real broker: markers and aborted messages are no losses; each planted fault is one imbalance."""

import contextlib
import json

import msgspec
import pytest
from kafka import TopicPartition

from audit.counting import Counting, Kept, count_once, head_of
from plumbline import journal
from plumbline.cli import main as cli
from plumbline.decision import Source
from plumbline.journal import DeadLetter
from plumbline.names import Topic
from plumbline.policy import Policy
from plumbline.policy import encode as encode_policy
from streaming.kafka import end_offsets, reader
from tests.fakes import NOW, payment, raw, told
from tests.journal_writer import read_topic
from tests.journaled_bank import Bank
from tests.scorer_process import ScorerProcess, Stream


@pytest.fixture
def bank(kafka, topic_prefix, tmp_path):
    made = Bank(kafka.bootstrap, topic_prefix, tmp_path)
    made.send("control", [encode_policy(Policy(version="first"))])
    made.send("transactions", [raw(payment(n)) for n in range(40)])
    made.send_in_transactions([raw(payment(n)) for n in range(40, 44)])
    made.send("transactions", [raw(payment(3)), raw(payment(4, amount_minor=9)), b"no payment"])
    made.send("labels", [raw(told(1, 2)), raw(told(2, 2)), b"no label"])
    yield made
    made.close()


def unequal(counted):
    return [(each.name, each.difference) for each in counted.equations if each.difference]


def test_markers_aborted_messages_duplicates_and_dead_letters_balance(bank):
    bank.write(*bank.entries())
    bank.store()
    counted = bank.count()
    assert counted.imbalance == 0, counted.equations
    assert counted.acknowledged == 1 + 40 + 4 + 3 + 3
    assert counted.waiting == 0
    assert counted.oldest_waiting_ms is None
    # each of four messages has its marker, and the one given up before it has its place and its marker
    assert counted.empty == 12
    kinds = {"decision": 44, "conflict": 2, "rejected": 2, "label": 2, "control": 1, "letters": 2, "stored": 53}
    assert {name: counted.kinds[name] for name in kinds} == kinds


def test_what_is_not_yet_journaled_is_on_its_way_with_its_age(bank):
    bank.write(*bank.entries())
    bank.send("transactions", [raw(payment(n)) for n in range(100, 107)])
    newest = read_topic(bank.bootstrap, bank.prefix + "transactions")[-7]
    counted = count_once(bank.bootstrap, bank.prefix, None, lambda: newest.timestamp + 5_000)
    assert counted.imbalance == 0
    assert counted.waiting == 7
    assert counted.oldest_waiting_ms == 5_000


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (lambda entries, letters: entries.pop(20), [("acknowledged", 1)]),
        (lambda entries, letters: entries.insert(20, entries[19]), [("once", 1)]),
        (lambda entries, letters: letters.pop(0), [("rejected", 1)]),
        (
            lambda entries, letters: letters.append(
                DeadLetter(raw=b"", error="", field="", allowed="", source=Source("x", 0, 9, 0), rejected_at=0)
            ),
            [("letters", 1)],
        ),
    ],
    ids=["lost", "doubled", "letter lost", "letter from nowhere"],
)
def test_a_fault_is_counted_where_it_is(bank, fault, found):
    entries, letters = bank.entries()
    fault(entries, letters)
    bank.write(entries, letters)
    counted = count_once(bank.bootstrap, bank.prefix, None, lambda: NOW // 1000)
    assert unequal(counted) == found
    assert counted.imbalance == 1


def test_a_row_that_sql_lost_is_an_imbalance_and_a_label_sent_twice_is_none(bank):
    bank.send("labels", [raw(told(1, 2))])
    bank.write(*bank.entries())
    bank.store()
    assert unequal(bank.count()) == []
    assert bank.count().stored_sequence is not None
    with bank.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM conflicts WHERE sequence = (SELECT min(sequence) FROM conflicts)")
    assert unequal(bank.count()) == [("stored", 1)]


def test_counting_that_is_kept_and_gone_on_with_comes_to_the_same(bank):
    bank.write(*bank.entries())
    bank.store()
    kept = go_on(bank, Kept(), 0)
    bank.send("transactions", [raw(payment(n)) for n in range(200, 220)] + [b"nothing"])
    bank.write(*bank.entries())
    bank.store()
    written = journal.encode(kept)
    again = go_on(bank, msgspec.json.decode(written, type=Kept), kept.tally.sequence + 1)
    whole = go_on(bank, Kept(), 0)
    assert again.tally == whole.tally
    assert (again.letters, again.stored) == (whole.letters, whole.stored)
    assert again.blocks == []


def go_on(bank, kept, first):
    """Count from a sequence on, and return what is to be kept."""
    partition = TopicPartition(bank.prefix + "decisions", 0)
    with contextlib.closing(Counting(bank.bootstrap, bank.prefix, bank.engine, kept)) as counting:
        ends = counting.ends()
        records = [each for each in read_topic(bank.bootstrap, partition.topic) if each.offset >= first]
        heads = [(each.offset, head_of(each.value)) for each in records]
        counting.take(heads)
        assert counting.balance(ends, NOW // 1000).imbalance == 0
    return kept


def test_the_command_prints_the_equations_and_exits_by_them(bank, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", bank.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", bank.prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    entries, letters = bank.entries()
    bank.write(entries, letters)
    bank.store()
    assert cli.run(["conservation"]) == 0
    assert capsys.readouterr().out.endswith("balanced\n")
    bank.write(entries[:1], [])
    assert cli.run(["conservation", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["imbalance"] == 1
    assert [each["name"] for each in said["equations"] if each["left"] != each["right"]] == ["once"]


@pytest.mark.slow
def test_counts_balance_at_all_times_while_scorers_are_killed(kafka, topic_prefix, tmp_path):
    """No model answers here: conservation does not need one."""
    bank = Bank(kafka.bootstrap, topic_prefix, tmp_path)
    environ = {
        "PLUMBLINE_KAFKA_BOOTSTRAP": kafka.bootstrap, "PLUMBLINE_TOPIC_PREFIX": topic_prefix,
        "PLUMBLINE_MODEL_SERVER": "127.0.0.1:9", "PLUMBLINE_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip
    partition = TopicPartition(topic_prefix + "decisions", 0)
    stream = Stream(kafka.bootstrap, topic_prefix)
    scorers, rounds, kept = [], [], Kept()
    try:
        with (
            contextlib.closing(Counting(kafka.bootstrap, topic_prefix, bank.engine, kept)) as counting,
            contextlib.closing(reader(kafka.bootstrap, {partition: 0}, most_records=5000)) as records,
        ):

            def one_round():
                ends = counting.ends()
                end = end_offsets(kafka.bootstrap, [partition.topic])[partition]
                while records.position(partition) < end:
                    for found in records.poll(timeout_ms=100).values():
                        heads = [(each.offset, head_of(each.value)) for each in found]
                        counting.take(heads)
                bank.store()
                rounds.append(counting.balance(ends, NOW // 1000))

            for number in range(3):
                scorers.append(ScorerProcess(environ, tmp_path / f"score-{number}.log"))
                scorers[-1].wait_for("leading")
                for begin in range(10):
                    first = number * 1000 + begin * 20
                    stream.send(Topic.TRANSACTIONS, [(None, raw(payment(n))) for n in range(first, first + 20)])
                    stream.send(Topic.LABELS, [(None, b"no label")])
                    one_round()
                scorers[-1].kill()
            scorers.append(ScorerProcess(environ, tmp_path / "score-last.log"))
            while not rounds or rounds[-1].waiting or not counting.settled:
                one_round()
            one_round()
    finally:
        for each in scorers:
            each.end()
        stream.close()
        bank.close()
    assert [unequal(each) for each in rounds if each.imbalance] == []
    assert rounds[-1].kinds["decision"] == 600
    assert rounds[-1].kinds["assignment"] == 0
    assert rounds[-1].kinds["begun"] == 4  # begun, declaration, policy, sources
    assert rounds[-1].kinds["stored"] == 600 + 30 + 2
    assert rounds[-1].kinds["letters"] == rounds[-1].kinds["rejected"] == 30


def test_how_versions_answered_is_counted_apart_and_balances_with_sql(bank):
    def answered(role, *sequences):
        return journal.Answered(
            version=2, role=role, rows=1, micros=1, sequences=sequences, values=(0.5,) * len(sequences),
            journaled_at=NOW,
        )  # fmt: skip

    entries, letters = bank.entries()
    bank.write([answered("champion"), answered("canary"), *entries, answered("shadow", 3)], letters)
    bank.store()
    counted = bank.count()
    assert counted.imbalance == 0, counted.equations
    assert (counted.kinds["answered"], counted.kinds["begun"], counted.kinds["stored"]) == (3, 3, 53)
