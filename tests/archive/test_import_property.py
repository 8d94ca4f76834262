"""Whatever an import accepts, the parser of transactions accepts: one set of rules, found broken in two ways."""

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.escape import escaped
from archive.importing import preview
from archive.mapping import (
    AmountField,
    Mapping,
    PlaceField,
    TextField,
    TimeField,
    TransactionMapping,
)
from archive.rows import transactions_of
from plumbline.transaction import encode, parse

NOW_US = 1_600_000_000_000_000
NAMES = ("id", "when", "account", "shop", "device", "amount", "currency", "channel", "mcc", "country", "north", "east")
AS_GIVEN = Mapping(
    transaction=TransactionMapping(
        transaction_id=TextField(column="id"),
        occurred_at=TimeField(column="when", format="epoch_us"),
        account_id=TextField(column="account"),
        merchant_id=TextField(column="shop", escape=True),
        device_id=TextField(column="device"),
        amount_minor=AmountField(column="amount", digits=2),
        currency=TextField(column="currency"),
        channel=TextField(column="channel"),
        mcc=TextField(column="mcc"),
        country=TextField(column="country"),
        latitude_e6=PlaceField(column="north"),
        longitude_e6=PlaceField(column="east"),
    )
)

cell = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=70)


def either(*usual: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), cell)


row = st.tuples(
    either("t1", "~!@#", "a" * 64, "a" * 65, "a b", ""),
    either("0", "-1", "1500000000000000", str(2**53), str(NOW_US + 86_400_000_000), str(NOW_US + 86_400_000_001)),
    either("a", "ä", "a" * 65),
    either("Kiosk am Eck", "x" * 80, "ü" * 40),
    either("", "d1", " "),
    either("0", "1.10", "10000000000.00", "10000000000.01", "-0.01", "1e2"),
    either("EUR", "XXX", "eur", "EURO"),
    either("pos", "ecom", "cash"),
    either("0000", "5411", "541", "54110", "５４１１"),
    either("DE", "ZZ", "de", "DEU"),
    either("", "47.5", "90", "90.000001", "-90", "181"),
    either("", "8.5", "180", "180.000001", "-180", "nan"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(row, min_size=1, max_size=8))
def test_what_an_import_accepts_the_parser_accepts_and_what_it_refuses_is_explained(
    rows: list[tuple[str, ...]],
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(NAMES)
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.csv"
        file.write_text(text.getvalue(), encoding="utf-8", newline="")
        part = preview([file], AS_GIVEN, 100, NOW_US)
    accepted = list(transactions_of(part.transactions))
    for transaction in accepted:
        assert parse(encode(transaction), NOW_US) == transaction
    wrong = {problem.row for problem in part.problems}
    assert len(accepted) + len(wrong) == len(rows)
    assert all(problem.column in NAMES for problem in part.problems)


@given(
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=100),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=100),
)
def test_escaped_ids_are_valid_and_never_meet(one: str, other: str) -> None:
    assert all("!" <= character <= "~" for character in escaped(one))
    assert len(escaped(one)) <= 64
    assert (escaped(one) == escaped(other)) == (one == other)
