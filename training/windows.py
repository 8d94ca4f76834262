"""Which transactions train and which test: whole UTC days, in time order, with a delay for labels to become known."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plumbline.errors import Invalid, Refused
from plumbline.transaction import DAY_US

_EPOCH: Final = datetime.date(1970, 1, 1)

AUTO_WARM_UP_DAYS: Final = 30
"""Days at the start of an archive whose history is still growing; the few measures of 60 and 90 days grow on."""
AUTO_TEST_DAYS: Final = 14
AUTO_TRAIN_DAYS: Final = 270


class InvalidWindow(Invalid):
    """Days that cannot be trained or tested on."""


@dataclass(frozen=True, slots=True)
class Days:
    """Whole UTC days, both ends included, as days since 1970."""

    first: int
    last: int

    @property
    def since_us(self) -> int:
        """Start of the first day, microseconds since 1970 UTC."""
        return self.first * DAY_US

    @property
    def until_us(self) -> int:
        """End of the last day, microseconds since 1970 UTC."""
        return (self.last + 1) * DAY_US

    def __str__(self) -> str:
        return f"{day_name(self.first)}..{day_name(self.last)}"


@dataclass(frozen=True, slots=True)
class Windows:
    """Training days, the days in which their labels become known, and test days."""

    train: Days
    delay_days: int
    test: Days

    def __post_init__(self) -> None:
        if self.delay_days < 0:
            raise InvalidWindow("windows", "delay_days", self.delay_days, "0 or more")
        if self.test.first <= self.train.last + self.delay_days:
            earliest = day_name(self.train.last + self.delay_days + 1)
            raise InvalidWindow("windows", "test", str(self.test), f"to begin on {earliest} or later, after the delay")

    @property
    def cut_off_us(self) -> int:
        """Labels known before this moment may train: the end of the delay."""
        return self.train.until_us + self.delay_days * DAY_US


def parse_days(text: str) -> Days:
    """Days from `2018-07-25..2018-07-31`, both included; raises InvalidWindow.

    >>> str(parse_days("2018-07-25..2018-07-31"))
    '2018-07-25..2018-07-31'
    """
    first, parted, last = text.partition("..")
    try:
        days = Days(_day(first), _day(last if parted else first))
    except ValueError:
        raise InvalidWindow("window", "days", text, "two dates such as 2018-07-25..2018-07-31") from None
    if days.last < days.first:
        raise InvalidWindow("window", "days", text, "the earlier date first")
    return days


def automatic(first_us: int, last_us: int, delay_days: int = 7) -> Windows:
    """Windows for an archive from its first and last time of a transaction.

    The test comes last but for a delay, so that its frauds are known too; a tenth of the days, at most 14, are tested.
    Training begins when history is warm, after 30 days or a quarter of a shorter archive.
    Raises Refused when the archive is too short.
    """
    first, last = first_us // DAY_US, last_us // DAY_US
    days = last - first + 1
    test_last = last - delay_days
    test_first = test_last - max(1, min(AUTO_TEST_DAYS, days // 10)) + 1
    train_last = test_first - delay_days - 1
    train_first = max(first + min(AUTO_WARM_UP_DAYS, days // 4), train_last - AUTO_TRAIN_DAYS + 1)
    if train_first > train_last:
        raise Refused(
            f"an archive of {days} days is too short to train, wait {delay_days} days for labels, and test: "
            "give a longer one, or a smaller --delay-days"
        )
    return Windows(Days(train_first, train_last), delay_days, Days(test_first, test_last))


def untouched_from(card: Mapping[str, Any]) -> int | None:
    """The first day, since 1970, from which a version learned nothing: after its training days and their labels' delay.

    card: what the version says of itself; None where it does not say on which days it was trained.
    """
    try:
        return parse_days(str(card["train"])).last + int(card["delay_days"]) + 1
    except (KeyError, ValueError, TypeError):
        return None


def _day(text: str) -> int:
    return (datetime.date.fromisoformat(text) - _EPOCH).days


def day_name(day: int) -> str:
    """A day by its number since 1970.

    >>> day_name(17_706)
    '2018-06-24'
    """
    return (_EPOCH + datetime.timedelta(days=day)).isoformat()
