"""Real releases: a broker, a scorer, a model server and two people; and what happens when a step fails or is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from google.protobuf import text_format

from features.declaration import FEATURE_NAMES, HISTORY_NAMES
from plumbline.assignment import Arm
from plumbline.cli import main as cli
from plumbline.decision import Outcome
from plumbline.journal import AssignmentApplied, ControlApplied
from plumbline.policy import Policy
from plumbline.policy import encode as encode_policy
from release import thresholds
from release.carrying import STEPS
from serving import wire_pb2 as wire
from serving.columns import NUMBERS
from serving.models_client import model_versions
from store.engine import transaction
from store.models import DONE, REFUSED, changes, model_request, newest_requests
from streaming.control import publish
from tests.declared_model import declared_models
from tests.release.conftest import add_people
from tests.scorer_site import Site
from tests.serving_process import ModelServer
from training.files import file_digests

ROWS = 1100
VERSIONS = (1, 2, 3)


class Installation:
    """Everything that runs, once for all tests here; the server has its own copies of the versions."""

    def __init__(self, folder: Path, made: Path, kafka, prefix: str, server: ModelServer, served: Path) -> None:
        from plumbline.settings import load
        from store.engine import open_engine
        from store.schema import migrate

        self.folder, self.server, self.served = folder, server, served
        self.models = folder / "data" / "models" / "plumbline"
        for number in VERSIONS:
            for base in (self.models, served):
                copied(made / "1", base, number)
        server.wait_for("serving")
        self.site = Site(
            kafka.bootstrap, prefix, server.target, folder, model_server_base_path=served, model_deadline_ms=10_000
        )
        self.scorer = self.site.scorer()
        self.scorer.wait_for("leading")
        os.environ.update(self.site.environ)
        self.engine: sa.Engine = open_engine(load())
        migrate(self.engine)
        add_people(self.engine)
        self.site.pay(ROWS)
        self.site.journal.until_answered(self.site.stream)

    def applied(self) -> list[AssignmentApplied]:
        """Assignments in force so far, oldest first."""
        self.site.journal.until_end()
        found = [entry for _, entry in self.site.journal.entries if isinstance(entry, AssignmentApplied)]
        return [each for each in found if each.assignment is not None]

    def stages(self) -> dict[int, tuple[str, int]]:
        """Stage and share of every version."""
        from release.state import registry_of

        with transaction(self.engine) as session:
            return {number: (each.stage, each.per_mille) for number, each in registry_of(session).placed.items()}

    def pays(self) -> list:
        """What is decided from here on."""
        before = len(self.site.journal.decisions())
        self.site.pay(200)
        self.site.journal.until(lambda: len(self.site.journal.decisions()) >= before + 200, "200 more decisions")
        return self.site.journal.decisions()[before:]


def copied(source: Path, base: Path, number: int) -> None:
    """A version with the same graph under another number; it appears whole, as an export does."""
    base.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, base / f".{number}")
    card = base / f".{number}" / "assets.extra" / "plumbline.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "version": number}))
    (base / f".{number}").rename(base / str(number))


@pytest.fixture(scope="module")
def bank(tmp_path_factory, kafka):
    kept = dict(os.environ)
    folder = tmp_path_factory.mktemp("release")
    served = folder / "served"
    served.mkdir()
    with ModelServer(served, folder / "serve.log") as server:
        made = declared_models(tmp_path_factory)
        found = Installation(folder, made, kafka, f"t{os.urandom(6).hex()}.", server, served)
        yield found
        found.site.close()
        found.engine.dispose()
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def run(bank, capsys):
    def command(*words):
        code = cli.run(["models", *map(str, words)])
        written = capsys.readouterr()
        return code, written.out, written.err

    return command


def released(run, version, to, *more):
    """Ada asks, Bob allows."""
    assert run("promote", version, "--to", to, "--by", "ada@bank.example", *more)[0] == cli.DONE
    return run("promote", version, "--to", to, "--by", "bob@bank.example", "--approve", "--json", *more)


def test_a_version_comes_in_by_two_people_and_goes_again(bank, run):
    for number in VERSIONS:
        assert run("register", number)[0] == cli.DONE
    code, _, err = run("promote", 2, "--to", "champion", "--by", "cy@bank.example")
    assert (code, "cy@bank.example is analyst" in err) == (cli.FAILED, True)
    assert run("promote", 1, "--to", "champion", "--by", "ada@bank.example")[0] == cli.DONE
    code, _, err = run("promote", 1, "--to", "champion", "--by", "ADA@bank.example", "--approve")
    assert (code, "a second person must" in err) == (cli.FAILED, True)
    code, out, err = run("promote", 1, "--to", "champion", "--by", "bob@bank.example", "--approve", "--json")
    assert code == cli.DONE, err
    gate = json.loads(out)["parity"][0]
    assert (gate["compared"], gate["different_scores"], gate["different_features"]) == (ROWS, 0, 0)
    assert gate["features"] == len(FEATURE_NAMES)
    first = bank.applied()[-1].assignment
    assert (first.decides, first.arms, first.shadows) == (1, (), ())
    assert released(run, 2, "shadow", "--why", "a new window")[0] == cli.DONE
    assert released(run, 2, "canary", "--share", "5%")[0] == cli.DONE
    assigned = bank.applied()[-1].assignment
    assert (assigned.decides, assigned.arms, assigned.kind) == (1, (Arm(2, 50),), "canary")
    assert released(run, 2, "canary", "--share", "50%")[0] == cli.DONE
    text = run("config")[1]
    found = text_format.Parse(text, wire.ModelServerConfig()).model_config_list.config[0]
    assert (found.name, found.base_path) == ("plumbline", str(bank.served))
    assert (list(found.model_version_policy.specific.versions), dict(found.version_labels)) == (
        [1, 2], {"champion": 1, "canary": 2},
    )  # fmt: skip
    decided = bank.pays()
    assert {each.route for each in decided} == {"champion", "canary"}
    states = model_versions(bank.server.target, "plumbline", 10_000)
    assert {number for number, each in states.items() if each.state == "AVAILABLE"} == {1, 2}
    assert released(run, 2, "champion")[0] == cli.DONE
    assert bank.stages() == {1: ("retired", 0), 2: ("champion", 0), 3: ("candidate", 0)}
    assert {each.scores[0].model_version for each in bank.pays()} == {2}
    code, out, err = run("rollback", "--by", "eve@bank.example", "--why", "too many reviews", "--json")
    assert code == cli.DONE, err
    assert bank.stages() == {1: ("champion", 0), 2: ("retired", 0), 3: ("candidate", 0)}
    assert {each.scores[0].model_version for each in bank.pays()} == {1}
    with transaction(bank.engine) as session:
        history = [(each.from_stage, each.to_stage, each.asked_by, each.approved_by) for each in changes(session, 2)]
    people = ("ada@bank.example", "bob@bank.example")
    assert history[1:] == [
        ("candidate", "shadow", *people), ("shadow", "canary", *people), ("canary", "canary", *people),
        ("canary", "champion", *people), ("champion", "retired", "eve@bank.example", ""),
    ]  # fmt: skip


def test_a_server_that_computes_other_bits_is_refused(bank, run):
    """One weight of the version's copy on the server is another one; its files here are as they were."""
    graph = bank.served / "3" / "saved_model.pb"
    raw = graph.read_bytes()
    width = len(HISTORY_NAMES) + len(NUMBERS) - 1
    weights = np.random.default_rng(5).integers(-100, 100, (width, len(FEATURE_NAMES)))
    assert raw.count(weights.tobytes()) >= 1
    other = weights.copy()
    other[-1, 0] += 1
    graph.write_bytes(raw.replace(weights.tobytes(), other.tobytes()))
    before, applied = bank.stages(), len(bank.applied())
    code, _, err = released(run, 3, "shadow")
    assert code == cli.FAILED
    assert "version 3 at" in err
    assert f"of {ROWS} scores" in err or "of 1" in err
    assert "is not what its files are" in err
    assert (bank.stages(), len(bank.applied())) == (before, applied), "nothing of it came into force"
    with transaction(bank.engine) as session:
        request = newest_requests(session, 1)[0]
        assert (request.state, "is not what its files are" in request.evidence["error"]) == (REFUSED, True)


def test_changed_files_and_unserved_versions_are_refused(bank, run, another_number):
    another_number(4)
    assert run("register", 4)[0] == cli.DONE
    code, _, err = released(run, 4, "shadow", "--wait-seconds", 1)
    assert code == cli.FAILED
    assert "version 4 is unknown to it" in err
    file = bank.models / "4" / "saved_model.pb"
    raw = bytearray(file.read_bytes())
    raw[100] ^= 1
    file.write_bytes(raw)
    code, _, err = released(run, 4, "shadow")
    assert code == cli.FAILED
    assert "saved_model.pb was changed or is gone" in err


@pytest.fixture
def another_number(bank):
    def add(number):
        copied(bank.models / "1", bank.models, number)

    return add


def test_too_few_rows_prove_nothing(bank, run, monkeypatch):
    monkeypatch.setattr("release.parity.LEAST", 10_000_000)
    code, _, err = released(run, 2, "shadow")
    assert code == cli.FAILED
    assert "--few" in err
    assert released(run, 2, "shadow", "--few")[0] == cli.DONE


KILLED = """
import os, signal, sys
from plumbline.cli.models_site import site
from release import carrying
from store import releases

releases.LEASE_SECONDS = 1.0  # what a killed command holds up the next one for

def tell(step):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)

for at in sys.argv[2:]:  # each in a process of its own, which shares nothing but what was imported
    child = os.fork()
    if not child:
        with site() as (place, _):
            carrying.carry_out(place, int(sys.argv[1]), lambda version: {}, tell)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_after_any_step_the_next_command_goes_on_and_ends_in_the_same_state(bank, run):
    """Killed behind its publication, a release is recorded by the next command, which has no step left to do."""
    released(run, 2, "canary", "--share", "5")
    before = STEPS[: STEPS.index("published") + 1]
    for share, steps in ((70, before), (71, ("in_force",)), (72, ("recorded",))):
        run("promote", 2, "--to", "canary", "--share", str(share), "--by", "ada@bank.example")
        with transaction(bank.engine) as session:
            from store.models import approve

            request = newest_requests(session, 1)[0].id
            approve(session, request, by="bob@bank.example", now_us=time.time_ns() // 1000)
        applied = len(bank.applied())
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(request), *steps], check=True, capture_output=True, text=True
        )
        assert killed.stdout.split() == [str(-signal.SIGKILL)] * len(steps), killed.stdout + killed.stderr
        code, out, err = run("reconcile", "--json")
        assert (code, json.loads(out)["difference"]) == (cli.DONE, ""), out + err
        for _ in range(2):
            assert run("carry-out", request)[0] == cli.DONE
            assert (
                run("promote", 2, "--to", "canary", "--share", share, "--by", "bob@bank.example", "--approve")[0] == 0
            )
        assert bank.stages()[2] == ("canary", share)
        with transaction(bank.engine) as session:
            assert model_request(session, request).state == DONE
        found = bank.applied()[applied:]
        assert [each.assignment.arms for each in found] == [(Arm(2, share),)], "it came into force once"
    with transaction(bank.engine) as session:
        assert [each.per_mille for each in changes(session, 2)][-4:] == [5, 70, 71, 72]


def test_what_somebody_assigned_by_hand_is_not_undone_unasked(bank, run):
    assert cli.run(["assign", "--decides", "1", "--name", "by-hand"]) == cli.DONE
    bank.site.journal.until(lambda: bank.applied()[-1].assignment.version == "by-hand", "the assignment by hand")
    code, _, err = released(run, 2, "canary", "--share", "80")
    assert code == cli.FAILED
    assert "assignment by-hand is active, which the registry did not make" in err
    assert bank.stages()[2] == ("canary", 72)
    assert released(run, 2, "canary", "--share", "80", "--over")[0] == cli.DONE
    assert bank.applied()[-1].assignment.arms == (Arm(2, 80),)


def test_a_scorer_that_is_down_leaves_the_request_open(bank, run):
    bank.scorer.kill()
    asked = run("promote", 2, "--to", "champion", "--by", "ada@bank.example")
    assert asked[0] == cli.DONE
    with transaction(bank.engine) as session:
        request = newest_requests(session, 1)[0].id
    code, _, err = run("promote", 2, "--to", "champion", "--by", "bob@bank.example", "--approve", "--wait-seconds", "1")
    assert code == cli.FAILED
    assert "no scorer took it within 1 s" in err
    assert bank.stages()[2] == ("canary", 80)
    bank.scorer = bank.site.scorer()
    bank.scorer.wait_for("leading")
    assert run("carry-out", request)[0] == cli.DONE
    assert bank.stages()[2] == ("champion", 0)


def test_an_experiment_begins_with_two_people_keeps_its_shares_and_ends_with_one(bank, run):
    assert released(run, 1, "shadow")[0] == cli.DONE
    begin = ("experiment", "start", "spring", "--arm", "1=20%")
    assert run(*begin, "--by", "ada@bank.example")[0] == cli.DONE
    code, _, err = run(*begin, "--by", "bob@bank.example", "--approve")
    assert code == cli.DONE, err
    assigned = bank.applied()[-1].assignment
    assert (assigned.decides, assigned.arms, assigned.kind, assigned.salt) == (
        2,
        (Arm(1, 200),),
        "experiment",
        "spring",
    )
    code, _, err = run("promote", 1, "--to", "canary", "--share", "30%", "--by", "ada@bank.example")
    assert (code, "experiment spring runs, and its shares are fixed" in err) == (cli.FAILED, True)
    status = json.loads(run("experiment", "status", "--json")[1])
    assert (status["name"], status["verdict"], status["stopped_at"]) == ("spring", "continue", None)
    assert run("experiment", "stop", "--by", "eve@bank.example", "--why", "enough seen")[0] == cli.DONE
    assert bank.applied()[-1].assignment.arms == ()
    assert bank.stages()[1] == ("retired", 0)
    status = json.loads(run("experiment", "status", "--json")[1])
    assert status["stopped_because"]["why"] == "enough seen"
    assert run(*begin, "--by", "ada@bank.example")[0] == cli.FAILED, "a name deals accounts once"


def with_policy(base: Path, number: int, policy: Policy) -> None:
    """Gives a copied version thresholds of its own, named by its card as every file is."""
    extra = base / str(number) / "assets.extra"
    (extra / "policy.json").write_bytes(encode_policy(policy))
    card = json.loads((extra / "plumbline.json").read_text())
    card["files"] = file_digests(base / str(number))
    (extra / "plumbline.json").write_text(json.dumps(card))


def test_a_version_decides_under_its_own_thresholds_from_its_first_decision_on(
    bank, run, capsys, tmp_path, monkeypatch
):
    for base in (bank.models, bank.served):
        copied(bank.models / "2", base, 5)
    with_policy(bank.models, 5, Policy(version="suggested", review_at=0.0, decline_at=2.0))
    assert run("register", 5)[0] == cli.DONE
    assert released(run, 5, "shadow")[0] == cli.DONE
    people_s = Policy(version="people-s", declined_accounts=frozenset({"a1"}))
    with_own = thresholds.with_own

    def overtaken(policy, *more):
        monkeypatch.setattr(thresholds, "with_own", with_own)
        publish(bank.site.bootstrap, bank.site.prefix, people_s)  # between our reading and our writing
        return with_own(policy, *more)

    monkeypatch.setattr(thresholds, "with_own", overtaken)
    code, out, err = released(run, 5, "canary", "--share", "50%")
    assert code == cli.DONE, err
    brought = json.loads(out)["thresholds"]
    assert (brought["own"][0]["version"], brought["policy"].startswith("people-s+")) == (5, True)
    decided = bank.pays()
    own = [each for each in decided if each.scores[0].model_version == 5]
    assert {each.policy_version for each in decided} == {brought["policy"]}, "the people's list is still in it"
    assert {each.outcome for each in own if each.transaction.account_id != "a1"} == {Outcome.REVIEW}
    bank.site.journal.until_end()
    order = [
        each.policy.version if isinstance(each, ControlApplied) else each.assignment.arms
        for _, each in bank.site.journal.entries
        if isinstance(each, ControlApplied) or (isinstance(each, AssignmentApplied) and each.assignment)
    ]
    assert order[-3:] == ["people-s", brought["policy"], (Arm(5, 500),)], "thresholds first, then accounts"
    assert cli.run(["policy", "--json"]) == cli.DONE
    shown = json.loads(capsys.readouterr().out)
    assert (shown["version"], [each["version"] for each in shown["thresholds"]]) == (brought["policy"], [5])
    file = tmp_path / "policy.json"
    file.write_bytes(encode_policy(Policy(version="edited", review_at=0.3)))
    assert cli.run(["policy", str(file)]) == cli.DONE
    assert "version 5: review from 0, decline from 2" in capsys.readouterr().out
    assert {each.policy_version for each in bank.pays()} == {"edited"}
    assert released(run, 5, "champion")[0] == cli.DONE
    assert {each.policy_version for each in bank.pays()} == {"edited"}, "its thresholds are there already"
