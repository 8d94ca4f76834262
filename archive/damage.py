"""Ids that a spreadsheet or a data frame has damaged: what they were before cannot be known again."""

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

ID_FIELDS: Final = ("transaction_id", "account_id", "merchant_id", "device_id")

_POWER: Final = r"[+-]?[0-9](?:[.,][0-9]+)?[eE]\+[0-9]{2,3}"
_FLOAT: Final = r"[+-]?[0-9]+\.0+"
_ERROR: Final = r"#(?:REF|VALUE|NAME|NUM|NULL|DIV/0|SPILL|CALC)!|#NAME\?|#N/A|#{3,}"
_DAMAGED: Final = rf"\A(?:{_POWER}|{_FLOAT}|{_ERROR})\z"
_REMEDY: Final = "export it again with this column as text, or say `as_is = true` where ids really look so"


def damaged(text: pa.Array) -> pa.Array:
    """Whether each text looks like a damaged id, booleans [n]; surrounding space counts for nothing."""
    return pc.match_substring_regex(pc.utf8_trim_whitespace(text), _DAMAGED)


def why_damaged(text: str) -> str:
    """What was expected in place of a damaged id, with what has happened to it."""
    text = text.strip()
    if re.fullmatch(_POWER, text):
        happened = "a spreadsheet has rounded this one to a power of ten, and several ids may now be one"
    elif re.fullmatch(_FLOAT, text):
        happened = "this one was a decimal number on its way, in which leading zeros and digits after the 15th are lost"
    else:
        happened = "this is an error or a column too narrow in a spreadsheet"
    return f"an id as it was issued: {happened}; {_REMEDY}"


WHY_FLOATS: Final = (
    "an id as text or a whole number: the column holds floating-point numbers, in which leading zeros and digits after "
    f"the 15th are lost; {_REMEDY}"
)
