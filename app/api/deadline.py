"""How long a caller may wait: what it asks for, between one millisecond and the most that is set."""

from dataclasses import dataclass
from typing import Final

from plumbline.errors import Invalid

HEADER: Final = "Plumbline-Deadline-Ms"
MOST_MS: Final = 10**9 - 1
"""More than this is no deadline but a mistake."""

MARGIN_SECONDS: Final = 0.02
"""Of a call's own deadline, so much is left for the answer's way back; half, where that is less."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadline of who asks for none, and the longest, in milliseconds."""

    default_ms: int
    most_ms: int

    def seconds(self, asked: str | None) -> float:
        """Seconds to wait, from a header's text; more than the most is the most. Raises Invalid for no whole number.

        >>> [Deadlines(500, 5000).seconds(asked) for asked in ("20", "60000", None)]
        [0.02, 5.0, 0.5]
        """
        if asked is None:
            return self.default_ms / 1000
        if not (asked.isascii() and asked.isdigit() and 0 < len(asked) <= 20 and 0 < int(asked) <= MOST_MS):
            raise Invalid(
                "request",
                "deadline_ms",
                asked,
                f"a whole number of milliseconds from 1 to {MOST_MS}, of which {self.most_ms} are waited",
            )
        return min(int(asked), self.most_ms) / 1000

    def remaining(self, seconds: float | None) -> float:
        """Seconds to wait, where a call has so many left.

        >>> [round(Deadlines(500, 5000).remaining(left), 3) for left in (0.12, 0.01, -1.0, 60.0, None)]
        [0.1, 0.005, 0.0, 5.0, 0.5]
        """
        if seconds is None:
            return self.default_ms / 1000
        return min(max(seconds - MARGIN_SECONDS, seconds / 2, 0.0), self.most_ms / 1000)
