"""Amounts become minor units of their row's currency, exactly; a value that can be read in two ways is refused.

The digits are the currency's own (ISO 4217), so 12.34 is 1,234 cents in EUR, 12,340 fils in KWD, and no amount in JPY.
A thousands mark stands between groups of three digits, so `12.34` is no number where `.` marks thousands. One form is
left that fits both habits: up to three digits, one mark, three digits, such as `1.234` or `1,500`. Its digits after the
mark are decimals in a currency with three or more, and thousands in any other; where the mapping's marks say the
opposite, nobody can know, and the row is refused. `decimals` in the mapping settles it for a whole file.
"""

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.columns import Converted, as_text, is_text, joined_integers, mask_of, scaled_floats
from archive.mapping import AmountField
from plumbline.codes import WITHOUT_MINOR_UNIT, minor_digits

_GROUP: Final = 3


def converted_amount(raw: pa.Array, field: AmountField, currencies: pa.Array) -> Converted:
    """int64 minor units; nothing is ever rounded. currencies: each row's code, text [n]."""
    coded = pc.dictionary_encode(currencies)
    names, at = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    digits = np.array([_digits_of(name, field) for name in names] or [0])[at]
    contrary = np.array([_contrary(name, field) for name in names] or [False])[at]
    if pa.types.is_floating(raw.type):
        values, bad = scaled_floats(raw, digits)
    else:
        values, bad = np.zeros(len(raw), np.int64), np.ones(len(raw), bool)
        text = pc.utf8_trim_whitespace(as_text(raw))
        for each in np.unique(digits).tolist():
            of = digits == each
            part = text.filter(pa.array(of))
            read = _read_text(part, each, field) if is_text(raw.type) else joined_integers(part, each)
            values[of], bad[of] = read[0].to_numpy(), read[1]
    bad |= contrary
    signed = np.where(bad, 0, -values if field.negate else values)
    texts = as_text(raw) if is_text(raw.type) else None

    def expected(row: int) -> str:
        text = None if texts is None else texts[row].as_py().strip()
        return why_no_amount(text, currencies[row].as_py() or "", field)

    return Converted(pa.array(signed), bad, reason=expected)


def _digits_of(currency: str, field: AmountField) -> int:
    return minor_digits(currency) if field.digits is None else field.digits


def _contrary(currency: str, field: AmountField) -> bool:
    """Whether the mapping's digits are not the currency's; 0 is for columns that hold minor units already."""
    return bool(field.digits) and currency not in WITHOUT_MINOR_UNIT and field.digits != minor_digits(currency)


def _read_text(text: pa.Array, digits: int, field: AmountField) -> tuple[pa.Array, np.ndarray]:
    """int64 [n] and whether each is none, of trimmed text."""
    mark = re.escape(field.thousands)
    grouped = f"|[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+" if mark else ""
    form = rf"\A(?P<sign>[+-]?)(?P<whole>[0-9]+{grouped})(?:{re.escape(field.decimal)}(?P<part>[0-9]+))?\z"
    parts = pc.extract_regex(text, form)
    whole, part = (pc.fill_null(pc.struct_field(parts, name), "") for name in ("whole", "part"))
    if field.thousands:
        whole = pc.replace_substring(whole, field.thousands, "")
    plain = pc.binary_join_element_wise(
        pc.fill_null(pc.struct_field(parts, "sign"), ""), whole, pc.if_else(pc.equal(part, ""), "", "."), part, ""
    )
    values, bad = joined_integers(plain, digits)
    if field.decimals is None and (form := _two_readings(field, digits)):
        bad |= mask_of(pc.match_substring_regex(text, rf"\A{form}\z"))
    elif field.decimals is not None:
        bad |= mask_of(pc.not_equal(pc.utf8_length(part), field.decimals))
    return values, bad


def _two_readings(field: AmountField, digits: int) -> str:
    """The form of text whose marks say the opposite of what the currency's digits say; empty where none can be."""
    mark = field.thousands if digits >= _GROUP else field.decimal
    return rf"[+-]?[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}" if mark in (".", ",") else ""


def why_no_amount(text: str | None, currency: str, field: AmountField) -> str:
    """What was expected of one amount that was refused; text: None where the column holds numbers."""
    digits = _digits_of(currency, field)
    of = f"of {currency or 'an unknown currency'}" if field.digits is None else "with digits = 0, of minor units"
    if _contrary(currency, field):
        own = minor_digits(currency)
        return f"digits = {own}, as {currency} has, not {field.digits}: leave `digits` out of the mapping"
    places = f"at most {digits} decimal places" if digits else "a whole number, no decimal places"
    if text is None:
        return f"an amount {of}: {places}"
    if field.decimals is not None:
        return f"an amount {of} with exactly {field.decimals} digits after `{field.decimal}`, {places} of them not 0"
    head, _, tail = text.replace(",", ".").partition(".")
    two = re.fullmatch(_two_readings(field, digits) or "(?!)", text) is not None
    if two and ((field.thousands and field.thousands in text) or len(tail.rstrip("0")) <= digits):
        return (
            f"an amount {of} that has one meaning: this one may be {head}{tail} (the mark between thousands) or "
            f"{head}.{tail} (the decimal mark); say `decimals` in the mapping, how many digits follow `{field.decimal}`"
        )
    marks = f"decimal mark `{field.decimal}`" + (
        f", `{field.thousands}` between groups of three digits" if field.thousands else ", no thousands marks"
    )
    other = {".": ",", ",": "."}[field.decimal]
    swapped = re.fullmatch(rf"[+-]?(?:[0-9]+|[1-9][0-9]{{0,2}}(?:\{field.decimal}[0-9]{{3}})+)(\{other}[0-9]+)?", text)
    hint = f"; it is one with decimal mark `{other}`: correct the mapping's marks" if swapped else ""
    return f"an amount {of}: {places}, {marks}{hint}"
