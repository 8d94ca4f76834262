"""One foreign column becomes one canonical column: text, microseconds, minor units, or millionths of a degree.

Every function takes an Arrow array as it was read and returns `Converted`: a value for each row, and which rows have
none. Work is done for a column at a time; only rows that are in doubt are looked at one by one.
"""

import datetime
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.escape import escaped
from archive.mapping import AmountField, PlaceField, TextField, TimeField
from plumbline.errors import InvalidArchive

EXACT_FLOAT_MAX: Final = 2**53
FLOAT_ERROR: Final = 1e-6
"""How far a float may lie from a whole minor unit and still mean it; more is a third decimal place."""

EPOCH_DIGITS: Final = {"epoch_s": 6, "epoch_ms": 3, "epoch_us": 0}


@dataclass(frozen=True, slots=True)
class Converted:
    """values: one a row (a stand-in where bad); bad: bool [n]; allowed: what was expected of a bad row."""

    values: pa.Array
    bad: np.ndarray
    allowed: str = ""


def converted_text(raw: pa.Array | None, field: TextField, numbers: np.ndarray) -> Converted:
    """Text by the field's rules; `raw` is None for a constant or row number. Bad: empty, or not in the table."""
    none = np.zeros(len(numbers), bool)
    if field.constant is not None:
        return Converted(pa.repeat(field.prefix + field.constant, len(numbers)), none)
    if raw is None:
        return Converted(_prefixed(pa.array(numbers).cast(pa.string()), field.prefix), none)
    text = as_text(raw)
    empty = pc.equal(text, "")
    bad, allowed = none, ""
    if field.values is not None:
        keys = pa.array(list(field.values), pa.string())
        place = pc.index_in(text, keys)
        found = pa.array(list(field.values.values()), pa.string()).take(place)
        if field.otherwise is None:
            bad = _mask(pc.is_null(found))
            allowed = "one of " + ", ".join(field.values)
        text = pc.fill_null(found, field.otherwise or "")
    elif field.escape:
        coded = pc.dictionary_encode(text)
        text = pa.array([escaped(name) for name in coded.dictionary.to_pylist()], pa.string()).take(coded.indices)
    text = _prefixed(text, field.prefix)
    if field.missing is not None:
        text = pc.if_else(empty, field.missing, text)
        bad = bad & ~_mask(empty)
    elif field.values is None:
        text = pc.if_else(empty, "", text)  # an empty value gets no prefix, so that the field's own rule judges it
    return Converted(text, bad, allowed)


def converted_time(raw: pa.Array, field: TimeField) -> Converted:
    """int64 microseconds since 1970 UTC. Raises InvalidArchive when the format cannot fit the column's type."""
    if field.format in EPOCH_DIGITS:
        exact = exact_integers(raw, EPOCH_DIGITS[field.format], ".", "")
        return Converted(exact.values, exact.bad, f"a number of {field.format.removeprefix('epoch_')} since 1970 UTC")
    if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
        time = raw.cast(pa.timestamp("us", getattr(raw.type, "tz", None)), safe=False)
        return Converted(_microseconds(time, field.zone), _mask(pc.is_null(raw)), "a time")
    if not _is_text(raw.type):
        allowed = "epoch_s, epoch_ms or epoch_us, since the column holds no text"
        raise InvalidArchive(f"mapping of column {field.column}", "format", field.format, allowed)
    text = as_text(raw)
    return _iso(text, field.zone) if field.format == "iso" else _patterned(text, field.format, field.zone)


def converted_amount(raw: pa.Array, field: AmountField) -> Converted:
    """int64 minor units, exactly; nothing is ever rounded."""
    exact = exact_integers(raw, field.digits, field.decimal, field.thousands)
    values = pc.negate(exact.values) if field.negate else exact.values
    return Converted(values, exact.bad, exact.allowed)


def converted_place(raw: pa.Array, field: PlaceField) -> Converted:
    """int32 millionths of a degree, rounded to the nearest, null where the column is empty."""
    scale = 1_000_000 if field.unit == "degrees" else 1
    absent = _mask(pc.is_null(raw))
    if _is_text(raw.type):
        text = pc.utf8_trim_whitespace(as_text(raw))
        absent = _mask(pc.equal(text, ""))
        number = _mask(pc.match_substring_regex(text, r"\A[+-]?[0-9]{1,9}(\.[0-9]*)?\z"))
        degrees = pc.if_else(pa.array(number), text, "0").cast(pa.float64()).to_numpy(zero_copy_only=False)
    else:
        degrees = pc.fill_null(raw.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        number = np.isfinite(degrees)
    scaled = np.rint(np.where(number, degrees, 0.0) * scale)
    bad = ~absent & (~number | (np.abs(scaled) > 180_000_000))
    values = pa.array(np.where(bad, 0, scaled).astype(np.int32), mask=absent | bad)
    return Converted(values, bad, "degrees as a number, or nothing where the place is unknown")


def exact_integers(raw: pa.Array, digits: int, decimal: str, thousands: str) -> Converted:
    """Numbers times 10 to the power of `digits`, int64, bad where that is no whole number below 10^18.

    A float counts as the whole number that lies within 1e-6 of it (plus a float's own error for large ones).
    """
    allowed = f"a number with at most {digits} decimal places" if digits else "a whole number"
    if pa.types.is_floating(raw.type):
        scaled = pc.fill_null(raw.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False) * 10.0**digits
        whole = np.rint(scaled)
        with np.errstate(invalid="ignore"):
            good = (np.abs(scaled - whole) <= FLOAT_ERROR + np.abs(scaled) * 2.0**-50) & (
                np.abs(scaled) <= EXACT_FLOAT_MAX
            )
        return Converted(pa.array(np.where(good, whole, 0).astype(np.int64)), ~good, allowed)
    text = pc.utf8_trim_whitespace(as_text(raw))
    if thousands:
        text = pc.replace_substring(text, thousands, "")
    if decimal != ".":
        text = pc.replace_substring(text, ".", "?")  # a mark of another habit must not pass for the decimal one
        text = pc.replace_substring(text, decimal, ".")
    parts = pc.extract_regex(
        text, r"\A(?P<sign>[+-]?)(?P<whole>[0-9]{1," + str(18 - digits) + r"})(?:\.(?P<part>[0-9]+))?\z"
    )
    none = pa.repeat("0", len(text))
    part = pc.utf8_rtrim(pc.fill_null(pc.struct_field(parts, "part"), ""), "0")
    fits = pc.less_equal(pc.utf8_length(part), digits)
    bad = ~_mask(pc.and_(pc.is_valid(parts), fits))
    padded = pc.if_else(fits, pc.utf8_rpad(part, digits, "0"), "")
    joined = pc.binary_join_element_wise(pc.coalesce(pc.struct_field(parts, "whole"), none), padded, "")
    values = pc.if_else(pa.array(bad), "0", joined).cast(pa.int64())
    negative = pc.fill_null(pc.equal(pc.struct_field(parts, "sign"), "-"), False)
    return Converted(pc.if_else(negative, pc.negate(values), values), bad, allowed)


def as_text(raw: pa.Array) -> pa.Array:
    """Any column as text; a null is empty."""
    return pc.fill_null(raw.cast(pa.string()), "")


_ISO = (
    r"\A(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<time>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2})?"
    r"(?:\.(?P<fraction>[0-9]{1,6}))?(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?\z"
)


def _iso(text: pa.Array, zone: str) -> Converted:
    allowed = "an ISO 8601 time such as 2020-01-31 23:59:59.123456, or with an offset such as Z or +01:00"
    parts = pc.extract_regex(pc.utf8_trim_whitespace(text), _ISO)
    good = _mask(pc.is_valid(parts))
    piece = {name: pc.fill_null(pc.struct_field(parts, name), "") for name in ("date", "time", "second", "fraction")}
    second = pc.if_else(pc.equal(piece["second"], ""), ":00", piece["second"])
    core = pc.binary_join_element_wise(piece["date"], piece["time"], "T")
    core = pc.binary_join_element_wise(core, second, "")
    stamp = _strict_strptime(core, "%Y-%m-%dT%H:%M:%S")
    good &= _mask(pc.is_valid(stamp))
    fraction = pc.utf8_rpad(piece["fraction"], 6, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
    offset = pc.dictionary_encode(pc.fill_null(pc.struct_field(parts, "offset"), ""))
    shifts = [_offset_us(name) for name in offset.dictionary.to_pylist()]
    shift = np.array([0 if each is None else each for each in shifts] or [0], np.int64)[offset.indices.to_numpy()]
    own = np.array([each is not None for each in shifts] or [False])[offset.indices.to_numpy()]
    as_utc = _microseconds(stamp, "UTC").to_numpy(zero_copy_only=False) - shift
    local = _microseconds(stamp, zone).to_numpy(zero_copy_only=False)
    return Converted(pa.array(np.where(own, as_utc, local) + fraction), ~good, allowed)


def _offset_us(offset: str) -> int | None:
    """Microseconds east of UTC; None for no offset."""
    if offset in ("", "Z"):
        return 0 if offset else None
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    return (-minutes if offset[0] == "-" else minutes) * 60_000_000


def _patterned(text: pa.Array, pattern: str, zone: str) -> Converted:
    stamp = _strict_strptime(pc.utf8_trim_whitespace(text), pattern)
    return Converted(_microseconds(stamp, zone), _mask(pc.is_null(stamp)), f"a time like {pattern}")


def _strict_strptime(text: pa.Array, pattern: str) -> pa.Array:
    """Timestamps without a zone, null where the text is no such time.

    Arrow reads a 30 February as 1 March; so whatever does not print back to the same text is read again by Python.
    """
    stamp = pc.strptime(text, pattern, "us", error_is_null=True)
    printed = pc.strftime(stamp.cast(pa.timestamp("s")), pattern)
    doubtful = np.flatnonzero(~_mask(pc.fill_null(pc.equal(printed, text), False)))
    if not len(doubtful):
        return stamp
    values = stamp.to_numpy(zero_copy_only=False).astype("datetime64[us]")
    for row in doubtful.tolist():
        values[row] = _python_strptime(text[row].as_py(), pattern)
    return pa.array(values, pa.timestamp("us"))


def _python_strptime(text: str, pattern: str) -> np.datetime64:
    try:
        return np.datetime64(datetime.datetime.strptime(text, pattern).replace(tzinfo=None), "us")  # noqa: DTZ007
    except ValueError:
        return np.datetime64("NaT", "us")


def _microseconds(time: pa.Array, zone: str) -> pa.Array:
    """int64 microseconds since 1970 UTC, 0 where null; an hour that a clock shows twice, or skips, is the earlier."""
    if time.type.tz is None:
        time = pc.assume_timezone(time, zone, ambiguous="earliest", nonexistent="earliest")
    return pc.fill_null(time.cast(pa.int64()), 0)


def _prefixed(text: pa.Array, prefix: str) -> pa.Array:
    return pc.binary_join_element_wise(prefix, text, "") if prefix else text


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mask(booleans: pa.Array) -> np.ndarray:
    return np.array(booleans.to_numpy(zero_copy_only=False), bool)
