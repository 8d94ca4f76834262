"""The scorer as a real process, with a real broker and a real model server, each killed while messages flow."""

import random
import signal
import time

import msgspec
import pytest

from plumbline.decision import MODEL_UNAVAILABLE, Decision, Outcome
from plumbline.journal import Conflict, ControlApplied, LabelApplied, Rejected
from plumbline.message import RAW_MAX_BYTES
from plumbline.names import Topic
from plumbline.policy import Policy
from plumbline.policy import encode as encode_policy
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker
from streaming.snapshot import manifest_of, newest, sealed, sequences
from tests.declared_model import declared_models
from tests.fakes import payment, raw, told
from tests.scorer_process import ScorerProcess, check_conserved, dead_letters
from tests.scorer_site import Flow, Site
from tests.serving_process import ModelServer

pytestmark = pytest.mark.slow

KILLS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One model server for the tests that leave it alone."""
    folder = tmp_path_factory.mktemp("scorer")
    with ModelServer(declared_models(tmp_path_factory), folder / "serve.log") as running:
        running.wait_for("serving")
        yield running


@pytest.fixture
def site(kafka, topic_prefix, server, tmp_path):
    made = Site(kafka.bootstrap, topic_prefix, server.target, tmp_path)
    yield made
    made.close()


def test_a_stream_with_bad_messages_is_decided_whole_and_a_stop_leaves_a_snapshot(site):
    scorer = site.scorer()
    scorer.wait_for("leading")
    policy = Policy(version="strict", review_at=0.0, decline_at=1.0)
    site.stream.send(Topic.CONTROL, [(b"policy", encode_policy(policy)), (b"policy", b"no policy")])
    site.journal.until_answered(site.stream)
    site.pay(300)
    bad = [raw(payment(1, amount_minor=-5)), b"\xff\xfe", b"", raw(payment(2)) * 40]
    site.stream.send(Topic.TRANSACTIONS, [(b"a1", each) for each in bad])
    site.stream.send(
        Topic.TRANSACTIONS, [(b"a1", None), (b"a1", raw(payment(1))), (b"a1", raw(payment(3, mcc="0000")))]
    )
    site.journal.until_answered(site.stream)
    site.stream.send(Topic.LABELS, [(b"t5", raw(told(1, 5))), (b"t5", raw(told(2, 5))), (b"x", b"{}")])
    site.pay(300)
    site.journal.until_answered(site.stream)
    check_conserved(site.journal, site.stream)

    by_kind = {kind: [each for _, each in site.journal.entries if isinstance(each, kind)]
               for kind in (ControlApplied, Decision, LabelApplied, Conflict, Rejected)}  # fmt: skip
    assert [each.policy.version for each in by_kind[ControlApplied]] == ["review-all", "strict"]
    assert len(by_kind[Decision]) == 600
    assert {each.outcome for each in by_kind[Decision]} == {Outcome.REVIEW}
    assert all(each.scores and each.reasons[0].kind == "feature" for each in by_kind[Decision])
    assert [each.effect for each in by_kind[LabelApplied]] == ["counted", "repeated"]
    assert sorted(each.identical for each in by_kind[Conflict]) == [False, True]
    letters = dead_letters(site.bootstrap, site.prefix, 7)
    assert sorted(each.raw for each in letters) == sorted(
        [each[:RAW_MAX_BYTES] for each in (*bad, b"", b"{}", b"no policy")]
    )
    assert [each.source for each in letters] == [each.source for each in by_kind[Rejected]]
    negative = next(each for each in letters if each.raw == bad[0])
    assert (negative.field, negative.allowed) == ("amount_minor", "an integer from 0 to 1000000000000")

    assert scorer.stop() == 0
    state, refused = newest(site.folder / "data" / "snapshots", 1_000_000)
    assert (state.sequence, refused) == (site.journal.entries[-1][0], [])
    again = site.scorer()
    assert again.wait_for("standing by")["sequence"] == state.sequence
    site.pay(50)
    site.journal.until_answered(site.stream)
    check_conserved(site.journal, site.stream)


def test_killed_at_random_while_messages_flow_nothing_is_lost_doubled_or_out_of_order(
    kafka, topic_prefix, server, tmp_path
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    # Many snapshots, so that some kills meet one half-written.
    site = Site(kafka.bootstrap, topic_prefix, server.target, tmp_path, snapshot_every_transactions=1000)
    try:
        with Flow(site):
            for _ in range(KILLS):
                scorer = site.scorer()
                scorer.wait_for("leading")
                site.journal.until_more()
                time.sleep(draw.random() * 0.7)  # the moment of the kill is what is random here
                scorer.kill()
            site.scorer().wait_for("leading")
            site.journal.until_more(200)
        site.journal.until_answered(site.stream)
        check_conserved(site.journal, site.stream)
        assert len(site.journal.decisions()) == site.paid
    finally:
        site.close()


def test_a_standby_joins_without_disturbing_takes_over_and_a_leader_that_wakes_up_is_fenced(site):
    first = site.scorer()
    first.wait_for("leading")
    with Flow(site):
        second = site.scorer()
        second.wait_for("standing by")
        site.journal.until_more(300)
        assert [each["state"] for each in first.states] == ["standing by", "leading"], "it led all the time"

        begun = time.monotonic()
        first.signal(signal.SIGSTOP)
        second.wait_for("leading")
        print(f"take-over after {time.monotonic() - begun:.1f} s")
        site.journal.until_more(300)
        first.signal(signal.SIGCONT)
        first.wait_for("standing by", after=2)
        site.journal.until_more(300)
        assert [each["state"] for each in second.states] == ["standing by", "leading"]

        second.kill()
        first.wait_for("leading", after=3)
        site.journal.until_more(300)
    site.journal.until_answered(site.stream)
    check_conserved(site.journal, site.stream)
    assert first.stop() == 0


def test_a_leader_that_leaves_hands_over_at_once(site):
    first = site.scorer()
    first.wait_for("leading")
    second = site.scorer()
    second.wait_for("standing by")
    site.pay(100)
    site.journal.until_answered(site.stream)
    assert first.stop() == 0
    second.wait_for("leading")
    site.pay(100)
    site.journal.until_answered(site.stream)
    check_conserved(site.journal, site.stream)


def test_a_model_server_that_hangs_or_dies_means_review_and_its_return_is_found(
    kafka, topic_prefix, tmp_path, tmp_path_factory
):
    model = ModelServer(declared_models(tmp_path_factory), tmp_path / "serve.log")
    site = None
    try:
        model.start()
        model.wait_for("serving")
        site = Site(kafka.bootstrap, topic_prefix, model.target, tmp_path, model_deadline_ms=300)
        lax = Policy(version="lax", review_at=2.0, decline_at=2.0)
        site.stream.send(Topic.CONTROL, [(b"policy", encode_policy(lax))])
        site.scorer().wait_for("leading")

        def answered(by_model):
            """Pay until the newest decision was made with, or without, a score."""
            site.pay(20)
            begun = time.monotonic()
            while bool(site.journal.decisions()[-1:] and site.journal.decisions()[-1].scores) is not by_model:
                site.pay(1)
                site.journal.until_answered(site.stream, 10)
                assert time.monotonic() - begun < 60
            return time.monotonic() - begun

        answered(True)
        model.signal(signal.SIGSTOP)
        assert answered(False) < 10
        model.signal(signal.SIGCONT)
        print(f"found again after {answered(True):.1f} s")
        model.kill()
        assert answered(False) < 10
        model.start()
        model.wait_for("serving")
        print(f"found again after {answered(True):.1f} s")

        check_conserved(site.journal, site.stream)
        unscored = [each for each in site.journal.decisions() if not each.scores]
        assert {(each.outcome, each.reasons) for each in unscored} == {(Outcome.REVIEW, (MODEL_UNAVAILABLE,))}
        scored = {each.outcome for each in site.journal.decisions() if each.scores}
        assert scored == {Outcome.APPROVE}
    finally:
        if site is not None:
            site.close()
        model.stop()


def test_the_broker_is_restarted_and_killed_and_nothing_is_lost_or_doubled(server, tmp_path):
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    with LocalBroker(tmp_path / "broker") as broker:
        site = Site(broker.bootstrap, "", server.target, tmp_path)
        try:
            scorer = site.scorer()
            scorer.wait_for("leading")
            with Flow(site, count=5, pause=0.05):
                site.journal.until_more(100)
                broker.restart()
                site.journal.until_more(100)
                broker.kill()
                broker.start()
                site.journal.until_more(100)
            site.journal.until_answered(site.stream)
            check_conserved(site.journal, site.stream)
            assert len(site.journal.decisions()) == site.paid
            assert scorer.stop() == 0
        finally:
            site.close()


def test_snapshots_that_do_not_belong_to_the_journal_are_one_sentence_and_exit_1(site):
    scorer = site.scorer()
    scorer.wait_for("leading")
    site.pay(30)
    site.journal.until_answered(site.stream)
    assert scorer.stop() == 0
    folder = site.folder / "data" / "snapshots"
    (sequence,) = sequences(folder)
    manifest = folder / str(sequence) / "manifest.json"
    manifest.write_bytes(sealed(msgspec.structs.replace(manifest_of(manifest.parent), sequence=10**6)))
    again = site.scorer()
    assert again.process.wait(60) == 1
    assert "the journal was cut short or created again" in again.log.read_text()


def test_without_a_broker_it_waits_and_a_stop_ends_it(server, tmp_path):
    environ = {"PLUMBLINE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "PLUMBLINE_MODEL_SERVER": server.target}
    scorer = ScorerProcess(environ | {"PLUMBLINE_DATA_DIR": str(tmp_path)}, tmp_path / "score.log")
    try:
        end = time.monotonic() + 60
        while "starting over" not in scorer.log.read_text() and time.monotonic() < end:
            assert scorer.process.poll() is None
            time.sleep(0.1)  # another process's log
        assert "Kafka does not answer at 127.0.0.1:1" in scorer.log.read_text()
        assert scorer.stop() == 0
    finally:
        scorer.end()
