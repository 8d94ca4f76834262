"""A message's fields: as the journal holds them, and as they were parsed again."""

from collections.abc import Iterator
from typing import Any

from plumbline.assignment import Assignment
from plumbline.label import Label
from plumbline.policy import Policy
from plumbline.transaction import Transaction

Body = Transaction | Label | Policy | Assignment


def fields_differing(was: Body, now: Body) -> Iterator[tuple[str, str, str]]:
    """Name, journaled and parsed value of each field that differs."""
    if type(was) is not type(now):
        yield "kind", type(was).__name__.lower(), type(now).__name__.lower()
        return
    if was == now:
        return
    for name in was.__struct_fields__:
        journaled, parsed = getattr(was, name), getattr(now, name)
        if journaled != parsed:
            yield name, _shown(journaled), _shown(parsed)


def _shown(value: Any) -> str:
    """A field's value: integers as their bits too, text as the hexadecimal of its UTF-8 too."""
    if isinstance(value, bool) or value is None or not isinstance(value, int | str):
        return repr(sorted(value) if isinstance(value, frozenset) else value)
    if isinstance(value, int):
        return f"0x{value & (2**64 - 1):016x} ({value})"
    return f"0x{value.encode().hex()} ({value})"
