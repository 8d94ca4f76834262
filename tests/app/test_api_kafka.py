"""The decision API as a real process between real callers, a real broker, a scorer and a model server."""

import json
import random
import signal
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import msgspec
import pytest

from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Conflict
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker
from tests.api_process import ApiProcess, Client, cli_json, prepare_store
from tests.declared_model import declared_models
from tests.fakes import payment
from tests.scorer_process import check_conserved
from tests.scorer_site import Site
from tests.serving_process import ModelServer, until

pytestmark = pytest.mark.slow

RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api-model")
    with ModelServer(declared_models(tmp_path_factory), folder / "serve.log") as running:
        running.wait_for("serving")
        yield running


class ApiSite(Site):
    """A site with a database, a key, and APIs that leave no trace of it."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.key = prepare_store(self.environ)
        self.apis = []

    def api(self, **settings):
        more = {f"PLUMBLINE_{name.upper()}": str(value) for name, value in settings.items()}
        made = ApiProcess(self.environ | more, self.folder / f"api-{len(self.apis)}.log")
        self.apis.append(made)
        return made.wait_ready()

    def client(self, api):
        return Client(api.port, self.key)

    def entries(self, kind):
        return [(sequence, each) for sequence, each in self.journal.entries if isinstance(each, kind)]

    def close(self):
        for each in self.apis:
            each.end()
        super().close()


@pytest.fixture(scope="module")
def site(kafka, server, tmp_path_factory):
    """One site for all tests that leave it as it was; each has transaction ids of its own."""
    made = ApiSite(kafka.bootstrap, f"t{uuid.uuid4().hex[:12]}.", server.target, tmp_path_factory.mktemp("api"))
    made.scorer().wait_for("leading")
    yield made
    made.close()


def journaled(site, ids):
    """Every journal entry by sequence, once these ids are decided."""
    site.journal.until(lambda: ids <= decided(site).keys(), f"{len(ids)} decisions")
    return dict(site.journal.entries)


def read_past_now(site, api, number):
    """Read the journal to the decision on a new payment: whatever was sent before it has its entry by then."""
    assert ask(site, api, payment(number), 5000).status == 200
    journaled(site, {f"t{number}"})


def decided(site):
    """How often each id was decided."""
    return Counter(each.transaction.transaction_id for each in site.journal.decisions())


def test_the_answer_is_the_journals_to_the_byte_and_repeats_get_it_from_any_process(site):
    first, second = site.api(), site.api(api_remembered_decisions=1)
    with site.client(first) as one, site.client(second) as other:
        replies = [one.decide(payment(n), deadline_ms=5000) for n in range(20)]
        assert {reply.status for reply in replies} == {200}
        entries = journaled(site, {f"t{n}" for n in range(20)})
        for n, reply in enumerate(replies):
            parts = RAW.decode(reply.raw)
            decision = entries[int(bytes(parts["sequence"]))]
            assert bytes(parts["decision"]) == journal.encode(decision)
            assert (reply.body["decided"], reply.body["fallback"]) == (True, False)
            assert decision.transaction.transaction_id == reply.body["transaction_id"] == f"t{n}"
            assert decision.outcome.value == reply.body["outcome"]
            assert decision.scores, "the model was asked"
        # From memory, from the journal by way of the scorer's conflict, and by reading.
        assert one.decide(payment(3)).raw == replies[3].raw
        assert other.decide(payment(3), deadline_ms=5000).raw == replies[3].raw
        cli_json(site.environ, "ledger", "--once")
        assert other.get("/v1/decisions/t5").raw == replies[5].raw

        changed = one.decide(payment(3, amount_minor=1))
        assert (changed.status, changed.headers["Content-Type"]) == (409, "application/problem+json")
        assert changed.body["first"] == replies[3].body
        assert other.decide(payment(4, amount_minor=1), deadline_ms=5000).body["first"] == replies[4].body
        assert one.get("/v1/decisions/nobody").status == 404
    for api in (first, second):
        api.kill()
    third = site.api()
    with site.client(third) as client:
        begun = time.monotonic()
        assert [client.decide(payment(n)).raw for n in range(20)] == [reply.raw for reply in replies]
        print(f"20 repeats after a restart in {time.monotonic() - begun:.2f} s")
    read_past_now(site, third, 20)
    assert set(decided(site).values()) == {1}
    assert len(site.entries(Conflict)) == 2, "a restarted process answers from what it read back, and sends nothing"
    assert third.stop() == 0


def test_one_id_at_once_from_many_callers_of_two_processes_is_one_decision(site):
    apis = [site.api(), site.api()]
    before = len(site.entries(Conflict))
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda n: ask(site, apis[n % 2], payment(107), 5000), range(24)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.raw for reply in replies}) == 1
    read_past_now(site, apis[0], 108)
    assert len(site.entries(Conflict)) <= before + 1, "each process sends it once at most"
    assert decided(site)["t107"] == 1


def test_a_missed_deadline_is_the_fallback_and_the_decision_comes_later(site):
    (scorer,) = site.scorers
    api, strict = site.api(), site.api(api_fallback="decline", api_callers_max=2)
    with site.client(api) as client, site.client(strict) as other:
        assert client.decide(payment(200), deadline_ms=5000).body["decided"]
        scorer.signal(signal.SIGSTOP)
        until(lambda: stands_still(scorer.process.pid))
        begun = time.monotonic()
        late = client.decide(payment(201), deadline_ms=150)
        assert 0.15 <= time.monotonic() - begun < 3
        facts = {"transaction_id": "t201", "decided": False, "fallback": True, "fallback_reason": "deadline"}
        assert (late.status, late.body) == (200, {**facts, "outcome": "review"})
        assert other.decide(payment(202), deadline_ms=100).body["outcome"] == "decline"
        assert client.get("/v1/decisions/t201").body["detail"].endswith("is in Kafka and not decided yet")
        assert client.decide(payment(201, amount_minor=1), deadline_ms=50).status == 409

        with ThreadPoolExecutor(6) as pool:
            crowd = list(pool.map(lambda n: ask(site, strict, payment(n), 1500), range(210, 216)))
        assert sorted(reply.status for reply in crowd) == [200, 200, 503, 503, 503, 503]
        busy = next(reply for reply in crowd if reply.status == 503)
        assert (busy.body["type"], busy.headers["Retry-After"]) == ("urn:plumbline:problem:busy", "1")

        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(client.decide, payment(201), 5000)
            scorer.signal(signal.SIGCONT)
            answer = again.result()
    assert answer.body["decided"], "a repeat waits for the decision that is on its way"
    taken = {reply.body["transaction_id"] for reply in crowd if reply.status == 200}
    entries = journaled(site, {"t200", "t201", "t202"} | taken)
    assert bytes(RAW.decode(answer.raw)["decision"]) == journal.encode(entries[answer.body["sequence"]])
    read_past_now(site, api, 250)
    never = {f"t{n}" for n in range(210, 216)} - taken
    assert not never & decided(site).keys(), "what was answered busy was never written"


def ask(site, api, body, deadline_ms):
    with site.client(api) as client:
        return client.decide(body, deadline_ms)


def test_killed_while_callers_ask_and_asked_again_nothing_is_lost_or_doubled(kafka, topic_prefix, server, tmp_path):
    site = ApiSite(kafka.bootstrap, topic_prefix, server.target, tmp_path)
    try:
        _kill_while_callers_ask(site)
    finally:
        site.close()


def _kill_while_callers_ask(site):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    site.scorer().wait_for("leading")
    place = {"api": site.api()}
    answers = {}
    enough = threading.Event()
    numbers = iter(range(10**6))

    def platform(_):
        while not enough.is_set():
            n = next(numbers)
            while n not in answers:  # as a platform does: again, until it is told
                try:
                    reply = ask(site, place["api"], payment(n), 2000)
                except (OSError, HTTPException):
                    enough.wait(0.05)
                    continue
                if reply.status == 200 and reply.body["decided"]:
                    answers[n] = reply.raw

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(platform, n) for n in range(4)]
        try:
            for _ in range(2):
                wanted = len(answers) + 60
                until(lambda wanted=wanted: len(answers) > wanted, 60)
                time.sleep(draw.random() * 0.2)  # the moment of the kill is what is random here
                place["api"].kill()
                place["api"] = site.api()
            until(lambda wanted=len(answers) + 60: len(answers) > wanted, 60)
        finally:
            enough.set()
        for each in callers:
            each.result()
    entries = journaled(site, {f"t{n}" for n in answers})
    assert decided(site) == {f"t{n}": 1 for n in answers}, "each of them once"
    for raw in answers.values():
        parts = RAW.decode(raw)
        assert bytes(parts["decision"]) == journal.encode(entries[int(bytes(parts["sequence"]))])
    check_conserved(site.journal, Sent(site))


class Sent:
    """What the transactions topic holds, for whom `check_conserved` expects a stream."""

    def __init__(self, site):
        from streaming.kafka import end_offsets

        topic = f"{site.prefix}transactions"
        site.journal.until(lambda: len(site.journal.sources()) >= sum(self.counts(end_offsets, site, topic)), "all")
        ends = end_offsets(site.bootstrap, [topic])
        self.sent = {(topic, each.partition): end for each, end in ends.items()}

    @staticmethod
    def counts(end_offsets, site, topic):
        return end_offsets(site.bootstrap, [topic]).values()


def stands_still(pid):
    """Whether SIGSTOP has reached a process: on a busy machine it may answer once more."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_without_a_broker_nothing_is_pretended_and_its_return_is_found(server, tmp_path):
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    with LocalBroker(tmp_path / "broker") as broker:
        site = ApiSite(broker.bootstrap, "", server.target, tmp_path, api_deadline_max_ms=1500)
        try:
            site.scorer().wait_for("leading")
            api = site.api()
            with site.client(api) as client:
                assert client.decide(payment(0), 1500).body["decided"]
                broker.pause()
                until(lambda: stands_still(broker.pid))
                unknown = client.decide(payment(1), 300)
                assert (unknown.status, unknown.body["type"]) == (503, "urn:plumbline:problem:not-taken")
                assert "it may still be written" in unknown.body["detail"]
                broker.resume()
                assert client.decide(payment(1), 1500).status in {200, 503}

                broker.kill()
                replies = [client.decide(payment(n), 300) for n in range(2, 6)]
                assert {(reply.status, reply.body["type"]) for reply in replies} == {
                    (503, "urn:plumbline:problem:not-taken")
                }
                until(lambda: "nothing was written" in client.decide(payment(6), 300).body["detail"], 30)
                begun = time.monotonic()
                assert client.decide(payment(7), 1500).status == 503
                assert time.monotonic() - begun < 0.5, "a broker that is known to be away is not waited for"
                assert client.get("/readyz").status == 503

                broker.start()
                until(lambda: client.get("/readyz").status == 200, 60)

                def until_decided(n):
                    return until(lambda: (body := client.decide(payment(n), 1500).body).get("decided") and body, 60)

                found = {n: until_decided(n) for n in range(8)}
            ids = {f"t{n}" for n in range(8)}
            journaled(site, ids)
            assert decided(site) == dict.fromkeys(ids, 1), "each of them once, however often it was asked"
            by_sequence = dict(site.entries(Decision))
            for n, body in found.items():
                assert by_sequence[body["sequence"]].transaction.transaction_id == f"t{n}"
                assert json.loads(journal.encode(by_sequence[body["sequence"]])) == body["decision"]
            check_conserved(site.journal, Sent(site))
        finally:
            site.close()
