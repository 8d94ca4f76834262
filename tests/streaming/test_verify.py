"""`plumbline snapshot --verify`: what it calls equal is what the journal says, and what is not is named."""

import json
import random

import numpy as np
import pytest
from kafka import TopicPartition

from archive.layout import open_archive
from audit.report import Report, Tally
from audit.snapshots import compare_snapshots
from plumbline.cli import main as cli
from plumbline.journal import ControlApplied
from plumbline.policy import DEFAULT_POLICY, Policy
from plumbline.policy import encode as encode_policy
from streaming.batch import Batch, process
from streaming.journaling import Journaling
from streaming.kafka import transactional_producer
from streaming.known import Known
from streaming.snapshot import FORMAT, freeze, read, write
from streaming.state import CaughtUp, State
from streaming.topics import ensure_topics
from streaming.verify import differences
from tests.archived import backfilled
from tests.fakes import NOW, Numbered, fake_model, payment, raw, told

REMEMBERED = 4_000_000


class Leader:
    """A leader without its process: batches of any size into a real journal, a snapshot whenever asked, restarts."""

    def __init__(self, bootstrap, prefix, folder, state=None):
        ensure_topics(bootstrap, prefix, 1)
        self.folder = folder / "snapshots"
        self.producer = transactional_producer(bootstrap, f"{prefix}test", 30_000)
        self.journaling = Journaling(
            self.producer, TopicPartition(f"{prefix}decisions", 0), f"{prefix}transactions.dead-letter"
        )
        self.topics = {name: Numbered(f"{prefix}{name}") for name in ("transactions", "labels", "control")}
        self.state = state or State(Known(REMEMBERED), policy=DEFAULT_POLICY)
        self.write(Batch(entries=[ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)]))
        self.state.policy = DEFAULT_POLICY

    def write(self, batch):
        self.journaling.begin(batch)
        self.state.sequence = self.journaling.settle().sequence

    def take(self, **values):
        """One micro-batch of these raw messages."""
        messages = {name: [self.topics[f"{name}s".replace("controls", "control")].message(each) for each in found]
                    for name, found in values.items()}  # fmt: skip
        self.write(process(self.state, fake_model(), **messages, now_us=NOW))

    def snapshot(self):
        return write(self.folder, freeze(CaughtUp(self.state)))

    def restart(self):
        """Go on from the newest snapshot, as after a crash right behind it."""
        self.state = read(self.folder / str(self.state.sequence), REMEMBERED)

    def close(self):
        with self.journaling:
            self.producer.close()


@pytest.fixture
def leader(kafka, topic_prefix, tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    made = Leader(kafka.bootstrap, topic_prefix, tmp_path)
    yield made
    made.close()


def verified(capsys, *options):
    """Exit code and what the verb prints as JSON."""
    code = cli.run(["snapshot", "--verify", "--json", *options])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def busy(leader, draw, batches):
    """Random batches of payments, repetitions, labels, nonsense and policies."""
    for _ in range(batches):
        paid = leader.topics["transactions"].next
        new = [raw(payment(n, account_id=f"a{draw.randrange(5)}")) for n in range(paid, paid + draw.randrange(1, 30))]
        old = [raw(payment(draw.randrange(paid + 1), account_id="a9")), b"nonsense"]
        leader.take(
            transaction=draw.sample(new + old, len(new + old)),
            label=[raw(told(paid + n, draw.randrange(paid + 1))) for n in range(draw.randrange(3))],
            control=[encode_policy(Policy(version=f"p{paid}"))] * draw.randrange(2),
        )


def test_snapshots_of_any_batches_and_restarts_are_equal_to_the_journal(leader, capsys):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    busy(leader, draw, 8)
    leader.snapshot()
    leader.restart()
    busy(leader, draw, 6)
    leader.snapshot()
    code, found = verified(capsys)
    assert (code, found["bad"]) == (0, 0), found
    assert [each["sequence"] for each in found["snapshots"]] == sorted(each["sequence"] for each in found["snapshots"])
    assert [(each["equal"], each["format"], each["archive_digest"]) for each in found["snapshots"]] == [
        (True, FORMAT, "")
    ] * 2
    assert all(each["bytes"] > 1000 and len(each["state_sha256"]) == 64 for each in found["snapshots"])


def amount(state):
    past = state.history.tables["account"]
    past.entries["total"][past.arrays()["offset"][0] + 3] += 1


def device(state):
    state.history.entities.keys["device"].slots(["another"])


def mark(state):
    state.known.mark_fraud(4)


def account_of(state):
    state.known.note(np.array([2]), np.array([1]), np.array([0]), np.array([NOW]))


def position(state):
    state.positions[next(iter(state.positions))] += 1


def policy(state):
    state.policy = Policy(version="never-published")


@pytest.mark.parametrize(
    ("change", "named"),
    [(amount, "table account, amount: at 3 "), (device, "entities, keys.device.text: "),
     (mark, "known transactions, fraud: at 4 True against False"), (account_of, "known transactions, account: at 2 "),
     (position, "positions"), (policy, "policy")],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_one_changed_number_under_a_right_digest_is_named(leader, capsys, change, named):
    leader.take(transaction=[raw(payment(n, account_id="a1")) for n in range(8)])
    leader.snapshot()
    leader.take(transaction=[raw(payment(n, account_id="a1")) for n in range(8, 12)])
    change(leader.state)
    leader.snapshot()
    code, found = verified(capsys)
    assert (code, found["bad"]) == (1, 1)
    good, bad = found["snapshots"]
    assert good["equal"]
    assert {each[: len(named)] for each in bad["different"][:1]} == {named}
    others = {each.partition(",")[0] for each in bad["different"][1:]} - {bad["different"][0].partition(",")[0]}
    assert others <= ({"policies"} if change is policy else set()), "nothing else is"


def test_a_damaged_one_and_one_ahead_of_the_journal_are_bad_and_the_rest_is_verified_all_the_same(leader, capsys):
    leader.take(transaction=[raw(payment(n)) for n in range(20)])
    damaged = leader.snapshot()
    (damaged / "state.npz").write_bytes(b"gone")
    leader.take(transaction=[raw(payment(n)) for n in range(20, 25)])
    leader.snapshot()
    code, found = verified(capsys)
    assert code == 1
    assert [each["equal"] for each in found["snapshots"]] == [False, True]
    assert "is damaged: its state's SHA-256" in found["snapshots"][0]["refused"]

    leader.state.sequence += 1000
    leader.snapshot()
    code, found = verified(capsys)
    assert code == 1
    assert [each["equal"] for each in found["snapshots"]] == [True, False]
    assert found["snapshots"][1]["different"][0].startswith("sequence (the journal ends before")


def test_the_audit_compares_the_snapshots_among_its_entries(leader, kafka, topic_prefix):
    leader.take(transaction=[raw(payment(n, account_id="a1")) for n in range(8)])
    good = leader.state.sequence
    leader.snapshot()
    leader.take(transaction=[raw(payment(n, account_id="a1")) for n in range(8, 12)])
    amount(leader.state)
    leader.snapshot()
    bad = leader.state.sequence

    def compared(last, *, to_the_end):
        report = Report()
        report.see(0)
        report.see(last)
        journal = TopicPartition(f"{topic_prefix}decisions", 0)
        compare_snapshots(
            report, leader.folder, kafka.bootstrap, journal, (None, None), REMEMBERED, to_the_end=to_the_end
        )
        return report

    assert compared(good, to_the_end=False).layers["snapshot"] == Tally(1, 0)
    for found in (compared(good, to_the_end=True), compared(bad, to_the_end=False)):
        assert found.layers["snapshot"] == Tally(2, 1)
        assert found.decisions_different == 1
        assert [(each.sequence, each.name[:14]) for each in found.differences] == [(bad, "table account,")]


def test_the_list_alone_needs_no_broker(leader, capsys, monkeypatch):
    leader.take(transaction=[raw(payment(1))])
    place = leader.snapshot()
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    assert cli.run(["snapshot"]) == 0
    assert "not verified" in capsys.readouterr().out
    (place / "manifest.json").write_text("{}")
    assert cli.run(["snapshot"]) == 1
    assert "no readable manifest" in capsys.readouterr().out


def test_a_journal_that_began_with_an_archive_is_folded_behind_it(kafka, topic_prefix, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    archive = tmp_path / "archive"
    made = ["simulate", "--to", str(archive), "--accounts", "20", "--days", "20", "--seed", "3", "--json"]
    assert cli.run(made) == 0
    state = backfilled(open_archive(archive), tmp_path / "snapshots", until_us=None, remembered=REMEMBERED)
    leader = Leader(kafka.bootstrap, topic_prefix, tmp_path, state)
    leader.take(transaction=[raw(payment(n)) for n in range(9)])
    leader.snapshot()
    leader.close()
    capsys.readouterr()
    code, found = verified(capsys)
    assert (code, found["snapshots"][0]["sequence"]) == (0, -1), found
    other = tmp_path / "other"
    assert cli.run([*made[:2], str(other), *made[3:-2], "4", "--json"]) == 0
    assert cli.run(["snapshot", "--verify", "--archive", str(other)]) == 1
    assert "say with PLUMBLINE_ARCHIVE (or --archive) where it is" in capsys.readouterr().err


def test_memories_of_different_sizes_are_compared_as_far_as_both_reach():
    small, large = State(Known(6), policy=DEFAULT_POLICY), State(Known(100), policy=DEFAULT_POLICY)
    for state in (small, large):
        topic = Numbered("transactions")
        process(state, fake_model(), transaction=[topic.message(raw(payment(n))) for n in range(20)], now_us=NOW)
    assert differences(small, large) == []
    small.known.mark_fraud(small.known.find("t18"))
    assert differences(small, large) == ["known transactions, fraud: at 4 True against False"]
