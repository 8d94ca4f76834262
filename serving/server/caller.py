"""Whether whoever asked still waits for the answer; the transport says so, and whoever computes may look."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

Waits = Callable[[], bool]

WAITS: Final[ContextVar[Waits]] = ContextVar("waits", default=lambda: True)
"""Of the call that is being answered; a transport that cannot tell leaves it as it is."""
