"""What exactly is wrong with the bytes of a message: the slow, careful reading after the fast one refused.

The fast decoder says that a message is no Transaction; a person who corrects it needs the field, its value and what was
allowed, also where the bytes are no JSON at all (NaN, broken UTF-8). Nothing here ever accepts anything.
"""

import functools
import json
import math
import re
from typing import Any, Final, TypeVar

import msgspec

from plumbline.errors import Invalid, shown
from plumbline.times import with_hint

InvalidKind = TypeVar("InvalidKind", bound=Invalid)
Struct = TypeVar("Struct", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PATH = re.compile(r" - at `\$\.(\w+)[^`]*`$")
_PLAIN_ID = re.compile(r"[!-~]{1,64}")
_PLAIN_NAME = re.compile(r"\w{1,64}", re.ASCII)
_ENUM_LISTED: Final = 8


def explained(
    kind: type[InvalidKind], subject: str, struct: type[msgspec.Struct], raw: bytes, error: Exception
) -> InvalidKind:
    """An `Invalid` error of the given kind that names field, value and what was allowed.

    subject: what the message should have been; struct: the type it was decoded as; error: what the decoder raised.
    """
    reason = str(error)
    body = _read(raw)
    if not isinstance(body, dict):
        return kind(subject, "record", raw, f"one JSON object in UTF-8 ({reason})")
    subject = named(subject, body)
    if unknown := _UNKNOWN.fullmatch(reason):
        return kind(subject, _field(unknown[1]), body.get(unknown[1]), "no such field")
    if missing := _MISSING.fullmatch(reason):
        return kind(subject, missing[1], None, "this field to be present")
    path = _PATH.search(reason)
    field = path[1] if path else next((name for name, value in body.items() if not _is_json(value)), None)
    if field is None:
        sort = (
            "fields that fit one another" if isinstance(error, msgspec.ValidationError) else "one JSON object in UTF-8"
        )
        return kind(subject, "record", raw, f"{sort} ({reason})")
    allowed = _allowed(struct).get(field, "JSON in UTF-8: text without control characters, and no NaN or Infinity")
    return kind(subject, _field(field), body[field], with_hint(field, body[field], allowed))


def decoded(
    kind: type[InvalidKind], subject: str, struct: type[Struct], decoder: Any, raw: bytes, most_bytes: int
) -> Struct:
    """A control message's bytes as what they should be, read strictly: its size, its fields, and each of them once.

    decoder: msgspec's, of `struct`, which has a `version`; raises an error of the given kind.
    """
    if len(raw) > most_bytes:
        raise kind(subject, "record", f"{len(raw)} bytes", f"{most_bytes} bytes or fewer")
    try:
        found: Struct = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise explained(kind, subject, struct, raw, error) from None
    if repeated := repeated_field(raw):
        raise kind(f"{subject} {getattr(found, 'version', '')}", repeated[0], repeated[1], "this field once")
    return found


def named(subject: str, body: dict[str, Any]) -> str:
    """The subject with the message's own id behind it, where that is fit to be printed.

    >>> named("transaction", {"transaction_id": "t-1"}), named("transaction", {"transaction_id": "a\\nb"})
    ('transaction t-1', 'transaction')
    """
    own = body.get(f"{subject}_id")
    return f"{subject} {own}" if isinstance(own, str) and _PLAIN_ID.fullmatch(own) else subject


def repeated_field(raw: bytes) -> tuple[str, Any] | None:
    """The first field that a JSON object names twice, and its second value; None when each stands once.

    A decoder takes one of the two values, and not every decoder takes the same: such a message has no one meaning.
    """
    found: list[tuple[str, Any]] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = set()
        for name, value in pairs:
            if name in names:
                found.append((_field(name), value))
            names.add(name)
        return dict(pairs)

    json.loads(raw, object_pairs_hook=collect)
    return found[0] if found else None


def _read(raw: bytes) -> Any:
    """The JSON value in the bytes by a lenient reader (NaN, control characters, broken UTF-8 pass); None if none."""
    try:
        return json.loads(raw.decode("utf-8", errors="surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return None


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not any(character < " " or "\ud800" <= character <= "\udfff" for character in value)
    return True


def _field(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else shown(name)


@functools.cache
def _allowed(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field to what it may hold, in words, from the type's own JSON Schema."""
    document = msgspec.json.schema(struct)
    known = document["$defs"]
    return {name: _in_words(schema, known) for name, schema in known[struct.__name__]["properties"].items()}


def _in_words(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """What a JSON Schema allows; known: the schemas that it may refer to, by name."""
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        return "{" + ", ".join(f"{name}: {_in_words(part, known)}" for name, part in schema["properties"].items()) + "}"
    if "anyOf" in schema:
        return " or ".join(_in_words(part, known) for part in schema["anyOf"])
    if schema.get("type") in {"integer", "number"} and "maximum" in schema:
        noun = "an integer" if schema["type"] == "integer" else "a number"
        return f"{noun} from {schema['minimum']} to {schema['maximum']}"
    if schema.get("type") == "array":
        return f"a list, each entry {_in_words(schema['items'], known)}"
    if "enum" in schema and len(schema["enum"]) <= _ENUM_LISTED:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "description" in schema:
        description = str(schema["description"]).rstrip(".")
        limit = f", {schema['maxLength']} characters or fewer" if schema.get("maxLength", 64) != 64 else ""
        return description[0].lower() + description[1:] + limit if description[1:2].islower() else description + limit
    return str(schema.get("type", "another value"))
