"""The checker: what must hold of topics, journal, dead letters and SQL once the dust has settled.

Pure functions of what was read; each failure is counted under a name, and the first few are told in words.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from audit.provenance import Provenance, named, tag
from plumbline import journal
from plumbline.decision import Decision, Source
from plumbline.errors import PlumblineError
from plumbline.journal import (
    Answered,
    AssignmentApplied,
    Conflict,
    ControlApplied,
    DeadLetter,
    Entry,
    LabelApplied,
    Rejected,
)
from plumbline.message import digest_of, start_of
from plumbline.names import Topic
from streaming.known import Known
from streaming.state import State

TOLD_MOST: Final = 20
"""Failures of one kind that are told in words."""

Place = tuple[str, int, int]
"""Topic, partition and offset of a message."""

SOURCES: Final = (Topic.TRANSACTIONS.value, Topic.LABELS.value, Topic.CONTROL.value)


@dataclass(slots=True)
class Findings:
    """How often each promise was broken, and the first cases of each.

    unordered: changes of the active policy and assignment without a message, and decisions under others.
    """

    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    ledger_different: int = 0
    unordered: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, name: str, cases: Iterable[str]) -> None:
        """Count cases under a field's name, and keep the first few."""
        found = list(cases)
        setattr(self, name, getattr(self, name) + len(found))
        self.told += [f"{name}: {case}" for case in found[:TOLD_MOST]]


def check(
    acknowledged: Sequence[tuple[str, int, int, bytes]],
    taken: dict[Place, bytes],
    entries: Sequence[tuple[int, Entry]],
    letters: Sequence[DeadLetter],
) -> Findings:
    """Everything that must hold between the messages, the journal and the dead letters.

    acknowledged: topic, partition, offset and bytes of each message that the broker acknowledged to its sender; taken:
    what its topics hold; entries: the journal as readers of committed records see it, with sequence numbers.
    """
    findings = Findings()
    _check_topics(findings, acknowledged, taken)
    sources = [entry.source for _, entry in entries if entry.source is not None]
    answered = Counter(place(each) for each in sources)
    findings.add("lost", (f"{each} has no entry" for each in taken if each not in answered))
    findings.add("doubled", (f"{each} has {count} entries" for each, count in answered.items() if count > 1))
    unknown = (
        each for each in answered if each[0] != Topic.CONTROL.value and each not in taken
    )  # control is compacted
    findings.add("doubled", (f"{each} has an entry, and is not in its topic" for each in unknown))
    _check_identities(findings, acknowledged, taken, entries)
    _check_letters(findings, entries, letters, taken)
    _check_order(findings, entries)
    _check_shadows(findings, entries)
    _check_active(findings, entries)
    return findings


def place(source: Source) -> Place:
    """A source without its time."""
    return source.topic, source.partition, source.offset


def _check_topics(
    findings: Findings, acknowledged: Sequence[tuple[str, int, int, bytes]], taken: dict[Place, bytes]
) -> None:
    """The broker still holds what it acknowledged; of the compacted control topic older policies may be gone."""
    findings.add(
        "lost",
        (
            f"{(topic, partition, offset)} was acknowledged, and is not in its topic"
            for topic, partition, offset, value in acknowledged
            if topic != Topic.CONTROL.value and taken.get((topic, partition, offset)) != value
        ),
    )


def _check_identities(
    findings: Findings,
    acknowledged: Sequence[tuple[str, int, int, bytes]],
    taken: dict[Place, bytes],
    entries: Sequence[tuple[int, Entry]],
) -> None:
    """Each transaction is decided once, by its first message; each entry speaks of the very message it names."""
    decided = Counter(entry.transaction.transaction_id for _, entry in entries if isinstance(entry, Decision))
    findings.add("doubled", (f"{each} is decided {count} times" for each, count in decided.items() if count > 1))
    rejected = {place(entry.source) for _, entry in entries if isinstance(entry, Rejected)}
    for topic, partition, offset, value in acknowledged:
        if topic == Topic.TRANSACTIONS.value and (topic, partition, offset) not in rejected:
            identity = json.loads(value)["transaction_id"]
            if identity not in decided:
                findings.add("lost", [f"{identity} was acknowledged, and never decided"])
    for sequence, entry in entries:
        if not isinstance(entry, Decision | Conflict | LabelApplied) or entry.source is None:
            continue
        value = taken.get(place(entry.source), b"null")
        said = entry.label.label_id if isinstance(entry, LabelApplied) else entry.transaction.transaction_id
        sent = json.loads(value) or {}
        if said not in {sent.get("label_id"), sent.get("transaction_id")}:
            findings.add("lost", [f"journal entry {sequence} speaks of {said}, its message does not"])


def _check_letters(
    findings: Findings, entries: Sequence[tuple[int, Entry]], letters: Sequence[DeadLetter], taken: dict[Place, bytes]
) -> None:
    """What was rejected has its dead letter, once, with the message's very bytes, or their start and their digest."""
    wanted = [place(entry.source) for _, entry in entries if isinstance(entry, Rejected)]
    found = [place(each.source) for each in letters]
    findings.add("lost", (f"{each} was rejected without a dead letter" for each in set(wanted) - set(found)))
    findings.add("doubled", (f"{each} has {n} dead letters" for each, n in Counter(found).items() if n > 1))
    findings.add("doubled", (f"{each} has a dead letter and no entry" for each in set(found) - set(wanted)))
    other = (
        each
        for each in letters
        if (raw := taken.get(place(each.source))) is not None
        and (start_of(raw), digest_of(raw)) != (each.raw, each.raw_sha256)
    )
    findings.add("lost", (f"{place(each.source)}: its dead letter holds other bytes" for each in other))


def _check_order(findings: Findings, entries: Sequence[tuple[int, Entry]]) -> None:
    """Sequence numbers, each partition's messages, and each account's, stand in the journal in their order."""
    newest: dict[Hashable, int] = {}

    def follow(key: Hashable, number: int, what: str) -> None:
        if newest.get(key, -1) >= number:
            findings.add("disordered", [f"{what}: {number} comes after {newest[key]}"])
        newest[key] = number

    for sequence, entry in entries:
        follow("journal", sequence, "the journal")
        if entry.source is not None:
            follow((entry.source.topic, entry.source.partition), entry.source.offset, f"{place(entry.source)}")
        if isinstance(entry, Decision):
            account = entry.transaction.account_id
            follow((account, entry.source.partition), entry.source.offset, f"account {account}")


def _check_shadows(findings: Findings, entries: Sequence[tuple[int, Entry]]) -> None:
    """Each decision has one answer of each shadow that was in force at its place, behind it; and no other answer."""
    shadows: tuple[int, ...] = ()
    waiting: set[tuple[int, int]] = set()
    for sequence, entry in entries:
        if isinstance(entry, AssignmentApplied):
            shadows = () if entry.assignment is None else entry.assignment.shadows
        elif isinstance(entry, Decision):
            waiting |= {(version, sequence) for version in shadows}
        elif isinstance(entry, Answered) and entry.role == "shadow":
            said = [(entry.version, of) for of in entry.sequences]
            other = [each for each in said if each not in waiting]
            findings.add("doubled", (f"shadow {version} answers again, or too early, of {of}" for version, of in other))
            waiting -= set(said)
    findings.add("lost", (f"shadow {version} never answered of {of}" for version, of in sorted(waiting)))


def _check_active(findings: Findings, entries: Sequence[tuple[int, Entry]]) -> None:
    """The journal begins once; then the active policy and assignment change by messages alone, and decide."""
    provenance, wrong = Provenance(), []
    for sequence, entry in entries:
        why = provenance.take(tag(entry), named(entry), from_message=entry.source is not None)
        wrong += [f"journal entry {sequence}: {why}"] if why else []
        if isinstance(entry, Decision) and not provenance.is_active(entry.policy_version, entry.assignment):
            made = f"policy {entry.policy_version!r} and assignment {entry.assignment!r}"
            active = f"{provenance.policy!r} and {provenance.assignment!r}"
            wrong.append(f"journal entry {sequence} was decided under {made}, active were {active}")
    if entries and not provenance.declared:
        wrong.append("the journal has no first declaration")
    findings.add("unordered", wrong)


def check_fold(entries: Sequence[tuple[int, Entry]]) -> list[str]:
    """Why the journal does not fold into a state of the same histories; empty where it does."""
    try:
        State(Known(4_000_000)).fold(entries)
    except PlumblineError as error:
        return [str(error)]
    return []


def check_ledger(
    findings: Findings, stored: dict[str, list[dict[str, Any]]], wanted: dict[str, list[dict[str, Any]]]
) -> None:
    """SQL is what the journal says, row by row.

    stored, wanted: rows by table, as `tests.journal_writer` reads them from SQL and makes them of the journal's bytes.
    """
    for table, rows in wanted.items():
        ours, theirs = (Counter(json.dumps(row, sort_keys=True) for row in each) for each in (stored[table], rows))
        findings.add("ledger_different", (f"{table} has {row}" for row in (ours - theirs).elements()))
        findings.add("ledger_different", (f"{table} lacks {row}" for row in (theirs - ours).elements()))


def kinds(entries: Sequence[tuple[int, Entry]]) -> dict[str, int]:
    """How many entries of each kind, decisions without a score, and labels by effect."""
    found = Counter(type(entry).__name__ for _, entry in entries)
    counts = {
        name: found[kind.__name__]
        for name, kind in (("decisions", Decision), ("conflicts", Conflict), ("rejected", Rejected),
                           ("labels", LabelApplied), ("policies", ControlApplied), ("answered", Answered))
    }  # fmt: skip
    counts["unscored"] = sum(isinstance(entry, Decision) and not entry.scores for _, entry in entries)
    effects = Counter(entry.effect for _, entry in entries if isinstance(entry, LabelApplied))
    return counts | {f"labels_{effect}": count for effect, count in sorted(effects.items())}


def decoded(records: Sequence[Any]) -> list[tuple[int, Entry]]:
    """The journal's records with their sequence numbers."""
    return [(each.offset, journal.decode(each.value)) for each in records]
