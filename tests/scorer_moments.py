"""A scorer's life over a broker in memory, with everything in it that can be half done, for acts at every moment.

Before the life: a journal with decisions of a champion, an arm and a shadow, some of which the shadow still has to
answer; waiting messages of every kind. The life: look for a snapshot, stand by, take over, catch up, ask the shadow
again, decide batch after batch with snapshots between, leave. Behind it the same installation is started once more, is
paid more, and everything is counted.
"""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from kafka import TopicPartition

from benchmarks.checker import SOURCES, check, check_fold
from features.declaration import DECLARATION
from observe.metrics import Metrics
from plumbline import journal
from plumbline.assignment import Arm, Assignment
from plumbline.clock import Monotonic, monotonic
from plumbline.decision import Decision
from plumbline.errors import PlumblineError, Unready
from plumbline.journal import Answered, AssignmentApplied, ControlApplied, DeadLetter
from plumbline.names import Topic
from plumbline.policy import Policy
from streaming.known import Known
from streaming.leading import Scoring
from streaming.model import Model
from streaming.scorer import run
from streaming.snapshot import sequences
from streaming.state import State
from streaming.topics import ensure_topics
from streaming.verify import listed, verify
from tests.fake_broker import FakeBroker
from tests.fake_kafka import reached
from tests.fakes import NOW, FakeClient, payment, raw, told
from tests.moments import ALONE, Act, Crash, Moment, Outside, Stop
from tests.tries import Life, Tries

T = TypeVar("T")

REMEMBERED: Final = 100_000
GIVE_MOST: Final = 10
"""Records of a poll: so few that catching up takes several."""

POLLS_STANDING_BY: Final = 2
"""Folds before the lease is given."""

JOURNAL: Final = TopicPartition(Topic.DECISIONS.value, 0)
GROUP: Final = "plumbline-scorer"
ACCOUNTS: Final = 20


class OutsideClient:
    """A model's client whose calls go through an `Outside`."""

    def __init__(self, client: FakeClient, outside: Outside) -> None:
        self._client, self._outside = client, outside
        self.deadline_ms = client.deadline_ms

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def called(*given: Any, **more: Any) -> Any:
            return self._outside.call(f"model.{name}", lambda: method(*given, **more))

        return called


@dataclass(slots=True)
class Installation:
    """Topics, a folder, and what was sent; `entries` is the journal as readers see it."""

    broker: FakeBroker
    folder: Path
    paid: int = 0
    labelled: int = 0
    acknowledged: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    entries: list[tuple[int, journal.Entry]] = field(default_factory=list)
    read_to: int = 0

    def copy(self, folder: Path) -> "Installation":
        """As it is now, on a broker and in a folder of its own."""
        shutil.copytree(self.folder, folder)
        return Installation(
            self.broker.copy(), folder, self.paid, self.labelled, [*self.acknowledged], [*self.entries], self.read_to
        )

    def send(self, topic: Topic, key: bytes, value: bytes, partition: int = 0) -> None:
        """One message, acknowledged."""
        taken = self.broker.append(TopicPartition(topic.value, partition), key, value)
        self.acknowledged.append((topic.value, partition, taken.offset, value))

    def pay(self, count: int, first: int | None = None, **changes: Any) -> None:
        """Payments; first: the number to begin at, for what was sent before."""
        begin = self.paid if first is None else first
        self.paid += count if first is None else 0
        for n in range(begin, begin + count):
            body = payment(n, account_id=f"a{n % ACCOUNTS}", merchant_id=f"m{n % 7}", **changes)
            self.send(Topic.TRANSACTIONS, body["account_id"].encode(), raw(body), n % 2)

    def label(self, *numbers: int) -> None:
        """Fraud labels of payments."""
        for number in numbers:
            self.labelled += 1
            self.send(Topic.LABELS, b"t%d" % number, raw(told(self.labelled, number)))

    def control(self, message: Policy | Assignment) -> None:
        """A message to the scorer."""
        key = b"policy" if isinstance(message, Policy) else b"assignment"
        self.send(Topic.CONTROL, key, msgspec.json.encode(message))

    def read(self) -> list[tuple[int, journal.Entry]]:
        """The journal up to its present end."""
        with self.broker.changed:
            log = self.broker.log(JOURNAL)
            end = log.stable_end()
            for at in range(self.read_to, end):
                each = log.at(at)
                if not each.marker and (each.transaction is None or each.transaction.state == "committed"):
                    self.entries.append((at, journal.decode(each.value or b"")))
            self.read_to = end
            return self.entries

    def waiting(self) -> int:
        """Messages without an entry, and decisions that the shadow still has to answer about."""
        answered, owed, shadows = 0, 0, 0
        for _, entry in self.read():
            answered += entry.source is not None
            if isinstance(entry, AssignmentApplied):
                shadows = len(entry.assignment.shadows) if entry.assignment else 0
            elif isinstance(entry, Decision):
                owed += shadows
            elif isinstance(entry, Answered) and entry.role == "shadow":
                owed -= entry.rows
        return max(0, len(self.acknowledged) - answered) + max(0, owed)

    def fence(self) -> None:
        """Another scorer makes the journal's producer, and does nothing with it."""
        self.broker.begin_epoch(GROUP)


def score(site: Installation, outside: Outside, client: FakeClient | None = None) -> None:
    """Score until nothing waits any more, or until something ends it."""

    def now_us() -> int:
        return outside.call("clock.now", lambda: NOW + outside.clock_us)

    ticks = itertools.count()
    with reached(site.broker, call=outside.call, give_most=GIVE_MOST) as address:
        scoring = Scoring(
            bootstrap=address, prefix="", snapshots=outside.watched(site.folder / "snapshots"),
            batch_max_transactions=8, snapshot_every_transactions=20, remembered_transactions=REMEMBERED,
        )  # fmt: skip
        asked = OutsideClient(client or client_of_all(), outside)
        try:
            run(scoring, Model(asked, lambda: Monotonic(next(ticks) / 100)), Metrics(), now_us, outside.stop)
        finally:
            site.broker.groups.clear()  # whatever it left behind, its session runs out


def scored(site: Installation, name: str = "another one") -> Life:
    """A scorer's life without a fault."""
    outside = Outside()
    outside.until = lambda: not site.waiting()
    return Life(name, outside, lambda: score(site, outside)).run()


def scored_once(address: str, snapshots: Path) -> None:
    """A scorer begins the journal, decides what there is, and leaves."""
    stop = Stop()
    scoring = Scoring(address, "", snapshots, 8, 20, REMEMBERED)
    run(
        scoring, Model(client_of_all(), monotonic), Metrics(), lambda: NOW, stop,
        lambda state, _: stop.set() if state == "leading" else None,
    )  # fmt: skip


def send_some(site: Installation, count: int) -> None:
    """Payments, one of them twice, one message that is none, and labels."""
    first = site.paid
    site.pay(count)
    site.pay(1, first=first)
    site.send(Topic.TRANSACTIONS, b"a0", b"no transaction")
    site.label(first + 1, first + 3)


def client_of_all() -> FakeClient:
    """A model server with a champion, an arm and two shadows."""
    client = FakeClient()
    client.declarations = dict.fromkeys((2, 3, 4), DECLARATION)
    client.shifts = {2: 0.25, 3: 0.5, 4: 0.75}
    return client


def founded(folder: Path) -> Installation:
    """An installation whose journal is empty, with messages that wait."""
    site = Installation(FakeBroker(), folder)
    folder.mkdir()
    with reached(site.broker) as address:
        ensure_topics(address, "", 2)
    site.pay(10)
    site.label(3, 12)
    site.control(Assignment(version="first", decides=1, arms=(Arm(3, 300),), shadows=(2,)))
    return site


def grown(site: Installation) -> Installation:
    """The same with a journal whose shadow owes answers, snapshots of it, and messages of every kind that wait."""
    scored(site)
    site.pay(20)
    client = client_of_all()
    client.held[2] = threading.Event()
    outside = Outside()

    def die() -> bool:
        sources = sum(entry.source is not None for _, entry in site.read())
        if sources == len(site.acknowledged):
            client.held[2].set()
            outside.dead = True
            raise Crash
        return False

    outside.until = die
    life = Life("one that dies", outside, lambda: score(site, outside, client)).run()
    assert isinstance(life.error, Crash)
    assert site.waiting(), "the shadow owes answers"
    site.pay(16)
    site.pay(4, first=5)
    site.pay(2, first=8, amount_minor=1)
    site.send(Topic.TRANSACTIONS, b"a0", b"no transaction")
    site.label(1, 6, 36, 60)
    site.control(Policy(version="later", review_at=0.7, decline_at=0.9))
    site.control(Assignment(version="second", decides=1, arms=(Arm(3, 400),), shadows=(4, 2)))
    site.pay(4)
    return site


def scenario(name: str, folder: Path) -> Installation:
    """What a scorer finds: a whole journal and no snapshot (cold), a snapshot (warm), an empty journal (first)."""
    site = founded(folder / "first")
    if name == "first":
        return site
    site = grown(site)
    if name == "cold":
        shutil.rmtree(site.folder / "snapshots")
    return site


def _fenced(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    outside.site.fence()  # type: ignore[attr-defined]
    return does()


def _lease_lost(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    outside.site.broker.expire_all()  # type: ignore[attr-defined]
    return does()


def _overtaken(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    """The process stands still for longer than its lease, and another one takes over, decides all, and leaves."""
    site = outside.site  # type: ignore[attr-defined]
    with outside.frozen():
        kept, gives = dict(site.broker.groups), site.broker.gives
        site.broker.groups.clear()
        site.broker.gives = lambda: True
        outside.others.append(scored(site, "the one that took over"))  # type: ignore[attr-defined]
        site.broker.groups.update(kept)
        site.broker.gives = gives
        site.broker.expire_all()
    return does()


ACTS: Final = (
    *ALONE,
    Act("fenced", lambda call: True, _fenced),
    Act("lease lost", lambda call: True, _lease_lost),
    Act("stands still while another takes over", lambda call: True, _overtaken),
)
"""What can happen to a scorer."""


class ScorerOutside(Outside):
    """A scorer's calls; the lease is given after so many folds, whatever the order of threads, so runs are the same."""

    def __init__(self, site: Installation, at: Moment | None = None, act: Act | None = None) -> None:
        super().__init__(at, act)
        self.site = site
        self.others: list[Life] = []
        self._folds = 0
        self.before = self._before
        self.until = lambda: not site.waiting()
        site.broker.gives = lambda: self._folds >= POLLS_STANDING_BY or self.struck

    def call(self, name: str, does: Callable[[], T]) -> T:
        """As `Outside.call`; one that has folded all there is waits for nothing but the lease."""
        if name == "consumer.idle" and threading.current_thread().name == "main":
            self._folds = POLLS_STANDING_BY
        return super().call(name, does)

    def _before(self, moment: Moment) -> None:
        if moment[:2] == ("main", "consumer.poll") and self._folds < POLLS_STANDING_BY:
            self._folds += 1
            if self._folds == POLLS_STANDING_BY:
                self._until_leased()

    def _until_leased(self) -> None:
        def leased() -> bool:
            members = [each for group in self.site.broker.groups.values() for each in group.members]
            return self.struck or self.dead or any(each.owned and not each.given for each in members)

        with self.site.broker.changed:
            self.site.broker.changed.wait_for(leased, 2.0)


class ScorerTries(Tries):
    """Scorers, each with a copy of the same installation."""

    acts = ACTS

    def prepare(self) -> None:
        """The scenario that the name says."""
        self._site = scenario(self.name.partition(" ")[2], self._folder)

    def begin(self, folder: Path) -> Installation:
        """A copy of it."""
        return self._site.copy(folder)

    def outside(self, site: Installation, moment: Moment | None, act: Act | None) -> Outside:
        """Those of a scorer that is given the lease at its place."""
        return ScorerOutside(site, moment, act)

    def live(self, site: Installation, outside: Outside) -> None:
        """Score."""
        outside.until = lambda: not site.waiting()
        score(site, outside)

    def more(self, site: Installation) -> None:
        """More payments, and a label."""
        site.broker.gives = lambda: True
        site.pay(5)
        site.label(site.paid - 1)

    def may_end(self, moment: Moment, error: BaseException) -> bool:
        """A disk that fails while the snapshots are looked for, or the last one is written, ends it; and so does the
        last snapshot's folder, if one that stands still holds it.
        """
        held = isinstance(error, Unready) and "another process has held it" in str(error)
        return held or (moment.call.startswith("disk.") and isinstance(error, OSError | Unready))

    def wrong(self, site: Installation) -> Iterator[tuple[str, str]]:
        """Everything that the soak's checker finds, and more."""
        return counted(site)


class ColdScorer(ScorerTries):
    """A whole journal and no snapshot."""

    name = "scorer cold"


class WarmScorer(ScorerTries):
    """The newest snapshot, and what came since."""

    name = "scorer warm"


class FirstScorer(ScorerTries):
    """An empty journal."""

    name = "scorer first"


def counted(site: Installation) -> Iterator[tuple[str, str]]:
    """What is wrong with an installation in which nothing waits any more."""
    entries = site.read()
    taken = {
        (each.topic, each.partition, record.offset): record.value or b""
        for each, log in site.broker.logs.items() if each.topic in SOURCES for record in log.records
    }  # fmt: skip
    letters = [
        msgspec.json.decode(record.value or b"", type=DeadLetter)
        for record in site.broker.log(TopicPartition(Topic.DEAD_LETTER.value, 0)).records
        if not record.marker and record.transaction is not None and record.transaction.state == "committed"
    ]
    findings = check(site.acknowledged, taken, entries, letters)
    kinds = {"doubled": "decided_twice", "lost": "lost"}
    for text in findings.told:
        name, _, case = text.partition(": ")
        yield kinds.get(name, "different"), case
    beginnings = [at for at, entry in entries if isinstance(entry, AssignmentApplied) and entry.source is None]
    policies = [at for at, entry in entries if isinstance(entry, ControlApplied) and entry.source is None]
    if len(beginnings) != 1 or len(policies) != 1:
        yield "different", f"the journal begins at {beginnings}, with policies at {policies}"
    decided = {entry.transaction.transaction_id for _, entry in entries if isinstance(entry, Decision)}
    if len(decided) != site.paid:
        yield "lost", f"{len(decided)} of {site.paid} transactions are decided"
    try:
        check_fold(entries)
    except PlumblineError as error:
        yield "different", f"{type(error).__name__}: {error}"
        return
    yield from _snapshots(site)


def _snapshots(site: Installation) -> Iterator[tuple[str, str]]:
    """Snapshots that are not what the journal says up to their place."""
    folder = site.folder / "snapshots"
    if not sequences(folder):
        yield "different", "no snapshot is left"
    with reached(site.broker) as address:
        found = listed(folder)
        verify(found, lambda declaration: State(Known(REMEMBERED)), address, JOURNAL, REMEMBERED, lambda count: None)
    for each in found:
        if each.bad:
            yield "different", f"snapshot {each.sequence}: {each.refused or json.dumps(each.different)[:300]}"
