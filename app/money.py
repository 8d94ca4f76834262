"""Amounts as people write them: minor units become a number with the currency's own digits."""

from decimal import Decimal
from typing import Final

from babel.numbers import format_currency, format_decimal

NO_CURRENCY: Final = "XXX"

# ISO 4217 minor units other than 2. Not taken from CLDR, which gives the digits in everyday use: 0 for the dinar
# of Iraq, for instance, whose minor unit is a thousandth.
_DIGITS: Final = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def digits(currency: str) -> int:
    """How many decimals of a currency its minor unit stands for.

    >>> digits("EUR"), digits("JPY"), digits("KWD")
    (2, 0, 3)
    """
    return _DIGITS.get(currency, 2)


def amount(minor: int, currency: str, locale: str) -> str:
    """An amount in minor units, written in a language; no symbol where the currency is unknown.

    >>> amount(123456, "EUR", "en"), amount(5000, "JPY", "en"), amount(1500, "XXX", "en")
    ('€1,234.56', '¥5,000', '15.00')
    """
    decimals = digits(currency)
    value = Decimal(minor).scaleb(-decimals)
    places = "." + "0" * decimals if decimals else ""
    if currency == NO_CURRENCY:
        return str(format_decimal(value, f"#,##0{places}", locale=locale))
    return str(format_currency(value, currency, f"¤#,##0{places}", locale=locale, currency_digits=False))
