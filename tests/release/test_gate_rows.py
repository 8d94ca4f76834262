"""Which rows the parity gate compares, and which requests are too old to be carried out."""

from pathlib import Path

import msgspec
import pytest

from archive.kept import append, nothing_kept, write_manifest
from archive.record import Record
from features.declaration import DECLARATION
from plumbline import journal
from plumbline.decision import Decision
from plumbline.errors import InvalidArchive, Refused
from plumbline.transaction import DAY_US, SECOND_US, parse
from release.carrying import Site, carry_out
from release.journaled import MADE_AT, kept_decisions, made_rows, rows_of
from release.registering import register
from release.serving import ModelServer
from store.engine import transaction
from store.models import REFUSED, REQUEST_SECONDS, approve, ask, model_request
from tests.journal_writer import entries

NAMES = DECLARATION.history_names


def decisions():
    return [each for each in entries(200, 3) if isinstance(each, Decision)]


def test_history_of_another_declaration_is_taken_over_measure_by_measure():
    history = {"fingerprint": DECLARATION.fingerprint, "other_histories": ()}
    made = [
        msgspec.structs.replace(each, history=tuple(range(n, n + len(NAMES))), **history)
        for n, each in enumerate(decisions())
    ]
    own = rows_of(made, DECLARATION, {DECLARATION.fingerprint: NAMES})
    assert [each.history for each in own] == [each.history for each in made]
    assert not any(each.carried_over for each in own)

    class Fewer:
        fingerprint, history_names = "another", (NAMES[2], "new_measure", NAMES[0])

    other = rows_of(made, Fewer, {DECLARATION.fingerprint: NAMES})
    assert [each.history for each in other] == [(each.history[2], 0, each.history[0]) for each in made]
    assert all(each.carried_over for each in other)
    assert rows_of(made, Fewer, {}) == [], "nobody knows what those integers are"


def test_a_kept_journal_gives_its_newest_decisions_and_a_changed_one_none(tmp_path: Path):
    folder = tmp_path / "kept"
    folder.mkdir()
    kept = nothing_kept("", "", None)
    write_manifest(folder, kept)
    records = [Record(n, 1, journal.encode(each), "transactions", 0, n) for n, each in enumerate(entries(200, 3))]
    append(folder, kept, 0, len(records), [records])
    found = kept_decisions(folder, 20)
    assert [journal.encode(each) for each in found] == [journal.encode(each) for each in decisions()[-20:]]
    block = next(folder.glob("*.parquet"))
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidArchive, match="changed or damaged"):
        kept_decisions(folder, 20)


def test_what_was_allowed_too_long_ago_is_not_carried_out(installed, base):
    with transaction(installed) as session:
        register(session, base, 1, by="ada", now_us=1)
        number = ask(session, kind="promote", version=1, to_stage="champion", by="ada@bank.example", now_us=1).id
        approve(session, number, by="bob@bank.example", now_us=2)
    late = 2 + REQUEST_SECONDS * SECOND_US + 1
    site = Site(installed, "127.0.0.1:1", "", ModelServer("127.0.0.1:1", "plumbline", "", 10), base, lambda: late)
    with pytest.raises(Refused, match="allowed more than 72 hours ago"):
        carry_out(site, number, lambda version: {})
    with transaction(installed) as session:
        assert model_request(session, number).state == REFUSED


def test_rows_for_the_first_version_of_all_are_the_same_in_every_process_and_unlike_each_other():
    rows = made_rows(DECLARATION, 300)
    assert rows == made_rows(DECLARATION, 300)
    assert all(len(each.history) == len(NAMES) and each.carried_over for each in rows)
    assert len({each.history for each in rows}) == 300
    assert {min(each.history) for each in rows} == {0}
    assert max(max(each.history) for each in rows) > 10**8
    for each in rows:
        assert parse(msgspec.json.encode(each.transaction), MADE_AT + 28 * DAY_US) == each.transaction, (
            "a payment as any other"
        )
