"""A pre-emption's SIGTERM: the step at work is told, or broken off, and the process leaves within its grace."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from retrain.run import Runner

GRACE_SECONDS: Final = 20.0
"""Kubernetes kills 30 seconds after it asked."""
STOPPED: Final = 75
"""EX_TEMPFAIL of sysexits.h: the same command goes on."""


class Stopping:
    """Whether somebody asked to stop, by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.asked = False
        self._runner: Runner | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.asked

    def watch(self, runner: "Runner") -> None:
        """From now on signals stop this run; a second one changes nothing."""
        self._runner = runner
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._told)

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        from retrain.steps import Stopped

        if self.asked:
            return
        self.asked = True
        # Whatever hangs meanwhile, the process ends: what is not written by then is done again, as after a kill.
        last = threading.Timer(GRACE_SECONDS, os._exit, (STOPPED,))
        last.daemon = True
        last.start()
        if self._runner is None or self._runner.at is None or not self._runner.at.looks:
            raise Stopped

    def leave(self) -> None:
        """End the process at once: threads of a pipeline that was broken off would keep it."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STOPPED)
