"""A release command and a nightly run, for acts at every moment: what is active and what the registry says agree."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import sqlalchemy as sa
from kafka import TopicPartition

from features.declaration import DECLARATION
from plumbline import journal
from plumbline.assignment import Assignment
from plumbline.clock import monotonic
from plumbline.decision import Source
from plumbline.errors import PlumblineError
from plumbline.journal import AssignmentApplied
from plumbline.names import Topic
from plumbline.policy import Policy
from release.assigning import assigned, same_effect
from release.carrying import Site, carry_out, roll_back
from release.state import registry_of
from release.thresholds import POLICY_FILE
from retrain.manifest import read_run, read_step
from retrain.run import REMOVED, Asked, Runner
from retrain.steps import Done, Place, Step
from store import models
from store.engine import transaction
from store.models import add_version
from streaming.batch import Message, process
from streaming.known import Known
from streaming.model import Model
from streaming.state import State
from tests.fake_kafka import reached
from tests.fakes import NOW, FakeClient
from tests.moments import ALONE, CRASH, CRASH_BEHIND, ERROR, ERROR_BEHIND, Act, Outside
from tests.process_moments import JOURNAL, OnSQL, Reading, founded, registered
from tests.release.conftest import add_people
from tests.scorer_moments import scored_once
from tests.tries import Life, Tries

CONTROL: Final = TopicPartition(Topic.CONTROL.value, 0)
WAIT_SECONDS: Final = 5.0
OTHERS_WAIT_SECONDS: Final = 0.05
"""A command that comes while another one is at work gives up soon: nobody waits for one that stands still."""


class Obedient:
    """What a scorer does with control messages: it takes them in order, and journals each."""

    def __init__(self, site: Reading) -> None:
        self._site = site
        client = FakeClient()
        client.declarations = dict.fromkeys((1, 2, 3, 4), DECLARATION)
        self._model = Model(client, monotonic)
        self._state = State(Known(1000))
        log = site.broker.log(JOURNAL).records
        self._state.fold((each.offset, journal.decode(each.value)) for each in log if each.value is not None)

    def obey(self) -> None:
        """Take what is new on the control topic."""
        log = self._site.broker.log(CONTROL)
        while (at := self._state.positions.get((CONTROL.topic, 0), 0)) < log.end:
            message = Message(Source(CONTROL.topic, 0, at, log.at(at).timestamp), log.at(at).value or b"")
            batch = process(self._state, self._model, control=[message], now_us=NOW)
            for entry in batch.entries:
                self._state.sequence = self._site.broker.append(JOURNAL, None, journal.encode(entry)).offset


class ReleaseSite(Reading):
    """An installation with a registry, people and a scorer that obeys; `request` is allowed and not yet done."""

    request: int
    scorer: Obedient

    def site(self, address: str, engine: sa.Engine, outside: Outside, wait_seconds: float = WAIT_SECONDS) -> Site:
        """As release commands see it; the model server is the process' `Outside`."""
        now = functools.partial(outside.call, "clock.now", lambda: NOW + outside.clock_us)
        return Site(engine, address, "", outside, self.folder / "models", now, wait_seconds)  # type: ignore[arg-type]

    def beside(self, work: Callable[[Site], Any]) -> Life:
        """Another command, at once and to its end."""
        outside = Outside()
        outside.until = self._obeyed

        def run() -> None:
            with reached(self.broker, call=outside.call) as address:
                work(self.site(address, self.engine, outside, OTHERS_WAIT_SECONDS))

        return Life("another command", outside, run).run()

    def _obeyed(self) -> bool:
        self.scorer.obey()
        return False


def _beside(name: str, work: Callable[[ReleaseSite], Callable[[Site], Any]]) -> Act:
    """Another command runs to its end in the middle of a call; none can while a SQL transaction holds the database."""

    def does(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
        site: ReleaseSite = outside.site  # type: ignore[attr-defined]
        with outside.frozen():
            site.beside(work(site))
        return does()

    return Act(name, lambda call: not call.startswith(("sql.", "clock.")), does)


def _withdraw(site: ReleaseSite) -> Callable[[Site], Any]:
    def work(commands: Site) -> None:
        with transaction(commands.engine) as session:
            models.withdraw(session, site.request, by="ada@bank.example", now_us=NOW)

    return work


class ReleaseTries(OnSQL):
    """A promotion of the canary to champion, with its thresholds; it may be withdrawn or overtaken meanwhile."""

    name = "release"
    acts = (
        CRASH, CRASH_BEHIND, ERROR, ERROR_BEHIND,
        _beside("the same command at the same time", lambda site: lambda commands: carry_out(
            commands, site.request, lambda version: {}
        )),
        _beside("a rollback at the same time", lambda site: lambda commands: roll_back(
            commands, 2, by="bob@bank.example", why="looks wrong"
        )),
        _beside("withdrawn", _withdraw),
    )  # fmt: skip

    def prepare(self) -> None:
        """Version 1 is champion, 2 its canary, both by releases of their own."""
        site = founded(self.template)
        with reached(site.broker) as address:
            scored_once(address, self.template / "snapshots")
        add_people(site.engine)
        for version in (1, 2, 3):
            with transaction(site.engine) as session:
                add_version(session, registered(version), "ada@bank.example")
        policy = self.template / "models" / "2" / POLICY_FILE
        policy.parent.mkdir(parents=True)
        policy.write_bytes(msgspec.json.encode(Policy(version="own", review_at=0.6, decline_at=0.8)))
        self._template = self._release_site(site)
        for version, stage, per_mille in ((1, "champion", 0), (2, "shadow", 0), (2, "canary", 100)):
            self._allow(self._template, version, stage, per_mille)
            life = self._template.beside(
                lambda commands: carry_out(commands, self._template.request, lambda version: {})
            )
            if life.error is not None:
                raise life.error
        self._allow(self._template, 2, "champion", 0)
        self._template.close()

    def _release_site(self, site: Reading) -> ReleaseSite:
        made = ReleaseSite(site.broker, site.folder)
        made.scorer = Obedient(made)
        return made

    def begin(self, folder: Path) -> ReleaseSite:
        """A copy of the template."""
        made = self._release_site(self._template.copy(folder))
        made.request = self._template.request
        return made

    def outside(self, site: ReleaseSite, moment: Any, act: Act | None) -> Outside:
        """Of a command that can be overtaken."""
        made = super().outside(site, moment, act)
        made.site = site  # type: ignore[attr-defined]
        return made

    def live(self, site: ReleaseSite, outside: Outside) -> None:
        """The command; the scorer obeys while it waits."""
        outside.until = site._obeyed
        engine = self.watched(site, outside)
        try:
            with reached(site.broker, call=outside.call) as address:
                carry_out(site.site(address, engine, outside), site.request, lambda version: {})
        except PlumblineError as error:
            site.said = error  # type: ignore[attr-defined] # a command may be refused, and be run again
        finally:
            engine.dispose()

    def more(self, site: ReleaseSite) -> None:
        """A killed command's lease runs out, and the scorer takes what is there."""
        site.scorer.obey()
        if sa.inspect(site.engine).has_table("release_owner"):
            with transaction(site.engine) as session:
                session.execute(sa.text("UPDATE release_owner SET expires_at_ms = 0"))

    def wrong(self, site: ReleaseSite) -> Iterator[tuple[str, str]]:
        """What is active is what the registry wishes; and the next release goes through."""
        site.scorer.obey()
        self.more(site)
        self._allow(site, 3, "shadow", 0)
        site.scorer.obey()
        life = site.beside(lambda commands: carry_out(commands, site.request, lambda version: {}))
        if life.error is not None:
            yield "registry_disagreements", f"the next release ended with {type(life.error).__name__}: {life.error}"
        site.scorer.obey()
        active = self._active(site)
        with transaction(site.engine) as session:
            wish = assigned(registry_of(session), "wish")
        if wish is None or active is None or not same_effect(wish, active):
            yield "registry_disagreements", f"the registry wishes {wish}, active is {active}"

    @staticmethod
    def _active(site: Reading) -> Assignment | None:
        found = [journal.decode(each.value) for each in site.broker.log(JOURNAL).records if each.value is not None]
        return [each.assignment for each in found if isinstance(each, AssignmentApplied)][-1]

    @staticmethod
    def _allow(site: ReleaseSite, version: int, stage: str, per_mille: int) -> None:
        with transaction(site.engine) as session:
            asked = models.ask(
                session, kind="promote", by="ada@bank.example", now_us=NOW, version=version, to_stage=stage,
                per_mille=per_mille,
            )  # fmt: skip
            site.request = asked.id
        with transaction(site.engine) as session:
            models.approve(session, site.request, by="bob@bank.example", now_us=NOW)


class _Silent:
    """Looks on."""

    def changed(self, manifest: Any) -> None:
        """Nothing."""

    def told(self, step: str, done: int, whole: int) -> None:
        """Nothing."""

    def noticed(self, step: str, what: str) -> None:
        """Nothing."""


class NightTries(Tries):
    """A nightly run whose steps each read the file of the one before: whatever ends it, the next start completes it."""

    name = "nightly run"
    acts = tuple(each for each in ALONE if not each.name.startswith("clock"))
    STEPS: ClassVar = ("first", "second", "third", "last")

    def prepare(self) -> None:
        """An empty folder, and what an undisturbed run leaves."""
        self.template.mkdir()
        self._digests: dict[str, str] = {}
        folder = self._folder / "undisturbed"
        self.live(self.begin(folder), Outside())
        self._digests = self._found(folder)

    def begin(self, folder: Path) -> Path:
        """A folder."""
        folder.mkdir()
        return folder

    def live(self, site: Path, outside: Outside) -> None:
        """One attempt at the run."""
        root = outside.watched(site)
        asked = Asked(root / "runs" / "run-1", "run-1", {"seed": 1}, root, "c" * 64, "h", {})
        before = ("", *self.STEPS)
        steps = [
            Step(name, self._work(root, name, earlier), (earlier,) if earlier else (), dict)
            for earlier, name in zip(before, self.STEPS, strict=False)
        ]
        Runner(asked, steps, _Silent(), now_us=lambda: 5, stopped=outside.stop.is_set).run()

    @staticmethod
    def _work(root: Path, name: str, before: str) -> Callable[[Place], Done]:
        def work(place: Place) -> Done:
            text = (place.of(before) / "text").read_text() if before else "begin"
            day = root / "days" / f"{name}.day"
            day.parent.mkdir(exist_ok=True)
            unfinished = day.with_suffix(".unfinished")
            unfinished.write_bytes(f"{text} {name}".encode())
            unfinished.rename(day)
            (place.folder / "text").write_bytes(f"{text} {name}".encode())
            return Done(rows=len(text), facts={}, shared=(day,), ends="shadowed" if name == "last" else "")

        return work

    def may_end(self, moment: Any, error: BaseException) -> bool:
        """Whoever calls the verb sees the error, and calls again."""
        return isinstance(error, PlumblineError | OSError) or type(error).__name__ == "Stopped"

    def wrong(self, site: Path) -> Iterator[tuple[str, str]]:
        """The run is complete, and its files are what they are without a fault."""
        found = read_run(site / "runs" / "run-1")
        if found is None or found.verdict != "shadowed":
            yield "lost", f"the run ended as {found and (found.verdict, found.error)}"
        if (digests := self._found(site)) != self._digests:
            yield "different", f"{digests} against {self._digests}"
        # What a disk would not let go of has been put out of its name, and holds nothing that counts.
        found_there = [each.name for each in (site / "runs" / "run-1").glob(".*")]
        if left := [name for name in found_there if not name.startswith(REMOVED)]:
            yield "different", f"left behind: {left}"

    def _found(self, site: Path) -> dict[str, str]:
        records = {name: read_step(site / "runs" / "run-1" / name) for name in self.STEPS}
        return {name: "" if each is None else each.digest for name, each in records.items()}
