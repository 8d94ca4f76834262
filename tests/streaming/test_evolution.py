"""A new window while the stream runs: declared, trained on, prepared, scored beside the old model, and switched to.

The old model learnt nothing, and the new one has few features: what is tested is how one follows the other.
"""

import itertools
import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from audit.recorded import entries
from demo.watch import Watch
from features import grammar
from features.declaration import DECLARATION
from features.grammar import Feature, Measure
from plumbline.decision import Decision
from plumbline.journal import AssignmentApplied
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker
from streaming.parts import start, step
from tests.declared_model import declared_models
from tests.scorer_process import ANY_AGE
from training.files import card_of

PATIENCE_SECONDS = 120.0


class Bank:
    """A bank on this machine: an archive, a model of the first declaration, and every part that scores."""

    def __init__(self, folder: Path, first: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
        self.archive, self.models = folder / "archive", folder / "models" / "plumbline"
        self.step(
            "simulate",
            "--to",
            self.archive,
            "--accounts",
            "150",
            "--fraud-rate",
            "0.03",
            "--start",
            "2026-01-01",
            "--days",
            "80",
        )
        shutil.copytree(first, self.models)
        self.broker = stack.enter_context(LocalBroker(folder))
        self.environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = self.broker.bootstrap
        self.environ |= ANY_AGE
        self.step("topics")
        self.step("backfill", "--archive", self.archive, "--until", "2026-03-01")
        self.serve = self.part(
            "serve", "--model-base-path", self.models, "--port", "0", "--no-rest", "--keep-versions", "2",
            "--json-ready",
        )  # fmt: skip
        self.environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{self.serve.wait_for(state='serving')['port']}"
        self.score = self.part("score", "--json")
        self.score.wait_for(state="leading")

    def step(self, *arguments):
        """What a verb prints as JSON."""
        printed = step(self.environ, *map(str, arguments), "--json")
        return json.loads(printed.splitlines()[-1])

    def train(self, *options):
        """The next version, of one epoch on two devices."""
        days = ["--train", "2026-01-15..2026-02-08", "--test", "2026-02-16..2026-02-28"]
        return self.step("train", "--archive", self.archive, *days, "--epochs", "1", "--devices", "2", *options)

    def part(self, verb, *arguments):
        made = start(verb, self.environ, self.folder / "logs", [verb, *map(str, arguments)])
        self.stack.callback(made.stop)
        return made

    def decisions(self, first=0):
        """Decisions so far, with their sequence numbers."""
        found = itertools.chain.from_iterable(entries(self.broker.bootstrap, "", first, None))
        return [(sequence, each) for sequence, each in found if isinstance(each, Decision)]

    def until(self, true):
        """Wait until the newest decision is as wanted; returns its sequence number."""
        end = time.monotonic() + PATIENCE_SECONDS
        first = 0
        while time.monotonic() < end:
            found = self.decisions(first)
            if found and true(found[-1][1]):
                return found[-1][0]
            first = found[-1][0] if found else first
            assert not self.score.child.ended.wait(0.1), self.score.obituary()
        raise AssertionError(f"not within {PATIENCE_SECONDS} s; {self.score.log.read_text()[-2000:]}")

    def audit(self, *options):
        found = self.step("audit", "--no-record", *options)
        assert found["different"] == 0, found
        return found


def wider() -> grammar.Declaration:
    """Today's history and a window of 14 days, which a few of today's features and one more read."""
    fields = grammar.fields_of(DECLARATION)
    fields["history"] = [*fields["history"], msgspec.to_builtins(Measure("account", "count", "14d"))]
    named = Feature("account_count_14d_log", "log", ("account_count_14d",), "payments in 14 days", "14 天交易笔数")
    few = (*DECLARATION.numbers[:6], *DECLARATION.categories[:2], named)
    fields["features"] = [msgspec.to_builtins(each) for each in few]
    return grammar.from_fields(fields)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_window_is_added_and_its_model_takes_over_without_a_stop(tmp_path, tmp_path_factory):
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    declared = wider()
    old, new = DECLARATION.fingerprint, declared.fingerprint
    (tmp_path / "next.json").write_bytes(grammar.encode(declared))
    with ExitStack() as stack:
        bank = Bank(tmp_path / "data", declared_models(tmp_path_factory), stack)
        watch = Watch(bank.broker.bootstrap)
        stack.callback(watch.close)
        play = bank.part("play", "--archive", bank.archive, "--since", "2026-03-01", "--rate", "9", "--json")
        bank.until(lambda newest: newest.fingerprint == old)
        trained = bank.train("--declaration", tmp_path / "next.json")
        assert (trained["version"], trained["folder"]) == (2, str(bank.models / "2"))
        card = card_of(bank.models / "2")
        assert (card["metrics"]["ap"], card["metrics"]["auc"]) == (trained["ap"], trained["auc"])
        assert card["feature_names"] == list(declared.feature_names)
        assert card["metrics"]["auc_unblocked"] > 0.6
        assert list((bank.folder / "tensorboard").rglob("events.*"))
        assert sorted(each.name for each in bank.models.iterdir()) == ["1", "2"]
        bank.serve.wait_for(state="serving", version=2)
        prepared = bank.step("prepare", bank.models / "2")
        assert prepared["fingerprint"] == new
        bank.step("prepare", bank.models / "2")
        bank.step("assign", "--decides", "1", "--shadow", "2")
        begun = bank.until(lambda newest: newest.other_histories and newest.fingerprint == old)
        during = bank.audit()
        bank.step("assign", "--decides", "2", "--shadow", "1")
        bank.until(lambda newest: newest.other_histories and newest.fingerprint == new)
        bank.step("assign", "--decides", "2")
        last = bank.until(lambda newest: not newest.other_histories and newest.fingerprint == new)
        play.stop()
        sent = next(each["transactions"] for each in reversed(play.said()) if "transactions" in each)
        assert watch.wait_for(sent, PATIENCE_SECONDS)
        after = bank.audit()

        decisions = bank.decisions()
        assert len(decisions) == sent == after["compared"]
        assert {each.fingerprint for _, each in decisions} == {old, new}
        assert all(each.scores for _, each in decisions), "no decision went without its model"
        assert decisions[-1][1].other_histories == ()
        assert last <= decisions[-1][0]
        applied = [each for chunk in entries(bank.broker.bootstrap, "", 0, None) for _, each in chunk
                   if isinstance(each, AssignmentApplied)]  # fmt: skip
        assert [each.fingerprints for each in applied] == [(), (old, new), (new, old), (new,)]
        times = [each.decided_at for _, each in decisions]
        longest_ms = max(later - earlier for earlier, later in itertools.pairwise(times)) / 1000
        print(f"longest time between two decisions: {longest_ms:.0f} ms")
        assert 0 < during["compared"] < after["compared"]
        assert begun < during["last_sequence"]

        # A scorer that starts anew meets the assignments in the journal and comes to the same state.
        bank.score.stop()
        for each in (bank.folder / "snapshots").iterdir():
            if not each.name.startswith("-"):
                shutil.rmtree(each)
        again = bank.part("score", "--json")
        again.wait_for(state="leading")
        again.stop()
        assert bank.step("snapshot", "--verify", "--archive", bank.archive)["bad"] == 0
