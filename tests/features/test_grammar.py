"""A declaration as a value: it survives JSON, says what is wrong with it, and its fingerprint is its meaning."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from features import grammar
from features.declaration import DECLARATION
from features.grammar import Declaration, Feature, Measure, Table
from plumbline.errors import InvalidDeclaration
from plumbline.transaction import DAY_US


def test_json_and_back_is_the_same_declaration():
    again = grammar.decode(grammar.encode(DECLARATION))
    assert again == DECLARATION
    assert (again.fingerprint, again.history_names) == (DECLARATION.fingerprint, DECLARATION.history_names)
    assert grammar.from_fields(json.loads(json.dumps(grammar.fields_of(DECLARATION)))) == DECLARATION


def test_every_feature_has_a_reason_in_english_and_in_chinese():
    for each in DECLARATION.features:
        assert each.reason_en.isascii(), each.name
        assert len(each.reason_en) > 5, each.name
        assert any("\u4e00" <= character <= "\u9fff" for character in each.reason_zh), each.name


def test_the_fingerprint_follows_numbers_and_not_words():
    longer = replace(DECLARATION, history=(*DECLARATION.history, Measure("account", "count", "14d")))
    first, *others = DECLARATION.features
    reworded = replace(DECLARATION, features=(replace(first, reason_en="how much"), *others))
    assert longer.fingerprint != DECLARATION.fingerprint
    assert reworded.fingerprint == DECLARATION.fingerprint
    assert replace(DECLARATION, lateness_us=1).fingerprint != DECLARATION.fingerprint


BEFORE_UNUSUAL = Path(__file__).with_name("declaration_before_unusual.json").read_bytes()
"""A release's declaration from before tables could say what is usual, as its models and snapshots carry it."""


def test_what_was_declared_before_keeps_its_fingerprint_and_its_bytes():
    old = grammar.decode(BEFORE_UNUSUAL)
    assert old.fingerprint == "5aade9651bf5c691"
    assert grammar.encode(old) == BEFORE_UNUSUAL.strip(), "or a snapshot's seal would no longer fit"
    account, *others = old.tables
    usual = replace(old, tables=(replace(account, usual="90d"), *others))
    assert usual.fingerprint != old.fingerprint
    assert (usual.horizon_us("account"), old.horizon_us("account")) == (97 * DAY_US, 37 * DAY_US)


def test_a_table_says_that_labels_mark_it_only_where_they_do():
    merchant = Table("merchant", "merchant", "transactions", bound=64)
    marked = replace(merchant, outcomes=True)
    assert b"outcomes" not in msgspec.json.encode(merchant)
    assert msgspec.json.decode(msgspec.json.encode(marked), type=Table) == marked
    plain, other = (
        Declaration(tables=(each,), history=(Measure("merchant", "count", "7d"),), features=())
        for each in (merchant, marked)
    )
    assert plain.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"history": (Measure("account", "count", "1d"),) * 2, "features": ()}, "each name once"),
        ({"history": (Measure("nobody", "count", "1d"),), "features": ()}, "table is 'nobody'"),
        ({"history": (Measure("merchant", "distinct", "1d"),), "features": ()}, "keeps another entity"),
        ({"history": (Measure("account_merchant", "count", "1d"),), "features": ()}, "a bound above 0"),
        ({"history": (), "features": (Feature("x", "log", ("account_count_9d",), "", ""),)}, "measures or raw columns"),
        ({"history": (Measure("device", "unusual", "1d"),), "features": ()}, "says what is `usual`"),
        ({"history": (Measure("device", "fraud_run", "7d"),), "features": ()}, "a table with `outcomes`"),
        ({"semantics": 99}, "semantics is 99: expected 1"),
    ],
)
def test_contradictions_are_told(change, complaint):
    with pytest.raises(InvalidDeclaration, match=complaint):
        replace(DECLARATION, **change)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Measure("account", "count"), "a window"),
        (lambda: Measure("account", "ever", "1d"), "no window"),
        (lambda: Measure("account", "count", "10w"), "m, h or d"),
        (lambda: Table("t", "account", "transactions", bound=100), "a power of two"),
        (lambda: Measure("account", "squares"), "a window"),
        (lambda: Table("t", "account", "transactions", bound=64, usual="90"), "m, h or d"),
        (lambda: Table("t", "account", "fraud_labels", bound=64, usual="90d"), "a table of transactions"),
        (lambda: Table("t", "account", "transactions", bound=0, usual="90d"), "a bound above 0"),
        (lambda: Measure("merchant", "fraud_run"), "a window"),
        (lambda: Table("t", "merchant", "fraud_labels", bound=64, outcomes=True), "a merchant's transactions"),
        (lambda: Table("t", "merchant", "transactions", bound=0, outcomes=True), "a bound above 0"),
        (lambda: Table("t", "device", "transactions", bound=64, outcomes=True), "an account's or a merchant's"),
        (lambda: Table("t", "merchant", "transactions", bound=64, outcomes=False), "or left out"),
        (lambda: Feature("x", "share", ("amount_minor",), "", ""), "2 of them, as share takes"),
        (lambda: Feature("x", "vocabulary", ("mcc",), "", ""), "1 or more for a vocabulary"),
    ],
)
def test_parts_that_make_no_sense_are_told(make, complaint):
    with pytest.raises(InvalidDeclaration, match=complaint):
        make()


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"tables": [], "history": [], "features": [], "x": 1}', b"[]"])
def test_bytes_that_are_no_declaration_are_told(raw):
    with pytest.raises(InvalidDeclaration, match="a declaration"):
        grammar.decode(raw)
