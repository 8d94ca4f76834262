"""JSON as the protocol reads it and quotes it: words for numbers that are none, and its own texts for faults."""

import json
import re
from typing import Any, Final

import numpy as np

from serving.server.json_answer import decimal
from serving.server.status import invalid

# What Python's parser says, and what the protocol says in its place.
PARSE_ERRORS: Final = {
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Extra data": "The document root must not be followed by other values.",
}
STRING_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"?')


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; NaN, Infinity and -Infinity are numbers. Raises StatusError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from error
    if not text.strip(" \t\r\n"):
        raise invalid(f"JSON Parse error: The document is empty. at offset: {len(body)}")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {_reason(error)} at offset: {len(text[: error.pos].encode())}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: Lists are nested too deeply. at offset: 0") from error
    except ValueError as error:  # an integer of thousands of digits
        raise invalid(f"JSON Parse error: Number too big to be stored in double. at offset: 0 ({error})") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    return document


def _reason(error: json.JSONDecodeError) -> str:
    for python, protocol in PARSE_ERRORS.items():
        if error.msg.startswith(python):
            return protocol
    if error.msg.startswith("Expecting ',' delimiter"):
        outside = STRING_TOKEN.sub("", error.doc[: error.pos])
        depth = [bracket for bracket in outside if bracket in "[]{}"]
        open_brackets: list[str] = []
        for bracket in depth:
            if bracket in "[{":
                open_brackets.append(bracket)
            elif open_brackets:
                open_brackets.pop()
        if open_brackets and open_brackets[-1] == "[":
            return "Missing a comma or ] after an array element."
        return "Missing a comma or } after an object member."
    return "Invalid value."


def json_type(value: Any) -> str:
    """The protocol's name of a value's JSON type: `String`, `Number`, `True`."""
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return str(value) if isinstance(value, bool) else names.get(type(value), "Number")


SHOWN_MAX_CHARACTERS: Final = 1000


def shown(value: Any) -> str:
    """A value as JSON for an error text, cut to 1,000 characters."""
    try:
        text = (
            decimal(np.float64(value)) if isinstance(value, float) else json.dumps(value, indent=4, ensure_ascii=False)
        )
    except RecursionError:
        return "(lists nested too deeply to be shown)"
    return text if len(text) <= SHOWN_MAX_CHARACTERS else text[:SHOWN_MAX_CHARACTERS] + "..."
