"""`plumbline policy` beside a real scorer: a change that was made meanwhile is never undone unseen."""

import json

import pytest

from plumbline.cli import main as cli
from plumbline.journal import ControlApplied
from plumbline.policy import Policy, digest, encode
from release import thresholds
from streaming.control import publish
from streaming.topics import ensure_topics
from tests.scorer_site import Site


@pytest.fixture
def verb(kafka, topic_prefix, monkeypatch, capsys, tmp_path):
    """Runs the verb with a policy's file; its exit code, what it printed as JSON, and its errors."""
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "cli"))

    def run(policy, *options):
        file = tmp_path / "policy.json"
        file.write_bytes(policy if isinstance(policy, bytes) else encode(policy))
        code = cli.run(["policy", str(file), "--json", *options])
        written = capsys.readouterr()
        return code, json.loads(written.out) if written.out else None, written.err

    return run


def test_a_policy_names_what_it_replaces_and_its_version_is_its_own(kafka, topic_prefix, verb, tmp_path, monkeypatch):
    site = Site(kafka.bootstrap, topic_prefix, "127.0.0.1:1", tmp_path)
    try:
        site.scorer().wait_for("leading")
        first = Policy(version="first", declined_accounts=frozenset({"a1"}))
        code, facts, error = verb(first)
        assert (code, facts["active"]) == (cli.DONE, True), error
        sent = Policy(version="first", declined_accounts=first.declined_accounts, replaces=facts["replaces"])
        assert facts["digest"] == digest(sent)

        code, _, error = verb(Policy(version="first", review_at=0.25))
        assert code == cli.FAILED
        assert "an earlier policy has this one and other contents" in error
        code, _, error = verb(b'{"type": "policy", "version": "second", "declined_merchants": ["FAWRA*"]}')
        assert code == cli.FAILED
        assert "'FAWRA*'" in error
        assert "lists know no patterns" in error

        read = thresholds.in_force

        for other, options in (("one", ()), ("two", ("--only",))):

            def overtaken(*where, other=other):
                found = read(*where)
                monkeypatch.setattr(thresholds, "in_force", read)
                publish(*where, Policy(version=other, declined_merchants=frozenset({"m1"})))
                return found

            monkeypatch.setattr(thresholds, "in_force", overtaken)
            code, _, error = verb(Policy(version="second", review_at=0.25), *options)
            assert code == cli.FAILED
            assert "the scorer refused the policy" in error
            assert f"{other} with digest" in error
        code, facts, error = verb(Policy(version="second", review_at=0.25))
        assert (code, facts["active"]) == (cli.DONE, True), error
        code, facts, error = verb(first)
        assert (code, facts["active"]) == (cli.DONE, True), "the same contents may become active again: " + error
        site.journal.until_end()
        active = [each.policy.version for _, each in site.journal.entries if isinstance(each, ControlApplied)]
        assert active == ["review-all", "first", "one", "two", "second", "first"]
    finally:
        site.close()


def test_without_a_scorer_a_policy_is_on_its_way(kafka, topic_prefix, verb):
    ensure_topics(kafka.bootstrap, topic_prefix, 2)
    code, facts, _ = verb(Policy(version="first"), "--wait-seconds", "0")
    assert (code, facts["active"]) == (cli.DONE, False)
    code, facts, error = verb(Policy(version="second"), "--wait-seconds", "0")
    assert code == cli.DONE, error
