"""Makes an id of any text: 1 to 64 printable ASCII characters without a space, and no two texts share one."""

import hashlib
from typing import Final

ID_MAX: Final = 64
_KEPT: Final = frozenset(map(chr, range(0x21, 0x7F))) - set("_%~")
_HASH_CHARACTERS: Final = 32


def escaped(text: str) -> str:
    """The id of a text: a space becomes `_`, other characters that an id may not hold (and `_`, `%`, `~`) `%XX`.

    An id that would be longer than 64 characters keeps its beginning, and ends in `~` and 128 bits of SHA-256.

    >>> escaped("Heller, Langosh and Sons"), escaped("Bäcker_7")
    ('Heller,_Langosh_and_Sons', 'B%C3%A4cker%5F7')
    """
    name = "".join(map(_escaped_character, text))
    if len(name) <= ID_MAX:
        return name
    tail = "~" + hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]
    return name[: ID_MAX - len(tail)] + tail


def _escaped_character(character: str) -> str:
    if character in _KEPT:
        return character
    return "_" if character == " " else "".join(f"%{byte:02X}" for byte in character.encode())
