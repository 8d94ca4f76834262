"""A verb of `plumbline` whose wall clock is stepped while it runs: `python -m benchmarks.stepped_clock FILE VERB ...`.

FILE holds by how many seconds the clock is off; it is looked at again ten times a second. The monotonic clock is left
alone, as by a clock that is set. (`faketime` cannot do this: under it `time.sleep` of Python 3.11 and later fails.)
"""

import sys
import time
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 0.1


class SteppedClock:
    """The wall clock and what a file says it is off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._true_ns = time.time_ns
        self._looked = float("-inf")
        self._off_ns = 0

    def time_ns(self) -> int:
        """In place of `time.time_ns`."""
        if (now := time.monotonic()) - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._file.exists() and (text := self._file.read_text().strip()):
                self._off_ns = round(float(text) * 1e9)
        return self._true_ns() + self._off_ns

    def time(self) -> float:
        """In place of `time.time`."""
        return self.time_ns() / 1e9


def main() -> int:
    """Run the verb; returns its exit code."""
    from plumbline.cli.main import run

    clock = SteppedClock(Path(sys.argv[1]))
    vars(time).update(time_ns=clock.time_ns, time=clock.time)
    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
