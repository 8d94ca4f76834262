"""Our closed sets of codes agree with the standards as CLDR keeps them."""

from typing import get_args

from babel import Locale

from plumbline.codes import Country, Currency

CLDR = Locale("en")


def test_every_country_is_in_cldr_and_every_current_one_in_cldr_is_ours() -> None:
    ours = set(get_args(Country))
    regions = {code for code in CLDR.territories if len(str(code)) == 2}
    # CLDR also lists groupings, pseudo-regions and reserved codes, which are no countries in ISO 3166-1.
    not_countries = {"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB"}
    assert ours - {"ZZ"} <= regions
    assert regions - not_countries - {"ZZ"} == ours - {"ZZ"}
    assert len(ours) == 249 + 2


def test_every_currency_is_in_cldr_or_came_after_it() -> None:
    ours = set(get_args(Currency))
    assert ours - set(CLDR.currencies) <= {"XAD", "ZWG", "XCG"}
    assert {"EUR", "USD", "CNY", "JPY", "XXX"} <= ours


def test_no_code_stands_twice() -> None:
    for codes in (get_args(Country), get_args(Currency)):
        assert len(set(codes)) == len(codes)
