"""Amounts as people write them: minor units become a number with the currency's own digits."""

from decimal import Decimal
from typing import Final

from babel.numbers import format_currency, format_decimal

from plumbline.codes import minor_digits

NO_CURRENCY: Final = "XXX"


def amount(minor: int, currency: str, locale: str) -> str:
    """An amount in minor units, written in a language; no symbol where the currency is unknown.

    >>> amount(123456, "EUR", "en"), amount(5000, "JPY", "en"), amount(1500, "XXX", "en")
    ('€1,234.56', '¥5,000', '15.00')
    """
    decimals = minor_digits(currency)
    value = Decimal(minor).scaleb(-decimals)
    places = "." + "0" * decimals if decimals else ""
    if currency == NO_CURRENCY:
        return str(format_decimal(value, f"#,##0{places}", locale=locale))
    return str(format_currency(value, currency, f"¤#,##0{places}", locale=locale, currency_digits=False))
