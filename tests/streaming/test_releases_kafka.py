"""Canary and shadow with real processes: a broker, a model server with three versions, and scorers that are killed."""

import json
import os
import random
import subprocess
import sys
import time

import msgspec
import pytest

from plumbline.assignment import Arm, Assignment
from plumbline.decision import Decision
from plumbline.journal import Answered, AssignmentApplied
from plumbline.names import Topic
from streaming.snapshot import manifest_of, sequences
from tests.declared_model import declared_models
from tests.model_proxy import ModelProxy
from tests.scorer_process import check_conserved
from tests.scorer_site import Flow, Site
from tests.serving_process import ModelServer, until

pytestmark = pytest.mark.slow

KILLS = 2
DEADLINE_MS = 5000
"""Longer than anything that waits for a shadow could be overlooked."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return declared_models(tmp_path_factory, 3)


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("releases")
    with ModelServer(models, folder / "serve.log", more=["--keep-versions", "3"]) as running:
        for version in (1, 2, 3):
            running.wait_for("serving", version)
        yield running


def assign(site, **fields):
    """Bring an assignment into force, and return when the journal has it."""
    given = Assignment(**fields)
    site.stream.send(Topic.CONTROL, [(b"assignment", msgspec.json.encode(given))])
    site.journal.until(
        lambda: any(
            isinstance(each, AssignmentApplied) and each.assignment == given for _, each in site.journal.entries
        ),
        "the assignment is in force",
    )
    return given


def plumbline(site, *arguments):
    """What a verb prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", *arguments], env={**os.environ, **site.environ}, text=True,
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def owed_and_answered(entries):
    """Which (version, decision) were to be answered by shadows, and which were, as often as they were."""
    owed, answered, in_force = set(), [], None
    for sequence, each in entries:
        if isinstance(each, AssignmentApplied):
            in_force = each.assignment
        elif isinstance(each, Decision) and in_force is not None:
            owed |= {(version, sequence) for version in in_force.shadows}
        elif isinstance(each, Answered) and each.role == "shadow":
            answered += [(each.version, sequence) for sequence in each.sequences]
    return owed, answered


def leading(site):
    """The scorer that leads, as far as anybody can say."""
    running = [each for each in site.scorers if each.process.poll() is None and each.states]
    return next((each for each in running if each.states[-1]["state"] == "leading"), None)


def until_shadowed(site):
    site.journal.until(lambda: len(set.difference(*map(set, owed_and_answered(site.journal.entries)))) == 0, "shadows")


def check_shadows(site):
    owed, answered = owed_and_answered(site.journal.entries)
    assert len(answered) == len(set(answered)), "an answer came twice"
    assert set(answered) == owed


def check_routes(entries):
    """Each decision was made by whom the assignment of its place deals its account to."""
    in_force = None
    for _, each in entries:
        if isinstance(each, AssignmentApplied):
            in_force = each.assignment
        if not isinstance(each, Decision):
            continue
        if in_force is None:
            assert (each.assignment, each.route) == ("", "newest")
            continue
        version, route = in_force.routed(each.transaction.account_id)
        assert each.assignment == in_force.version
        if route != "champion" and each.route == "fallback":
            version, route = in_force.decides, "fallback"
        assert (each.route, [score.model_version for score in each.scores]) == (route, [version])


def test_killed_while_a_canary_decides_and_a_shadow_scores_nothing_is_lost_doubled_or_unanswered(
    kafka, topic_prefix, server, models, tmp_path
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    site = Site(kafka.bootstrap, topic_prefix, server.target, tmp_path, snapshot_every_transactions=1000)
    try:
        for _ in range(2):
            site.scorer()
        site.journal.until_more()
        with Flow(site):
            assign(site, version="a", decides=1, arms=(Arm(2, 500),), shadows=(3,))
            for kill in range(KILLS):
                site.journal.until_more(300)
                time.sleep(draw.random() * 0.3)  # the moment of the kill is what is random here
                until(lambda: leading(site)).kill()
                site.scorer()
                if not kill:
                    assign(site, version="b", decides=1, arms=(Arm(3, 500),), shadows=(2,), replaces="a")
            assign(site, version="c", decides=2, shadows=(1, 3))
            site.journal.until_more(300)
        site.journal.until_answered(site.stream)
        until_shadowed(site)
        check_conserved(site.journal, site.stream)
        assert len(site.journal.decisions()) == site.paid
        check_shadows(site)
        check_routes(site.journal.entries)
        routes = {(each.assignment, each.route) for each in site.journal.decisions()}
        assert routes >= {("a", "champion"), ("a", "canary"), ("b", "champion"), ("b", "canary"), ("c", "champion")}
        assert all(each.scores for each in site.journal.decisions())
        for each in site.scorers:
            assert each.process.poll() is not None or each.stop() == 0
        (site.folder / "data" / "models").mkdir()
        (site.folder / "data" / "models" / "plumbline").symlink_to(models)
        audited = plumbline(site, "audit", "--json", "--no-record")
        assert (audited["different"], audited["compared"], audited["shadow_waiting"]) == (0, site.paid, 0), audited
        assert audited["shadow_rows"] + audited["shadow_failed"] == len(owed_and_answered(site.journal.entries)[0])
        watched = [n for n, each in site.journal.entries if isinstance(each, Decision) and each.assignment == "a"]
        asked = dict(site.journal.entries)[watched[-1]].transaction.transaction_id
        again = plumbline(site, "replay", asked, "--json")
        assert {each["name"] for each in again["fields"] if each["layer"] == "outcome"} > {"assignment", "route"}
        assert "version 3 (shadow)" in {each["name"] for each in again["fields"]}
        assert all(each["equal"] for each in again["fields"])
        folder = site.folder / "data" / "snapshots"
        assert manifest_of(folder / str(max(sequences(folder)))).awaited is msgspec.UNSET
    finally:
        site.close()


def test_a_model_server_that_hangs_for_a_shadow_delays_no_decision(kafka, topic_prefix, server, tmp_path):
    with ModelProxy(server.target) as proxy:
        site = Site(kafka.bootstrap, topic_prefix, proxy.target, tmp_path, model_deadline_ms=DEADLINE_MS)
        try:
            first = site.scorer()
            first.wait_for("leading")
            assign(site, version="a", decides=1, arms=(Arm(2, 500),), shadows=(3,))
            site.pay(20)
            site.journal.until_answered(site.stream)
            proxy.held.add(3)
            begun = time.monotonic()
            for _ in range(20):
                site.pay(10)
                site.journal.until_answered(site.stream)
            took = time.monotonic() - begun
            print(f"20 batches in {took:.1f} s while a shadow hangs")
            assert proxy.asked.acquire(timeout=30), "the shadow was asked, and hangs"
            assert took < DEADLINE_MS / 1000, "nobody waited for it"
            assert all(each.scores for each in site.journal.decisions())
            # Killed with the shadow still hanging, the next leader asks again; the version answers by then.
            first.kill()
            proxy.held.clear()
            site.scorer().wait_for("leading")
            until_shadowed(site)
            check_shadows(site)
            check_conserved(site.journal, site.stream)
            check_routes(site.journal.entries)
        finally:
            site.close()
