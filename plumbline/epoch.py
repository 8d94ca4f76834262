"""Which unit a number of time since 1970 is written in, told from the time that each unit would make of it."""

from typing import Final

NANOSECONDS_OF: Final = {
    "seconds": 1_000_000_000, "milliseconds": 1_000_000, "microseconds": 1_000, "nanoseconds": 1
}  # fmt: skip
"""Units in which platforms write times, and their length."""


def unit_of(number: int, since_us: int, until_us: int) -> tuple[str, int] | None:
    """The unit that puts a number into the half-open range of times, and that time; None where no unit does.

    since_us, until_us: microseconds since 1970 UTC. Units are a thousandfold apart, so the answer is the only one
    while until_us is below 1,000 times since_us.

    >>> unit_of(1_772_359_200, 946_684_800_000_000, 1_800_000_000_000_000)
    ('seconds', 1772359200000000)
    """
    for unit, nanoseconds in NANOSECONDS_OF.items():
        if since_us <= (time_us := number * nanoseconds // 1_000) < until_us:
            return unit, time_us
    return None
