"""Amounts read by the column equal amounts read one by one, by an obvious reader, for every mapping and currency."""

from decimal import Decimal

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from archive.mapping import AmountField
from archive.money import converted_amount

DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4, "XXX": 2}


def grouped(whole: str, mark: str) -> str | None:
    """Digits without their thousands marks; None where the groups are not of three."""
    first, *rest = whole.split(mark) if mark else [whole]
    if not all(group.isascii() and group.isdigit() for group in (first, *rest)):
        return None
    if rest and not (1 <= len(first) <= 3 and first[0] != "0" and all(len(group) == 3 for group in rest)):
        return None
    return first + "".join(rest)


def reading(text: str, decimal: str, thousands: str) -> tuple[Decimal, int] | None:
    """The number under two marks, and how many decimals were written."""
    whole, mark, part = text.partition(decimal)
    digits = grouped(whole, thousands)
    if digits is None or (mark and not (part.isascii() and part.isdigit())):
        return None
    return Decimal(f"{digits}.{part}" if mark else digits), len(part)


def one_by_one(text: str, field: AmountField, currency: str) -> int | None:
    """Minor units, or None for what is refused."""
    text = text.strip(" ")
    negative = text.startswith("-")
    plain = text[1:] if text[:1] in ("+", "-") else text
    own = DIGITS[currency]
    digits = own if field.digits is None else field.digits
    if field.digits and currency != "XXX" and field.digits != own:
        return None
    read = reading(plain, field.decimal, field.thousands)
    if read is None:
        return None
    number, written = read
    if field.decimals is not None:
        if written != field.decimals:
            return None
    else:
        other = {".": ",", ",": "."}[field.decimal]
        looks_of_thousands = reading(plain, other, field.decimal) if written == 3 and digits < 3 else None
        looks_of_decimals = reading(plain, field.thousands, "") if field.thousands in (".", ",") else None
        if looks_of_thousands is not None and looks_of_thousands[1] == 0:
            return None
        if looks_of_decimals is not None and looks_of_decimals[1] == 3 and digits >= 3 and number >= 1000:
            return None
    scaled = number.scaleb(digits)
    if (
        scaled != int(scaled)
        or len(plain.partition(field.decimal)[0].replace(field.thousands or "x", "")) > 18 - digits
    ):
        return None
    value = -int(scaled) if negative else int(scaled)
    return -value if field.negate else value


marks = st.tuples(st.sampled_from(".,"), st.sampled_from(["", ".", ",", "'", " ", "_"])).filter(
    lambda two: two[0] != two[1]
)
group = st.from_regex(r"\A[0-9]{1,4}\Z")
number = st.builds(
    lambda sign, groups, mark, part: sign + mark.join(groups) + part,
    st.sampled_from(["", "", "-", "+"]),
    st.lists(st.one_of(group, st.sampled_from(["000", "123", "500"])), min_size=1, max_size=4),
    st.sampled_from([".", ",", "", "'", " "]),
    st.one_of(st.just(""), st.from_regex(r"\A[.,][0-9]{0,5}\Z"), st.sampled_from([".500", ",500", ".00", ",1230"])),
)
text = st.one_of(number, number, st.text("0123456789.,-+' _eE", max_size=24))


@given(
    st.lists(st.tuples(text, st.sampled_from(sorted(DIGITS))), min_size=1, max_size=12),
    marks,
    st.sampled_from([None, None, None, 0, 2, 3]),
    st.sampled_from([None, None, None, 0, 2, 3]),
    st.booleans(),
)
@example([("12.34", "EUR"), ("1.234", "EUR"), ("1.234", "KWD"), ("1.500", "JPY")], (",", "."), None, None, False)
@example([("1.500", "EUR"), ("0.500", "EUR"), ("12.345", "KWD"), ("1.000", "JPY")], (".", ""), None, None, False)
def test_a_column_of_amounts_is_read_as_an_obvious_reader_reads_each(
    rows: list[tuple[str, str]], two: tuple[str, str], digits: int | None, decimals: int | None, negate: bool
) -> None:
    field = AmountField(column="x", digits=digits, decimal=two[0], thousands=two[1], decimals=decimals, negate=negate)
    texts, currencies = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
    found = converted_amount(texts, field, currencies)
    read = [None if bad else value for value, bad in zip(found.values.to_pylist(), found.bad.tolist(), strict=True)]
    assert read == [one_by_one(text, field, currency) for text, currency in rows]
    for row in found.bad.nonzero()[0].tolist():
        assert found.expected(row)
