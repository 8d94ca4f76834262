"""One foreign column becomes one canonical column: text, microseconds, minor units, or millionths of a degree.

Every function takes an Arrow array as it was read and returns `Converted`: a value for each row, and which rows have
none. Work is done for a column at a time; only rows that are in doubt are looked at one by one.
"""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.damage import WHY_FLOATS, damaged, why_damaged
from archive.escape import escaped
from archive.mapping import PlaceField, TextField, TimeField
from plumbline.epoch import unit_of
from plumbline.errors import InvalidArchive
from plumbline.transaction import AHEAD_MAX_US, DAY_US

EXACT_FLOAT_MAX: Final = 2**53
FLOAT_ERROR: Final = 1e-6
"""How far a float may lie from a whole minor unit and still mean it; more is a third decimal place."""

EPOCH_DIGITS: Final = {"epoch_s": 6, "epoch_ms": 3, "epoch_us": 0}
_EPOCH_UNITS: Final = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds"}
_FORMATS: Final = {unit: format_ for format_, unit in _EPOCH_UNITS.items()}


@dataclass(frozen=True, slots=True)
class Converted:
    """values: one a row (of no meaning where bad); bad: bool [n]; what was expected of a bad row is `allowed`, or what
    `reason` says of it.
    """

    values: pa.Array
    bad: np.ndarray
    allowed: str = ""
    reason: Callable[[int], str] | None = None

    def expected(self, row: int) -> str:
        """What was expected of a bad row."""
        return self.allowed if self.reason is None else self.reason(row)


def converted_text(raw: pa.Array | None, field: TextField, numbers: np.ndarray, *, is_id: bool = False) -> Converted:
    """Text by the field's rules; `raw` is None for a constant or row number; is_id: damaged ids are looked for.

    Bad: empty, not in the table, or a damaged id.
    """
    none = np.zeros(len(numbers), bool)
    if field.constant is not None:
        return Converted(pa.repeat(field.prefix + field.constant, len(numbers)), none)
    if raw is None:
        return Converted(_prefixed(pa.array(numbers).cast(pa.string()), field.prefix), none)
    text = as_text(raw)
    empty = pc.equal(text, "")
    bad, allowed, reason = none, "", None
    if field.values is not None:
        place = pc.index_in(text, pa.array(words_in(raw, field.values), pa.string()))
        found = pa.array(list(field.values.values()), pa.string()).take(place)
        if field.otherwise is None:
            bad = mask_of(pc.is_null(found))
            allowed = "one of " + ", ".join(field.values)
        text = pc.fill_null(found, field.otherwise or "")
    else:
        if is_id and not field.as_is:
            bad, reason = _damage(raw, text, empty)
        if field.escape:
            coded = pc.dictionary_encode(text)
            text = pa.array([escaped(name) for name in coded.dictionary.to_pylist()], pa.string()).take(coded.indices)
    text = _prefixed(text, field.prefix)
    if field.missing is not None:
        text = pc.if_else(empty, field.missing, text)
        bad = bad & ~mask_of(empty)
    elif field.values is None:
        text = pc.if_else(empty, "", text)  # an empty value gets no prefix, so that the field's own rule judges it
    return Converted(text, bad, allowed, reason)


def _damage(raw: pa.Array, text: pa.Array, empty: pa.Array) -> tuple[np.ndarray, Callable[[int], str]]:
    if pa.types.is_floating(raw.type):
        return ~mask_of(empty), lambda row: WHY_FLOATS
    coded = pc.dictionary_encode(text)
    found = mask_of(damaged(coded.dictionary))[coded.indices.to_numpy()] if len(text) else np.zeros(0, bool)
    return found, lambda row: why_damaged(text[row].as_py())


def converted_time(raw: pa.Array, field: TimeField, now_us: int) -> Converted:
    """int64 microseconds since 1970 UTC; bad: no time, one before the field's `earliest`, a number of another unit.

    now_us: our clock. Raises InvalidArchive when the format cannot fit the column's type.
    """
    read = _read_time(raw, field)
    earliest_us = (field.earliest - datetime.date(1970, 1, 1)).days * DAY_US
    values = read.values.to_numpy(zero_copy_only=False)
    early = ~read.bad & (values < earliest_us)
    late = ~read.bad & (values > now_us + AHEAD_MAX_US) & (field.format in EPOCH_DIGITS)
    texts = as_text(raw)

    def expected(row: int) -> str:
        if field.format in EPOCH_DIGITS and (hint := _other_unit(texts[row].as_py(), field, earliest_us, now_us)):
            return f"{read.allowed}: {hint}"
        if early[row]:
            return f"a time from {field.earliest} on; say `earliest` in the mapping where payments are older"
        return f"{read.allowed}, not in the future" if late[row] else read.allowed

    return Converted(read.values, read.bad | early | late, reason=expected)


def _other_unit(text: str, field: TimeField, earliest_us: int, now_us: int) -> str:
    """What a number looks like that is no time in the field's unit; empty where it looks like nothing."""
    try:
        number = int(float(text)) if any(mark in text for mark in ".eE") else int(text)
    except (ValueError, OverflowError):
        return ""
    found = unit_of(number, earliest_us, now_us + AHEAD_MAX_US + 1)
    if found is None or found[0] == _EPOCH_UNITS[field.format]:
        return ""
    unit, time_us = found
    moment = datetime.datetime.fromtimestamp(time_us // 1_000_000, datetime.UTC)
    remedy = f'say format = "{_FORMATS[unit]}"' if unit in _FORMATS else "divide by 1,000 and say `epoch_us`"
    return f"this looks like {unit} ({moment:%Y-%m-%d %H:%M:%S} UTC); {remedy}"


def _read_time(raw: pa.Array, field: TimeField) -> Converted:
    if field.format in EPOCH_DIGITS:
        digits = EPOCH_DIGITS[field.format]
        if pa.types.is_floating(raw.type):
            whole, bad = scaled_floats(raw, np.full(len(raw), digits))
            values = pa.array(whole)
        else:
            values, bad = joined_integers(pc.utf8_trim_whitespace(as_text(raw)), digits)
        return Converted(values, bad, f"a number of {_EPOCH_UNITS[field.format]} since 1970 UTC")
    if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
        time = raw.cast(pa.timestamp("us", getattr(raw.type, "tz", None)), safe=False)
        return Converted(_microseconds(time, field.zone), mask_of(pc.is_null(raw)), "a time")
    if not is_text(raw.type):
        allowed = "epoch_s, epoch_ms or epoch_us, since the column holds no text"
        raise InvalidArchive(f"mapping of column {field.column}", "format", field.format, allowed)
    text = as_text(raw)
    return _iso(text, field.zone) if field.format == "iso" else _patterned(text, field.format, field.zone)


def converted_place(raw: pa.Array, field: PlaceField) -> Converted:
    """int32 millionths of a degree, rounded to the nearest, null where the column is empty."""
    scale = 1_000_000 if field.unit == "degrees" else 1
    absent = mask_of(pc.is_null(raw))
    if is_text(raw.type):
        text = pc.utf8_trim_whitespace(as_text(raw))
        absent = mask_of(pc.equal(text, ""))
        number = mask_of(pc.match_substring_regex(text, r"\A[+-]?[0-9]{1,9}(\.[0-9]*)?\z"))
        degrees = pc.if_else(pa.array(number), text, "0").cast(pa.float64()).to_numpy(zero_copy_only=False)
    else:
        degrees = pc.fill_null(raw.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        number = np.isfinite(degrees)
    scaled = np.rint(np.where(number, degrees, 0.0) * scale)
    bad = ~absent & (~number | (np.abs(scaled) > 180_000_000))
    values = pa.array(np.where(bad, 0, scaled).astype(np.int32), mask=absent | bad)
    return Converted(values, bad, "degrees as a number, or nothing where the place is unknown")


def scaled_floats(raw: pa.Array, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Floats times 10 to the power of each row's `digits`, int64 [n], and which are no whole number then.

    A float counts as the whole number that lies within 1e-6 of it (plus a float's own error for large ones).
    """
    scaled = pc.fill_null(raw.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False) * 10.0**digits
    whole = np.rint(scaled)
    with np.errstate(invalid="ignore"):
        near = np.abs(scaled - whole) <= FLOAT_ERROR + np.abs(scaled) * 2.0**-50
        good = near & (np.abs(scaled) <= EXACT_FLOAT_MAX)
    return np.where(good, whole, 0).astype(np.int64), ~good


def joined_integers(text: pa.Array, digits: int) -> tuple[pa.Array, np.ndarray]:
    """Decimal numbers with `.` times 10 to the power of `digits`, int64 [n], and which are no whole number then.

    Zeros at the end of the decimals count for nothing; what has more than 18 digits in all is none.
    """
    form = r"\A(?P<sign>[+-]?)(?P<whole>[0-9]{1," + str(18 - digits) + r"})(?:\.(?P<part>[0-9]+))?\z"
    parts = pc.extract_regex(text, form)
    part = pc.utf8_rtrim(pc.fill_null(pc.struct_field(parts, "part"), ""), "0")
    fits = pc.less_equal(pc.utf8_length(part), digits)
    bad = ~mask_of(pc.and_(pc.is_valid(parts), fits))
    padded = pc.if_else(fits, pc.utf8_rpad(part, digits, "0"), "")
    joined = pc.binary_join_element_wise(pc.fill_null(pc.struct_field(parts, "whole"), "0"), padded, "")
    values = pc.if_else(pa.array(bad), "0", joined).cast(pa.int64())
    negative = pc.fill_null(pc.equal(pc.struct_field(parts, "sign"), "-"), False)
    return pc.if_else(negative, pc.negate(values), values), bad


def words_in(raw: pa.Array, words: Iterable[str]) -> list[str]:
    """The words of a mapping as the text of a column has them: a column of booleans reads true and false."""
    if not pa.types.is_boolean(raw.type):
        return list(words)
    return [_BOOLEANS.get(word.lower(), word) for word in words]


_BOOLEANS: Final = {"true": "true", "1": "true", "false": "false", "0": "false"}


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
    good = mask_of(pc.is_valid(parts))
    piece = {name: pc.fill_null(pc.struct_field(parts, name), "") for name in ("date", "time", "second", "fraction")}
    second = pc.if_else(pc.equal(piece["second"], ""), ":00", piece["second"])
    core = pc.binary_join_element_wise(piece["date"], piece["time"], "T")
    core = pc.binary_join_element_wise(core, second, "")
    stamp = _strict_strptime(core, "%Y-%m-%dT%H:%M:%S")
    good &= mask_of(pc.is_valid(stamp))
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
    return Converted(_microseconds(stamp, zone), mask_of(pc.is_null(stamp)), f"a time like {pattern}")


def _strict_strptime(text: pa.Array, pattern: str) -> pa.Array:
    """Timestamps without a zone, null where the text is no such time.

    Arrow reads a 30 February as 1 March; so whatever does not print back to the same text is read again by Python.
    """
    stamp = pc.strptime(text, pattern, "us", error_is_null=True)
    printed = pc.strftime(stamp.cast(pa.timestamp("s")), pattern)
    doubtful = np.flatnonzero(~mask_of(pc.fill_null(pc.equal(printed, text), False)))
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


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def mask_of(booleans: pa.Array) -> np.ndarray:
    """Booleans without nulls as bool [n]."""
    return np.array(booleans.to_numpy(zero_copy_only=False), bool)
