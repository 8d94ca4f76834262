"""Shares of accounts as people write them: per mille, or percent with one decimal at most."""

import re
from decimal import Decimal


def per_mille(given: str, option: str) -> int:
    """Accounts of every thousand. Raises InvalidSetting, which names the option.

    >>> per_mille("50", "--share"), per_mille("0.1%", "--share")
    (50, 1)
    """
    from plumbline.errors import InvalidSetting

    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,3})?)(%?)", given)
    share = Decimal(0) if found is None else Decimal(found[1]) * (10 if found[2] else 1)
    if found is None or share != int(share):
        allowed = "accounts of every thousand such as 50, or a share in percent of at most one decimal such as 0.1%"
        raise InvalidSetting("share", option, given, allowed)
    return int(share)


def arm(given: str) -> tuple[int, int]:
    """A version and its accounts of every thousand. Raises InvalidSetting.

    >>> arm("2=50"), arm("2=0.1%")
    ((2, 50), (2, 1))
    """
    from plumbline.errors import InvalidSetting

    version, _, share = given.partition("=")
    allowed = "VERSION=PER_MILLE, such as 2=50 or 2=0.1%"
    if not re.fullmatch(r"\d{1,16}", version):
        raise InvalidSetting("arm", "--arm", given, allowed)
    try:
        return int(version), per_mille(share, "--arm")
    except InvalidSetting as error:
        raise InvalidSetting("arm", "--arm", given, allowed) from error
