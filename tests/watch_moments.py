"""The watching process, for acts at every moment: what it counts is counted once, and the balance is even."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.orm import Session

from audit.past import Journal, Sources
from audit.watching import Watching, run
from observe.metrics import Metrics
from plumbline.decision import Decision
from store.watch import balance, continuous_audit
from tests.fake_kafka import reached
from tests.fakes import NOW
from tests.moments import Outside
from tests.process_moments import JOURNAL, OnSQL, Reading, entries_of, founded
from tests.scorer_moments import Installation, scored, send_some


class WatchTries(OnSQL):
    """The watch: every decision is counted once, by histories that it folds itself; no model is here to be asked."""

    name = "watch"

    def prepare(self) -> None:
        """A journal that a scorer wrote, with messages of every kind behind it, the first part of it in SQL."""
        self.site = founded(self.template)
        self._installed = Installation(self.site.broker, self.template)
        send_some(self._installed, 12)
        scored(self._installed)
        shutil.rmtree(self.template / "snapshots")
        self.live(self.site, Outside())
        send_some(self._installed, 20)
        scored(self._installed)
        shutil.rmtree(self.template / "snapshots")
        self.site.close()

    def begin(self, folder: Path) -> Reading:
        """A copy of it."""
        return self.site.copy(folder)

    def live(self, site: Reading, outside: Outside) -> None:
        """Watch until everything is counted."""

        def announce(sequence: int) -> None:
            if sequence >= self._newest(site):
                outside.stop.set()

        engine = self.watched(site, outside)
        now = lambda: outside.call("clock.now", lambda: NOW + outside.clock_us)  # noqa: E731
        try:
            with reached(site.broker, call=outside.call, give_most=12) as address:
                sources = Sources(Journal(address, ""), None, None, site.folder / "models")
                kept = outside.watched(site.folder / "watch")
                run(Watching(sources, engine, kept, 1, 15, 60_000), Metrics(), now, outside.stop, announce)
        finally:
            engine.dispose()

    def more(self, site: Reading) -> None:
        """More of the journal."""
        again = Installation(site.broker, site.folder, paid=1_000)
        send_some(again, 6)
        life = scored(again)
        shutil.rmtree(site.folder / "snapshots")
        if life.error is not None:
            raise life.error

    def wrong(self, site: Reading) -> Iterator[tuple[str, str]]:
        """Every decision was counted once, none differs, and the balance is even."""
        decided = sum(isinstance(entry, Decision) for entry in entries_of(site))
        with Session(site.engine) as session:
            row, balanced = continuous_audit(session), balance(session)
        if row is None or row.compared + row.unverified != decided:
            yield "lost", f"{row and (row.compared, row.unverified)} of {decided} decisions were counted"
        elif row.different:
            yield "different", f"{row.different}: {row.detail[:1]}"
        if balanced is None or balanced.imbalance:
            yield "different", f"the balance is {balanced and (balanced.imbalance, balanced.body)}"

    @staticmethod
    def _newest(site: Reading) -> int:
        return max(each.offset for each in site.broker.log(JOURNAL).records if not each.marker)
