"""The audit: a selection of the journal, computed again from raw messages, and compared.

First the journal is read once, in order: each message is parsed and judged again, history is computed by the kernel in
one sweep, and features, score and outcome follow from that. Then the Beam pipeline computes history a second time, key
by key. In memory there are a chunk of records and the fold of keys; the rest lies in scratch files.
"""

import functools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archive.layout import open_archive
from archive.record import Record
from audit.batch_path import read_arrivals, recompute_history, write_arrivals
from audit.causes import explain
from audit.compare import Recomputed, compare, compare_shadow
from audit.intake import Intake, Judged, Taken
from audit.measures import differences, from_table, journaled, to_table
from audit.models import Versions
from audit.parts import COMPARED_ROWS, by_deciding, in_parts
from audit.recorded import RecordedJournal
from audit.report import Difference, Report
from audit.selection import Selection
from audit.shadowed import Row, Shadowed
from features.declaration import fingerprint
from features.grammar import Declaration
from features.sweep import Entities, History
from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Answered, JournalBegun
from plumbline.policy import Policy
from plumbline.transaction import Transaction
from streaming.backfill import fold_archive
from streaming.known import Known
from streaming.state import State

_BEGUN: Final = b'{"type":"begun"'


@dataclass(frozen=True, slots=True)
class Audited:
    """What to audit.

    journal: its records; selection: which of them to compare; prefix: of the topics; versions: the models;
    archive, archive_until_us: what came before the journal; remembered: transactions whose ids the scorer keeps.
    """

    journal: RecordedJournal
    prefix: str
    versions: Versions
    archive: Path | None
    archive_until_us: int | None
    remembered: int
    selection: Selection = field(default_factory=Selection)


def audit(asked: Audited, tell: Callable[[str], None]) -> Report:
    """Recompute and compare; tell: called with a sentence as each step begins.

    All entries before the selection are read too, since history comes from them. Raises ModelVersionNotFound when a
    version's files are gone, BrokerUnavailable, InvalidArchive, JournalRefused.
    """
    report = Report()
    with tempfile.TemporaryDirectory(prefix="plumbline-audit-") as scratch:
        swept = _Swept(Path(scratch, "arrivals"), Path(scratch, "journaled"))
        _sweep(asked, report, swept, tell)
        if swept.declarations:
            tell("computing history by Beam, key by key")
            _by_key(asked, report, swept, Path(scratch, "history"))
    explain(report, swept.declarations, asked.versions.as_exported, asked.versions.same_host)
    return report


@dataclass(slots=True)
class _Swept:
    """What the first reading leaves for the second: files, and of the decisions compared the time range and the keys.

    declarations: under which they were computed, by fingerprint.
    """

    arrivals: Path
    journaled: Path
    declarations: dict[str, Declaration] = field(default_factory=dict)
    earliest_us: int = 2**62
    latest_us: int = -1
    keys: dict[str, set[str]] = field(default_factory=lambda: {"account": set(), "merchant": set(), "device": set()})

    def note(self, transactions: Sequence[Transaction], *, with_keys: bool) -> None:
        """Widen the range by these, and remember their keys where only some matter."""
        times = [each.occurred_at for each in transactions]
        self.earliest_us, self.latest_us = min(self.earliest_us, *times), max(self.latest_us, *times)
        if with_keys:
            self.keys["account"].update(each.account_id for each in transactions)
            self.keys["merchant"].update(each.merchant_id for each in transactions)
            self.keys["device"].update(each.device_id for each in transactions if each.device_id)

    def write(self, number: int, tables: Mapping[str, Sequence[pa.Table]]) -> None:
        """Put what the journal says of a chunk's decisions on disk, by declaration."""
        for name, parts in tables.items():
            folder = self.journaled / name
            folder.mkdir(exist_ok=True)
            pq.write_table(pa.concat_tables(parts), folder / f"{number:06d}.parquet", compression="lz4")


def _sweep(asked: Audited, report: Report, swept: _Swept, tell: Callable[[str], None]) -> None:
    """Everything but the Beam pipeline, in one reading of the journal."""
    swept.arrivals.mkdir()
    swept.journaled.mkdir()
    state = State(Known(_remembered(asked)))
    if asked.archive is not None:
        tell("checking and folding the archive")
        archive = open_archive(asked.archive)
        archive.verify()
        fold_archive(state, archive, asked.archive_until_us, lambda rows: None)
    tell("reading the journal and comparing")
    shadowed = Shadowed()
    intake = Intake(state, asked.prefix, functools.partial(_rebuilt, asked, swept.arrivals))
    policies: dict[str, Policy] = {}
    for number, chunk in enumerate(_until_past(asked)):
        first = intake.arrived
        taken = intake.take(chunk)
        write_arrivals(swept.arrivals, number, first, taken.rows)
        chosen = [
            each
            for each in taken.judged
            if asked.selection.covers(each.record) and asked.selection.takes(each.account_id)
        ]
        _count(report, chosen)
        tables: dict[str, list[pa.Table]] = defaultdict(list)
        for part in in_parts(taken.judged, chosen, policies):
            swept.declarations |= {name: intake.declaration(name) for name in part[0].in_force}
            swept.note([_transaction(each) for each in part], with_keys=asked.selection.sample is not None)
            for alike in by_deciding(part):
                for name, table in _compare(asked, report, alike, first, taken, policies, swept.declarations).items():
                    tables[name].append(table)
        swept.write(number, tables)
        _take_answers(asked, report, swept, taken, first, shadowed, {id(each) for each in chosen})
    report.shadow_rows, report.shadow_failed = shadowed.rows, shadowed.failed
    report.shadow_waiting = shadowed.waiting


def _remembered(asked: Audited) -> int:
    """How many transactions the journal says are remembered at first; as asked where it does not say."""
    first = next((each for chunk in asked.journal.chunks() for each in chunk), None)
    if first is None or first.value is None or not first.value.startswith(_BEGUN):
        return asked.remembered
    entry = journal.decode(first.value)
    return entry.remembered if isinstance(entry, JournalBegun) else asked.remembered


def _take_answers(
    asked: Audited, report: Report, swept: _Swept, taken: Taken, first: int, shadowed: Shadowed, chosen: Container[int]
) -> None:
    """Note which decisions wait for shadows, and compare what these have answered; chosen: ids of what is compared."""
    rows: dict[int, list[Row]] = {}
    wrong: list[Difference] = []
    for each in taken.judged:
        if isinstance(each.entry, Decision):
            waits = id(each) in chosen and each.arrival >= 0
            shadowed.expect(
                each.record.sequence,
                {
                    version: _row(each, name, swept.declarations, taken, first) if waits else None
                    for version, name in each.shadows
                },
            )
        elif isinstance(each.entry, Answered) and each.entry.role == "shadow":
            found, bad = shadowed.take(each.record.sequence, each.entry)
            rows.setdefault(each.entry.version, []).extend(found)
            wrong += bad
    for version, found in rows.items():
        for begin in range(0, len(found), COMPARED_ROWS):
            compare_shadow(report, version, found[begin : begin + COMPARED_ROWS], asked.versions)
    report.add("intake", 0, [*wrong, *shadowed.lost()])


def _row(each: Judged, name: str, declarations: Mapping[str, Declaration], taken: Taken, first: int) -> Row:
    """A decision as a shadow should have seen it; name: the shadow's declaration."""
    if not isinstance(each.entry, Decision):
        raise AssertionError("only decisions have shadows")
    history = taken.histories[name][each.arrival - first].copy()
    names = declarations[name].history_names
    return Row(each.record.sequence, each.entry, _transaction(each), name, names, history)


def _rebuilt(asked: Audited, arrivals: Path, declaration: Declaration, entities: Entities) -> History:
    """History of the archive and of the arrivals on disk, under a declaration that comes into force after them."""
    history = History(declaration, entities)
    if asked.archive is not None:
        name = declaration.fingerprint
        state = State(Known(asked.remembered), {name: History(declaration)}, only=name)
        fold_archive(state, open_archive(asked.archive), asked.archive_until_us, lambda rows: None)
        # Numbers are handed out in order of arrival: the archive's own are the first of those that all have by now.
        history = state.histories[name]
        history.entities = entities
    for each in read_arrivals(arrivals):
        history.take(each, entities.slots(each))
    return history


def _until_past(asked: Audited) -> Iterator[list[Record]]:
    """The journal's chunks, up to where the selection ends."""
    for chunk in asked.journal.chunks():
        end = next((n for n, each in enumerate(chunk) if asked.selection.is_past(each)), None)
        if end is None:
            yield chunk
        else:
            yield chunk[:end]
            return


def _count(report: Report, chosen: Sequence[Judged]) -> None:
    for each in chosen:
        report.see(each.record.sequence, each.record.appended_at_ms)
    report.raw_missing += sum(each.record.state == "gone" for each in chosen)
    found = [difference for each in chosen for difference in each.differences]
    parsed = sum(each.record.message is not None or each.record.state == "never" for each in chosen)
    report.add("transaction", parsed, (each for each in found if each.layer == "transaction"))
    report.add("intake", len(chosen), (each for each in found if each.layer == "intake"))


def _compare(
    asked: Audited,
    report: Report,
    part: Sequence[Judged],
    first: int,
    taken: Taken,
    policies: Mapping[str, Policy],
    declarations: Mapping[str, Declaration],
) -> dict[str, pa.Table]:
    """Compare decisions with the sweep's numbers.

    Returns what the journal says of them under each declaration in force, for the second comparison.
    """
    decisions = [(each.record.sequence, each.entry) for each in part if isinstance(each.entry, Decision)]
    arrived = np.array([each.arrival for each in part], np.int64)
    found = arrived >= 0
    deciding, *others = part[0].in_force or (fingerprint(),)
    pasts = {}
    for name in (deciding, *others):
        history = np.zeros((len(part), taken.histories[name].shape[1]), np.int64)
        history[found] = taken.histories[name][arrived[found] - first]
        pasts[name] = Recomputed(declarations[name].history_names, history)
    compare(
        report, decisions, pasts[deciding].history, found, policies, asked.versions,
        transactions=[_transaction(each) for each in part], layer="sweep", names=pasts[deciding].names,
        declared=deciding, beside={name: pasts[name] for name in others},
    )  # fmt: skip
    return {
        name: to_table(journaled(decisions, len(past.names), None if name == deciding else name), arrived, past.names)
        for name, past in pasts.items()
    }


def _transaction(each: Judged) -> Transaction:
    """A decision's transaction: as parsed again, or as journaled where the message says something else altogether."""
    if isinstance(each.body, Transaction):
        return each.body
    if not isinstance(each.entry, Decision):
        raise AssertionError("only decisions are compared in full")
    return each.entry.transaction


def _by_key(asked: Audited, report: Report, swept: _Swept, scratch: Path) -> None:
    """Compare history with the Beam pipeline's, under each declaration."""
    keys = {owner: pa.array(sorted(ids), pa.string()) for owner, ids in swept.keys.items()}
    for declared, declaration in swept.declarations.items():
        names = declaration.history_names
        pipeline = recompute_history(
            asked.archive, asked.archive_until_us, swept.arrivals, scratch / declared, declaration=declaration,
            keep_us=(swept.earliest_us, swept.latest_us + 1), keys=keys if asked.selection.sample is not None else None,
        )  # fmt: skip
        for file in sorted((swept.journaled / declared).glob("*.parquet")):
            rows, arrived = from_table(pq.read_table(file), names)
            history, found = np.zeros_like(rows.history), np.zeros(len(rows), np.bool_)
            entered = arrived >= 0
            history[entered], found[entered] = pipeline.of(arrived[entered])
            report.add("history", len(rows), differences(rows, history, found, "history", names, declared))
