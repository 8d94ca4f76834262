"""Values in addresses and forms, read in one place, so that no view hands a database what it cannot hold.

Whole numbers have 64 bits, texts no NUL: PostgreSQL refuses the latter, and no driver takes a longer number.
"""

from typing import Final

from flask import Flask, abort, request
from werkzeug.routing import IntegerConverter, ValidationError

MAX_INTEGER: Final = 2**63 - 1
"""The largest number that a column of either database holds."""


class DatabaseInteger(IntegerConverter):
    """`<int:name>` in a rule: no address matches whose number no row can have."""

    def to_python(self, value: str) -> int:
        """The number in an address. Raises ValidationError, upon which no rule matches."""
        number: int = super().to_python(value)
        if number > MAX_INTEGER:
            raise ValidationError
        return number


def guard(app: Flask) -> None:
    """Reads every address and form of an application this way; views are added afterwards."""
    app.url_map.converters["int"] = DatabaseInteger
    app.before_request(refuse_nul)


def refuse_nul() -> None:
    """404 for an address with a NUL in it, which names nothing; 400 for a form with one."""
    in_path = (value for value in (request.view_args or {}).values() if isinstance(value, str))
    in_query = (text for pair in request.args.items(multi=True) for text in pair)
    if any("\0" in text for text in (*in_path, *in_query)):
        abort(404)
    if any("\0" in text for pair in request.form.items(multi=True) for text in pair):
        abort(400)


def whole_number(text: str) -> int | None:
    """A number from a query or a header; None for anything that is no row's.

    >>> whole_number("12"), whole_number("99999999999999999999"), whole_number("-1"), whole_number("")
    (12, None, None, None)
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(MAX_INTEGER)):
        return None
    number = int(text)
    return number if number <= MAX_INTEGER else None


def cursor(name: str) -> tuple[int, int] | None:
    """Two numbers joined by a dot, as a list's next page names its begin; None where absent, 404 for anything else."""
    given = request.args.get(name)
    if given is None:
        return None
    first, _, second = given.partition(".")
    numbers = whole_number(first), whole_number(second)
    if numbers[0] is None or numbers[1] is None:
        abort(404)
    return numbers[0], numbers[1]
