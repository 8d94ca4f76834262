"""Lives of the processes that read the journal: ledger, decision API and guard; for acts at every moment."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from kafka import TopicPartition
from sqlalchemy.orm import Session

from app.api.board import Board
from app.api.following import Following
from app.ledger import Ledger
from app.ledger import run as keep_ledger
from benchmarks.guardrails import BEGAN_US, stream
from observe.metrics import Metrics
from plumbline import journal
from plumbline.assignment import Arm, Assignment
from plumbline.assignment import parse as parse_assignment
from plumbline.decision import Decision
from plumbline.journal import AssignmentApplied, Conflict, Rejected
from plumbline.names import Topic
from release.assigning import assigned, same_effect
from release.guard import Guarding
from release.guard import run as guard
from release.limits import Limits
from release.state import registry_of
from store.engine import engine_at, transaction
from store.guard_tables import Incident, Trial
from store.labels import record_verdict, waiting_verdicts
from store.model_tables import ModelChange, ModelVersion
from store.models import add_changes, add_version
from store.schema import migrate
from store.tables import Alert, LedgerPosition
from streaming.topics import ensure_topics
from tests.fake_broker import FakeBroker
from tests.fake_kafka import reached
from tests.fakes import NOW
from tests.journal_writer import contents, entries, expected, read_topic
from tests.moments import CRASH, ERROR, STOP, Outside
from tests.tries import Tries

JOURNAL: Final = TopicPartition(Topic.DECISIONS.value, 0)
LABELS: Final = TopicPartition(Topic.LABELS.value, 0)
CONTROL: Final = TopicPartition(Topic.CONTROL.value, 0)


@dataclass(slots=True)
class Reading:
    """A broker with a journal, and a folder with a database."""

    broker: FakeBroker
    folder: Path
    engine: sa.Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = engine_at(sa.URL.create("sqlite", database=str(self.folder / "plumbline.db")))

    def copy(self, folder: Path) -> "Reading":
        """The same on its own."""
        shutil.copytree(self.folder, folder)
        return Reading(self.broker.copy(), folder)

    def write(self, written: Any) -> None:
        """Entries at the journal's end."""
        for each in written:
            self.broker.append(JOURNAL, None, journal.encode(each))

    def end(self) -> int:
        """Where the journal ends."""
        return self.broker.log(JOURNAL).end

    def close(self) -> None:
        """Let the database go."""
        self.engine.dispose()


def founded(folder: Path) -> Reading:
    """Topics and tables, both empty."""
    folder.mkdir()
    site = Reading(FakeBroker(), folder)
    with reached(site.broker) as address:
        ensure_topics(address, "", 2)
    migrate(site.engine)
    return site


class OnSQL(Tries):
    """A process that reads the journal into SQL: errors of SQL are the database's to mend, and it waits."""

    site: Reading

    def begin(self, folder: Path) -> Reading:
        """A copy of the template."""
        return self.site.copy(folder)

    def watched(self, site: Reading, outside: Outside) -> sa.Engine:
        """The database as the process reaches it."""
        return outside.watch(engine_at(site.engine.url))


class LedgerTries(OnSQL):
    """The ledger: half of the journal is in SQL, verdicts wait; one more is given when all of it is there."""

    name = "ledger"

    def prepare(self) -> None:
        """Half a journal stored, the other half and three verdicts to come."""
        self.site = founded(self.template)
        written = list(entries(60, 5))
        self.site.write(written[:30])
        site, outside = self.site, Outside()
        outside.until = lambda: self._position(site) == site.end()
        with reached(site.broker, call=outside.call) as address:
            keep_ledger(Ledger(site.engine, address, "", outside.stop, Metrics(), lambda: NOW))
        self.site.write(written[30:])
        self._judge(self.site, 3)
        self.site.close()

    def live(self, site: Reading, outside: Outside) -> None:
        """Store and publish all; when it has, judge one more alert and wait until that is published too."""
        judged: list[int] = []

        def until() -> bool:
            if self._position(site) != site.end():
                return False
            if not judged:
                judged.append(self._judge(site, 1))
            with transaction(site.engine) as session:
                return not waiting_verdicts(session)

        outside.until = until
        ticks = iter(range(10**9))

        def now_us() -> int:
            return outside.call("clock.now", lambda: NOW + outside.clock_us + next(ticks) * 100_000)

        engine = self.watched(site, outside)
        try:
            with reached(site.broker, call=outside.call, give_most=12) as address:
                keep_ledger(Ledger(engine, address, "", outside.stop, Metrics(), now_us))
        finally:
            engine.dispose()

    def more(self, site: Reading) -> None:
        """More entries."""
        site.write(list(entries(10, 6)))

    def wrong(self, site: Reading) -> Iterator[tuple[str, str]]:
        """SQL is what the journal says, and each verdict is on the labels topic."""
        with reached(site.broker) as address:
            records = read_topic(address, JOURNAL.topic)
            published = [json.loads(each.value) for each in read_topic(address, LABELS.topic)]
        stored, wanted = contents(site.engine), expected(records)
        for name, rows in wanted.items():
            ours, theirs = _without_verdicts(stored[name]), _without_verdicts(rows)
            for row in [*(each for each in ours if each not in theirs), *(each for each in theirs if each not in ours)]:
                yield "different", f"{name}: {json.dumps(row)[:200]}"
            if len(ours) != len(theirs):
                yield "decided_twice", f"{name} has {len(ours)} rows, the journal says {len(theirs)}"
        with transaction(site.engine) as session:
            given = set(session.scalars(sa.text("SELECT label_id FROM verdicts")))
        if given != {each["label_id"] for each in published}:
            yield "lost", f"{len(given)} verdicts, {len(published)} published"
        bodies: dict[str, set[str]] = {}
        for each in published:
            bodies.setdefault(each["label_id"], set()).add(json.dumps(each, sort_keys=True))
        if any(len(found) > 1 for found in bodies.values()):
            yield "different", "a verdict was published with two bodies"

    @staticmethod
    def _position(site: Reading) -> int:
        with site.engine.connect() as connection:
            return connection.scalar(sa.select(LedgerPosition.next_offset)) or 0

    @staticmethod
    def _judge(site: Reading, count: int) -> int:
        with transaction(site.engine) as session:
            found = session.scalars(sa.select(Alert.id).where(Alert.status == "open").order_by(Alert.id).limit(count))
            for each in list(found):
                record_verdict(
                    session, each, verdict="fraud", note="", by="ada", now_us=NOW, label_id=f"verdict_{each}"
                )
        return count


def _without_verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what the console's verdicts change in an alert."""
    verdict = {"status", "closed_at", "closed_by"} if rows and "opened_at" in rows[0] else set()
    return [{key: value for key, value in row.items() if key not in verdict} for row in rows]


class ApiTries(Tries):
    """The decision API's reader of the journal: what it has heard is in memory, and a new start reads it again."""

    name = "api"
    acts = (STOP, CRASH, ERROR)

    def prepare(self) -> None:
        """A journal of every kind of entry."""
        self.site = founded(self.template)
        self.site.write(list(entries(60, 7)))
        self.site.close()

    def begin(self, folder: Path) -> Reading:
        """A copy of it."""
        return self.site.copy(folder)

    def live(self, site: Reading, outside: Outside) -> None:
        """Follow to the journal's end."""
        board, told = _Heard(), [-1]

        def until() -> bool:
            return told[0] + 1 >= site.end()

        outside.until = until
        with reached(site.broker, call=outside.call, give_most=12) as address:
            following = Following(
                board, address, Topic.TRANSACTIONS.value, JOURNAL, 1000, lambda at: told.insert(0, at)
            )
            following._stop = outside.stop  # a rest between two tries is short, and an act can end it
            following.start()
            following._thread.join()
            self._heard = board

    def more(self, site: Reading) -> None:
        """More entries."""
        site.write(list(entries(10, 8)))

    def wrong(self, site: Reading) -> Iterator[tuple[str, str]]:
        """The last start has heard each entry once, in order."""
        written = [journal.decode(each.value) for each in site.broker.log(JOURNAL).records]
        wanted = [each.transaction.transaction_id for each in written if isinstance(each, Decision)]
        found = self._heard
        if found.decisions != wanted:
            kind = "decided_twice" if len(found.decisions) > len(wanted) else "lost"
            yield kind, f"{len(found.decisions)} decisions were heard, {len(wanted)} are in the journal"
        if found.conflicts != sum(isinstance(each, Conflict) for each in written):
            yield "lost", f"{found.conflicts} conflicts were heard"
        if found.rejections != sum(isinstance(each, Rejected) for each in written):
            yield "lost", f"{found.rejections} rejections were heard"


class _Heard(Board):
    """A board that remembers what it was told, in order."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.decisions: list[str] = []
        self.conflicts = self.rejections = 0

    def decided(self, transaction_id: str, journaled: Any) -> None:
        """Note a decision."""
        self.decisions.append(transaction_id)
        super().decided(transaction_id, journaled)

    def conflicted(self, transaction_id: str, sequence: int) -> None:
        """Note a conflict."""
        self.conflicts += 1
        super().conflicted(transaction_id, sequence)

    def rejected(self, place: Any, error: str) -> None:
        """Note a rejection."""
        self.rejections += 1
        super().rejected(place, error)


CANARY: Final = Assignment(version="canary-2", decides=1, arms=(Arm(2, 300),), shadows=(3,), salt="c")
PAYMENTS: Final = 800


class GuardTries(OnSQL):
    """The guard: a canary whose calls fail is taken out once; a scorer takes the rollback as soon as it is there."""

    name = "guard"

    def prepare(self) -> None:
        """A registry with a canary, and a journal in which it fails."""
        self.site = founded(self.template)
        stages = {1: ("champion", 0), 2: ("canary", 300), 3: ("shadow", 0)}
        with transaction(self.site.engine) as session:
            for version, (stage, per_mille) in stages.items():
                add_version(session, registered(version), "ada")
                add_changes(session, [ModelChange(
                    at=2, version=version, kind="promote", from_stage="candidate", to_stage=stage, per_mille=per_mille,
                    asked_by="ada", approved_by="bob", why="", evidence={}, assignment="canary-2", experiment="",
                )])  # fmt: skip
        self._assign(self.site, CANARY, BEGAN_US)
        found = [each for _, each in stream(7, CANARY, "erring", PAYMENTS + 8)]
        self.site.write(found[:-20])
        self._rest = found[-20:]
        self._last = next(each for each in reversed(found) if isinstance(each, Decision))
        self.site.close()

    def live(self, site: Reading, outside: Outside) -> None:
        """Guard; the scorer's answers to what is published come while it waits."""
        reached_to = [-1]

        def until() -> bool:
            self._obey(site)
            return reached_to[0] >= site.end() - 1 and len(self._applied(site)) == 2

        def announce(sequence: int) -> None:
            reached_to[0] = sequence
            if until():
                outside.stop.set()

        outside.until = until
        engine = self.watched(site, outside)
        try:
            with reached(site.broker, call=outside.call, give_most=700) as address:
                now = lambda: outside.call("clock.now", lambda: NOW + outside.clock_us)  # noqa: E731
                guard(Guarding(address, "", engine, Limits()), Metrics(), now, outside.stop, announce)
        finally:
            engine.dispose()

    def more(self, site: Reading) -> None:
        """More of the journal."""
        site.write(self._rest)

    def wrong(self, site: Reading) -> Iterator[tuple[str, str]]:
        """One incident, one rollback in the journal, and a registry that says so."""
        applied = self._applied(site)
        published = [parse_assignment(each.value or b"") for each in site.broker.log(CONTROL).records]
        if len({each.version for each in published}) != 1:
            yield "different", f"published: {[each.version for each in published]}"
        if [each.version for each in applied[1:]] != [each.version for each in published[:1]]:
            yield "lost", f"in the journal: {[each.version for each in applied]}"
        with Session(site.engine) as session:
            incidents = session.scalars(sa.select(Incident)).all()
            if [(each.version, each.rollback) for each in incidents] != [(2, each.version) for each in applied[1:]]:
                yield "decided_twice", f"incidents: {[(each.version, each.rule, each.rollback) for each in incidents]}"
            wish = assigned(registry_of(session), "wish")
            if wish is None or not same_effect(wish, applied[-1]):
                yield "registry_disagreements", f"the registry wishes {wish}, the journal says {applied[-1]}"
            trials = {(each.assignment, each.version): each.decisions for each in session.scalars(sa.select(Trial))}
        written = entries_of(site)
        until = [n for n, entry in enumerate(written) if isinstance(entry, AssignmentApplied)][-1]
        judged = sum(isinstance(entry, Decision) for entry in written[:until])
        if trials.get(("canary-2", 2)) != judged:
            yield "decided_twice", f"decisions counted by trial: {trials}, {judged} of them are in the journal"

    def _obey(self, site: Reading) -> None:
        """As the scorer: the first rollback on the control topic becomes active, and a decision is made under it."""
        applied = self._applied(site)
        messages = site.broker.log(CONTROL).records
        if messages and len(applied) == 1:
            wanted = parse_assignment(messages[0].value or b"")
            self._assign(site, wanted, BEGAN_US + 10**9)
            site.write([msgspec.structs.replace(self._last, assignment=wanted.version)])

    @staticmethod
    def _assign(site: Reading, assignment: Assignment, at_us: int) -> None:
        site.write([AssignmentApplied(
            assignment=assignment, fingerprints=(), declarations={}, source=None, journaled_at=at_us
        )])  # fmt: skip

    @staticmethod
    def _applied(site: Reading) -> list[Assignment]:
        marks = [
            each for each in site.broker.log(JOURNAL).records if b'"type":"assignment"' in (each.value or b"")[:40]
        ]
        return [journal.decode(each.value).assignment for each in marks]  # type: ignore[union-attr]


def entries_of(site: Reading) -> list[journal.Entry]:
    """The journal."""
    return [journal.decode(each.value) for each in site.broker.log(JOURNAL).records if each.value is not None]


def registered(version: int) -> ModelVersion:
    """A candidate of that number."""
    return ModelVersion(
        version=version, name="plumbline", stage="candidate", per_mille=0, trained_at=1, registered_at=1, made_by="ada",
        fingerprint="f", train_days="", test_days="", archive_digest="", seed=1, code_commit="", lock_sha256="",
        rows={}, metrics={}, slices={}, files={}, gate=None, card={},
    )  # fmt: skip
