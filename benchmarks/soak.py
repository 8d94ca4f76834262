"""The soak: an installation of real processes under a seeded nemesis, and the proof that nothing was lost or doubled.

    make soak                                     # 200 kills over 100,000 transactions, report under var/soak
    python -m benchmarks.soak --kills 20 --transactions 10000 --pauses 0 --seed 7

Broker, model server, ledger and two scorers are killed (SIGKILL) and frozen (SIGSTOP) while traffic flows; see
docs/faults.md for what must hold then. The last line of standard output is one JSON object; exit code 1 when a promise
was broken. The seed draws the messages and the nemesis' acts, so a failure can be run again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from kafka import TopicPartition
from kafka.errors import KafkaError

from benchmarks.checker import SOURCES, TOLD_MOST, Findings, check, check_fold, check_ledger, decoded, kinds
from benchmarks.nemesis import CALM_SHARE, Moment, Nemesis, plan
from benchmarks.site import Site
from benchmarks.traffic import Traffic
from plumbline.assignment import Arm, Assignment
from plumbline.decision import Source
from plumbline.errors import BrokerUnavailable, Unready
from plumbline.journal import DeadLetter
from plumbline.names import Topic
from plumbline.policy import Policy
from store.engine import engine_at
from store.tables import LedgerPosition
from streaming.control import publish
from streaming.kafka import end_offsets, reader
from streaming.parts import command, step
from tests.journal_writer import contents, expected, read_topic

JOURNAL: Final = TopicPartition(Topic.DECISIONS.value, 0)
SNAPSHOT_EVERY: Final = 2000
"""Transactions between snapshots: so few that kills meet one half-written."""

ASSIGNMENT: Final = Assignment(version="soak", decides=1, arms=(Arm(2, 300),), shadows=(3,))
"""In force all the time: a canary decides for a third of the accounts, and one shadow scores."""

MODEL_DEADLINE_MS: Final = 300
ANSWER_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard: SIGKILLs, SIGSTOPs and their shortest length, new payments, messages a second.

    calm_share: how many of the acts wait until everything works again; specials: acts of `benchmarks.acts`.
    """

    seed: int
    kills: int
    transactions: int
    pauses: int = 0
    pause_seconds: float = 30.0
    rate: float = 100.0
    calm_share: float = CALM_SHARE
    specials: int = 0


@dataclass(slots=True)
class Report:
    """All that a run found: `figures` are the last line, `history` the nemesis' acts, `told` what was broken."""

    figures: dict[str, Any]
    told: list[str] = field(default_factory=list)
    history: list[Moment] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.figures[name] for name in PROMISES)


PROMISES: Final = (
    "lost", "doubled", "disordered", "ledger_different", "unordered", "different", "snapshots_bad", "died", "bad_exits"
)  # fmt: skip


def main() -> int:
    """Run it; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs")
    parser.add_argument("--transactions", type=int, default=100_000, help="least number of new payments")
    parser.add_argument("--pauses", type=int, default=10, help="SIGSTOPs, each of 30 s or more")
    parser.add_argument("--pause-seconds", type=float, default=30.0, help="the shortest of them")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    parser.add_argument(
        "--calm-share", type=float, default=CALM_SHARE, help="of the acts, which wait until everything works again"
    )
    parser.add_argument("--specials", type=int, default=40, help="acts aimed at states and surroundings")
    parser.add_argument("--seed", type=int, help="draws messages and acts; one at random when not given")
    parser.add_argument("--report", type=Path, default=Path("var/soak"), help="folder for the report")
    parser.add_argument("--data-dir", type=Path, help="an empty folder; kept. A temporary one when not given")
    parser.add_argument("--json", action="store_true", help="nothing but the last line on standard output")
    asked = parser.parse_args()
    seed = SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    _say(f"seed {seed}")
    given = Plan(
        seed, asked.kills, asked.transactions, asked.pauses, asked.pause_seconds, asked.rate, asked.calm_share,
        asked.specials,
    )  # fmt: skip
    with ExitStack() as stack:
        folder = asked.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-soak-")))
        report = soak(given, folder, _say_moment)
    written = write(report, asked.report)
    if not asked.json:
        print(written.read_text())
    print(json.dumps(report.figures))
    return 0 if report.good else 1


def soak(given: Plan, folder: Path, tell: Callable[[Moment], None] = lambda _moment: None) -> Report:
    """Run a plan in an empty data folder, and check everything."""
    begun = time.monotonic()
    site = Site(
        folder.absolute(),
        keep_versions=3,
        guarded=True,
        snapshot_every_transactions=SNAPSHOT_EVERY,
        model_deadline_ms=MODEL_DEADLINE_MS,
    )
    with ExitStack() as stack:
        stack.callback(site.broker.stop)
        stack.callback(site.end)
        site.begin()
        policy = Policy(version="soak", review_at=0.95, decline_at=0.99)
        publish(site.broker.bootstrap, "", policy)
        publish(site.broker.bootstrap, "", ASSIGNMENT)
        traffic = Traffic(site.broker.bootstrap, given.seed, given.rate, given.transactions)
        pulse = stack.enter_context(Pulse(site.broker.bootstrap))
        engine = engine_at(sa.URL.create("sqlite", database=str(folder.absolute() / "plumbline.db")))
        stack.callback(engine.dispose)
        nemesis = Nemesis(
            site,
            plan(given.seed, given.kills, given.pauses, given.pause_seconds, given.calm_share, given.specials),
            lambda: (pulse.entries, _stored(engine)), tell, lambda: pulse.wrong,
        )  # fmt: skip
        traffic.start()
        nemesis.run()
        traffic.hurry.set()
        traffic.join()
        if traffic.failed:
            raise traffic.failed
        _until_answered(site.broker.bootstrap, traffic, pulse)
        _until(lambda: pulse.shadowed >= pulse.owed, lambda: pulse.shadowed, "shadows have answered")
        exits = site.end()
        step(site.environ, "ledger", "--once", "--json")
        report = _checked(site, engine, traffic)
    report.history = nemesis.history
    report.told += [f"died: {each}" for each in nemesis.died]
    bad_exits = {name: code for name, code in exits.items() if code != 0}
    report.told += [f"bad_exits: {name} ended with {code}" for name, code in bad_exits.items()]
    told = {"kills": nemesis.kills, "pauses": nemesis.pauses, "specials": nemesis.specials}
    told |= {"transactions": traffic.paid}
    report.told += [f"broken_early: {each}" for each in pulse.wrong[:TOLD_MOST]]
    rest = {"died": len(nemesis.died), "bad_exits": len(bad_exits), "messages_sent_again": traffic.sent_again}
    rest |= {"broken_early": len(pulse.wrong), "operators": nemesis.operators.asked}
    report.figures = told | report.figures | rest
    report.figures |= {"seed": given.seed, "seconds": round(time.monotonic() - begun, 1)}
    return report


def _checked(site: Site, engine: sa.Engine, traffic: Traffic) -> Report:
    """What the checker, the audit and the verification of the snapshots say; the broker still runs."""
    bootstrap = site.broker.bootstrap
    taken = {
        (name, each.partition, each.offset): each.value for name in SOURCES for each in read_topic(bootstrap, name)
    }
    records = read_topic(bootstrap, JOURNAL.topic)
    entries = decoded(records)
    letters = [
        msgspec.json.decode(each.value, type=DeadLetter) for each in read_topic(bootstrap, Topic.DEAD_LETTER.value)
    ]
    findings = check(traffic.acknowledged, taken, entries, letters)
    check_ledger(findings, contents(engine), expected(records))
    findings.add("disordered", check_fold(entries))
    audited = _json_of(site.environ, "audit", "--json", "--no-record")
    verified = _json_of(site.environ, "snapshot", "--verify", "--json")
    findings.told += [f"different: {each}" for each in audited["differences"]]
    findings.told += [f"snapshots_bad: {each}" for each in verified["snapshots"] if each.get("bad")]
    promises = {name: getattr(findings, name) for name in Findings.__dataclass_fields__ if name != "told"}
    return Report(
        promises
        | {"compared": audited["compared"], "different": audited["different"]}
        | {"snapshots": len(verified["snapshots"]), "snapshots_bad": verified["bad"]}
        | {"messages": len(taken), "entries": len(entries), **kinds(entries)}
        | {"never_visible": _written(bootstrap) - len(entries)},
        findings.told,
    )


def _json_of(environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """What a verb that may exit 1 printed as JSON. Raises Unready when it printed none."""
    done = subprocess.run(command(*arguments), env=dict(environ), stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise Unready(f"`plumbline {arguments[0]}` failed with exit code {done.returncode}: its message stands above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _written(bootstrap: str) -> int:
    """Records in the journal, those of aborted transactions included: what fenced and killed leaders left behind."""
    end = end_offsets(bootstrap, [JOURNAL.topic], committed_only=False)[JOURNAL]
    count = 0
    with closing(reader(bootstrap, {JOURNAL: 0}, committed_only=False, most_records=5000)) as consumer:
        while consumer.position(JOURNAL) < end:
            count += sum(len(records) for records in consumer.poll(timeout_ms=200).values())
    return count


def _stored(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(LedgerPosition.next_offset)) or 0


def _until_answered(bootstrap: str, traffic: Traffic, pulse: "Pulse") -> None:
    """Wait until no source has more than the journal answers. Raises Unready when the journal stands still."""
    wanted = sum(end_offsets(bootstrap, list(SOURCES)).values())
    _until(lambda: pulse.answered >= wanted, lambda: pulse.answered, f"all {wanted} messages have an entry")


def _until(true: Callable[[], bool], count: Callable[[], int], what: str) -> None:
    """Wait until something is true, as long as a count grows. Raises Unready when it stands still."""
    seen, since = -1, time.monotonic()
    while not true():
        time.sleep(0.2)
        if count() > seen:
            seen, since = count(), time.monotonic()
        if time.monotonic() - since > ANSWER_SECONDS:
            raise Unready(f"not true that {what}: {count()}, and then nothing came")


class _Named(msgspec.Struct):
    """Of a transaction, its id."""

    transaction_id: str


class _Head(msgspec.Struct):
    """Of an entry, what is counted."""

    type: str
    source: Source | None = None
    transaction: _Named | None = None
    assignment: Any = None
    role: str = ""
    rows: int = 0


class Pulse:
    """Follows the journal in a thread, whatever becomes of the broker: how many entries there are, and answers.

    owed, shadowed: answers that shadows have to give about decisions, and those that they gave; wrong: ids decided
    twice, and messages that do not come in their order, as they are seen.
    """

    def __init__(self, bootstrap: str) -> None:
        self.entries = 0
        self.answered = 0
        self.owed = 0
        self.shadowed = 0
        self.wrong: list[str] = []
        self._shadows = 0
        self._decided: set[str] = set()
        self._sources: dict[tuple[str, int], int] = {}
        self._bootstrap = bootstrap
        self._position = 0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _follow(self) -> None:
        decoder = msgspec.json.Decoder(_Head)
        while not self._leaving.is_set():
            try:
                with closing(reader(self._bootstrap, {JOURNAL: self._position}, most_records=5000)) as consumer:
                    while not self._leaving.is_set():
                        for records in consumer.poll(timeout_ms=100).values():
                            heads = [decoder.decode(each.value) for each in records]
                            self.answered += sum(each.source is not None for each in heads)
                            self.shadowed += sum(each.rows for each in heads if each.role == "shadow")
                            self._look(heads)
                            self.entries += len(records)
                            self._position = records[-1].offset + 1
            except (KafkaError, BrokerUnavailable):
                self._leaving.wait(0.5)

    def _look(self, heads: list[_Head]) -> None:
        """What has come is decided once, in the order of its partition, and nothing before it was left out."""
        for each in heads:
            if each.source is not None:
                place = (each.source.topic, each.source.partition)
                following = self._sources.get(place, 0)
                gap = each.source.offset > following and each.source.topic != Topic.CONTROL.value
                if each.source.offset < following or gap:
                    self.wrong.append(f"{place}: offset {each.source.offset} where {following} comes next")
                self._sources[place] = each.source.offset + 1
            if each.type == "assignment":
                self._shadows = len((each.assignment or {}).get("shadows", ()))
            if each.type == "decision" and each.transaction is not None:
                self.owed += self._shadows
                if each.transaction.transaction_id in self._decided:
                    self.wrong.append(f"{each.transaction.transaction_id} is decided again")
                self._decided.add(each.transaction.transaction_id)


def write(report: Report, folder: Path) -> Path:
    """Put a report into a folder, as JSON and as Markdown for people; returns the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = report.figures["seed"]
    whole = {"figures": report.figures, "told": report.told, "history": [asdict(each) for each in report.history]}
    (folder / f"soak-{seed}.json").write_bytes(msgspec.json.format(msgspec.json.encode(whole)))
    lines = [
        f"# Soak with seed {seed}: {'every promise kept' if report.good else 'PROMISES BROKEN'}", "",
        "| Figure | Value |", "| --- | --- |",
        *(f"| {name}{', must be 0' * (name in PROMISES)} | {value} |" for name, value in report.figures.items()),
        "", "## What was broken", "", *(f"- {each}" for each in report.told or ["nothing"]),
        "", "## What the nemesis did", "", "| Seconds | What | Process | |", "| --- | --- | --- | --- |",
        *(f"| {at.at_seconds} | {at.what} | {at.process} | {_one_line(at.detail)} |" for at in report.history),
    ]  # fmt: skip
    path = folder / f"soak-{seed}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/")[:300]


def _say_moment(each: Moment) -> None:
    _say(f"{each.at_seconds:8.2f} {each.what} {each.process} {each.detail}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
