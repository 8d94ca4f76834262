"""The one compiled kernel of layer 2: entries of many keys, kept in time order in rings of one arena; integers only.

It runs in the scorer (all keys, one micro-batch at a time), in the Beam backfill (the keys of one shard) and in the
audit. `tests/features/oracle.py` says in 20 obvious lines what it must return.

A key's entries lie in a ring of `2**size[slot]` places of the arena, sorted by (time, arrival). `total` holds running
sums, so that a window's sum is one subtraction and an amount is the difference of two neighbours; int64 wrap-around
cancels in both. `squares` holds running sums of squares in the same way; what came before the first entry is its own
square less. Rings double as they fill, up to the table's bound; outgrown ones go to a free list by size.

`other`, `odd`, `squares` and `fraud` are empty, and cost nothing, in a table none of whose measures needs them.
"""

from typing import Any, Final

import numpy as np
from numba import njit

(
    COUNT, SUM, MAXIMUM, DISTINCT, EVER, SECONDS_SINCE, LATITUDE, LONGITUDE, SECONDS_SINCE_PLACE,
    UNUSUAL, SQUARES, SECONDS_SINCE_FIRST, FRAUD_RUN, SECONDS_SINCE_FRAUD_RUN,
    FRAUD_RUN_LAST, FRAUD_RUN_MINIMUM,
) = range(16)  # fmt: skip

SMALLEST: Final = 2
"""log2 of the smallest ring: four entries."""

NEVER: Final = -1
"""Seconds since something that never happened."""

NO_TIME: Final = -(2**62)
"""`newest` of a key that has no entry yet, and `place_time` of one that has no place."""

SECOND_US: Final = 1_000_000

UNUSUAL_TIMES: Final = 3
"""An amount is unusual when it is more than this many times the mean of the ones before it."""


@njit(cache=True, inline="always")
def _after(time: Any, offset: int, head: int, mask: int, low: int, high: int, t: int) -> int:
    """Index of the first of the entries [low, high) whose time is later than t; high when none is."""
    while low < high:
        middle = (low + high) >> 1
        if time[offset + ((head + middle) & mask)] > t:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True, inline="always")
def _is_unusual(amount: int, count: int, total: int) -> bool:
    """Whether amount × count > 3 × total, without a product that could leave int64; no amount is, beside none."""
    if count == 0:
        return False
    mean = total // count
    over = amount - UNUSUAL_TIMES * mean
    if over <= 0 or over >= UNUSUAL_TIMES:
        return over > 0
    return over * count > UNUSUAL_TIMES * (total - mean * count)


@njit(cache=True, inline="always")
def _square(amount: int, most: int) -> int:
    return min(amount, most) * min(amount, most)


@njit(cache=True, inline="always")
def _is_age(kind: int) -> bool:
    """Whether a measure is seconds since something."""
    if kind == SECONDS_SINCE or kind == SECONDS_SINCE_PLACE:
        return True
    return bool(kind == SECONDS_SINCE_FIRST or kind == SECONDS_SINCE_FRAUD_RUN)


@njit(cache=True, inline="always")
def _before_run(fraud: Any, offset: int, head: int, mask: int, end: int) -> int:
    """Index of the first entry of the marked ones in a row that end before the entry `end`; `end` when none does."""
    while end > 0 and fraud[offset + ((head + end - 1) & mask)]:
        end -= 1
    return end


@njit(cache=True, inline="always")
def _least_of_run(total: Any, base: int, fraud: Any, offset: int, head: int, mask: int, oldest: int, end: int) -> int:
    """The smallest amount of the marked entries in a row that end before the entry `end`, none of them before `oldest`.

    0 when there is none.
    """
    least = -1
    while end > max(oldest, 0) and fraud[offset + ((head + end - 1) & mask)]:
        end -= 1
        amount = total[offset + ((head + end) & mask)] - (
            total[offset + ((head + end - 1) & mask)] if end > 0 else base
        )
        least = amount if least < 0 else min(least, amount)
    return max(least, 0)


@njit(cache=True, nogil=True)
def advance(
    begin: int,
    # the stream, one row an arrival
    slots: Any,
    times: Any,
    amounts: Any,
    others: Any,
    latitudes: Any,
    longitudes: Any,
    reads: Any,
    writes: Any,
    marks: Any,
    # the plan
    windows: Any,
    kinds: Any,
    window_of: Any,
    usual: int,
    square_most: int,
    bound: int,
    horizon: int,
    absent: int,
    # per key
    offset: Any,
    head: Any,
    length: Any,
    size: Any,
    newest: Any,
    ever: Any,
    base: Any,
    latitude: Any,
    longitude: Any,
    place_time: Any,
    # the arena
    time: Any,
    total: Any,
    other: Any,
    odd: Any,
    squares: Any,
    fraud: Any,
    free: Any,
    used: Any,
    # scratch: when each other entity was last counted, and by which scan
    seen: Any,
    scan: Any,
    out: Any,
) -> int:
    """Take rows begin.. in arrival order: read a key's past into `out`, then add the row to it.

    Returns the number of rows taken: fewer than all when the arena is full; make it larger and call again with
    `begin` set to the returned number. A row that marks finds its key's entries of its very time, and marks the newest
    of them that is not marked yet. usual: which window an amount is compared with to be unusual, -1 for none;
    square_most: what a larger amount counts as in a sum of squares.
    """
    window_count = windows.shape[0]
    measure_count = kinds.shape[0]
    first = np.zeros(window_count, np.int64)
    largest = np.zeros(window_count, np.int64)
    distinct = np.zeros(window_count, np.int64)
    unusual = np.zeros(window_count, np.int64)
    scanned = 0  # how many of the windows, shortest first, need their entries looked at one by one
    for m in range(measure_count):
        if kinds[m] == MAXIMUM or kinds[m] == DISTINCT or kinds[m] == UNUSUAL:
            scanned = max(scanned, window_of[m] + 1)
    for row in range(begin, slots.shape[0]):
        slot = slots[row]
        if slot < 0:
            if reads[row]:
                for m in range(measure_count):
                    kind = kinds[m]
                    if _is_age(kind):
                        out[row, m] = NEVER
                    elif kind == LATITUDE or kind == LONGITUDE:
                        out[row, m] = absent
                    else:
                        out[row, m] = 0
            continue
        t = times[row]
        start = offset[slot]
        mask = (1 << size[slot]) - 1
        begins = head[slot]
        n = length[slot]
        forgotten = 0
        if writes[row] and bound > 0:
            # Forgetting before reading changes no answer of a window: a row that moves the horizon is the newest of its
            # key, and its longest window ends before the horizon does. A run of frauds may end with what is forgotten.
            forgotten = max(newest[slot], t) - horizon
            while n > 0 and time[start + begins] <= forgotten:
                base[slot] = total[start + begins]
                begins = (begins + 1) & mask
                n -= 1
            head[slot] = begins
            length[slot] = n
            # Room comes before everything else, so that a full arena leaves this row to be taken again.
            capacity = (mask + 1) if start >= 0 else 0
            if n == capacity and capacity < bound:
                wanted = SMALLEST if start < 0 else size[slot] + 1
                place = free[wanted]
                if place >= 0:
                    free[wanted] = time[place]
                else:
                    if used[0] + (1 << wanted) > time.shape[0]:
                        return row
                    place = used[0]
                    used[0] += 1 << wanted
                for i in range(n):
                    old = start + ((begins + i) & mask)
                    time[place + i] = time[old]
                    total[place + i] = total[old]
                    if other.shape[0]:
                        other[place + i] = other[old]
                    if odd.shape[0]:
                        odd[place + i] = odd[old]
                    if squares.shape[0]:
                        squares[place + i] = squares[old]
                    if fraud.shape[0]:
                        fraud[place + i] = fraud[old]
                if start >= 0:
                    time[start] = free[size[slot]]
                    free[size[slot]] = start
                offset[slot] = start = place
                size[slot] = wanted
                head[slot] = begins = 0
                mask = (1 << wanted) - 1
        is_odd = False
        if reads[row] or (writes[row] and usual >= 0):
            end = n
            if n > 0 and time[start + ((begins + n - 1) & mask)] > t:
                end = _after(time, start, begins, mask, 0, n, t)
            scan[0] += 1
            i = end
            top = 0
            different = 0
            noticed = 0
            for w in range(scanned):
                since = t - windows[w]
                while i > 0:
                    at = start + ((begins + i - 1) & mask)
                    if time[at] <= since:
                        break
                    i -= 1
                    amount = total[at] - (total[start + ((begins + i - 1) & mask)] if i > 0 else base[slot])
                    top = max(top, amount)
                    if other.shape[0] and seen[other[at]] != scan[0]:
                        seen[other[at]] = scan[0]
                        different += 1
                    if odd.shape[0]:
                        noticed += odd[at]
                first[w] = i
                largest[w] = top
                distinct[w] = different
                unusual[w] = noticed
            for w in range(scanned, window_count):
                first[w] = _after(time, start, begins, mask, 0, first[w - 1] if w > 0 else end, t - windows[w])
            if usual >= 0 and end > first[usual]:
                low = first[usual]
                before = total[start + ((begins + low - 1) & mask)] if low > 0 else base[slot]
                is_odd = _is_unusual(amounts[row], end - low, total[start + ((begins + end - 1) & mask)] - before)
            for m in range(measure_count if reads[row] else 0):
                kind = kinds[m]
                if kind == COUNT:
                    out[row, m] = end - first[window_of[m]]
                elif kind == SUM:
                    low = first[window_of[m]]
                    if end > low:
                        before = total[start + ((begins + low - 1) & mask)] if low > 0 else base[slot]
                        out[row, m] = total[start + ((begins + end - 1) & mask)] - before
                    else:
                        out[row, m] = 0
                elif kind == SECONDS_SINCE_FIRST:
                    low = first[window_of[m]]
                    out[row, m] = (t - time[start + ((begins + low) & mask)]) // SECOND_US if end > low else NEVER
                elif kind == FRAUD_RUN:
                    low = first[window_of[m]]
                    out[row, m] = low - _before_run(fraud, start, begins, mask, low)
                elif kind == SECONDS_SINCE_FRAUD_RUN:
                    low = first[window_of[m]]
                    oldest = _before_run(fraud, start, begins, mask, low)
                    out[row, m] = (t - time[start + ((begins + oldest) & mask)]) // SECOND_US if low > oldest else NEVER
                elif kind == FRAUD_RUN_LAST or kind == FRAUD_RUN_MINIMUM:
                    low = first[window_of[m]]
                    oldest = low - 1 if kind == FRAUD_RUN_LAST else 0
                    out[row, m] = _least_of_run(total, base[slot], fraud, start, begins, mask, oldest, low)
                elif kind == UNUSUAL:
                    out[row, m] = unusual[window_of[m]]
                elif kind == SQUARES:
                    low = first[window_of[m]]
                    if end > low:
                        if low > 0:
                            before = squares[start + ((begins + low - 1) & mask)]
                        else:
                            before = squares[start + begins] - _square(total[start + begins] - base[slot], square_most)
                        out[row, m] = squares[start + ((begins + end - 1) & mask)] - before
                    else:
                        out[row, m] = 0
                elif kind == MAXIMUM:
                    out[row, m] = largest[window_of[m]]
                elif kind == DISTINCT:
                    out[row, m] = distinct[window_of[m]]
                elif kind == EVER:
                    out[row, m] = ever[slot]
                elif kind == SECONDS_SINCE:
                    out[row, m] = NEVER if newest[slot] == NO_TIME else max(0, (t - newest[slot]) // SECOND_US)
                elif kind == LATITUDE:
                    out[row, m] = latitude[slot]
                elif kind == LONGITUDE:
                    out[row, m] = longitude[slot]
                else:
                    out[row, m] = NEVER if place_time[slot] == NO_TIME else max(0, (t - place_time[slot]) // SECOND_US)
        if marks[row] and fraud.shape[0]:
            i = _after(time, start, begins, mask, 0, n, t) - 1
            while i >= 0 and time[start + ((begins + i) & mask)] == t:
                at = start + ((begins + i) & mask)
                if not fraud[at]:
                    fraud[at] = 1
                    break
                i -= 1
        if writes[row]:
            ever[slot] += 1
            if latitudes[row] != absent:
                latitude[slot] = latitudes[row]
                longitude[slot] = longitudes[row]
                place_time[slot] = t
            newest[slot] = max(newest[slot], t)
            if bound == 0:
                continue
            p = n
            if n > 0 and time[start + ((begins + n - 1) & mask)] > t:
                p = _after(time, start, begins, mask, 0, n, t)
            if t > forgotten and not (p == 0 and n == bound):
                if n == bound:
                    base[slot] = total[start + begins]
                    begins = (begins + 1) & mask
                    n -= 1
                    p -= 1
                square = _square(amounts[row], square_most)
                before = 0
                if squares.shape[0] and p > 0:
                    before = squares[start + ((begins + p - 1) & mask)]
                elif squares.shape[0] and n > 0:
                    before = squares[start + begins] - _square(total[start + begins] - base[slot], square_most)
                for i in range(n, p, -1):
                    to = start + ((begins + i) & mask)
                    of = start + ((begins + i - 1) & mask)
                    time[to] = time[of]
                    total[to] = total[of] + amounts[row]
                    if other.shape[0]:
                        other[to] = other[of]
                    if odd.shape[0]:
                        odd[to] = odd[of]
                    if squares.shape[0]:
                        squares[to] = squares[of] + square
                    if fraud.shape[0]:
                        fraud[to] = fraud[of]
                at = start + ((begins + p) & mask)
                time[at] = t
                total[at] = amounts[row] + (total[start + ((begins + p - 1) & mask)] if p > 0 else base[slot])
                if other.shape[0]:
                    other[at] = others[row]
                if odd.shape[0]:
                    odd[at] = is_odd
                if squares.shape[0]:
                    squares[at] = before + square
                if fraud.shape[0]:
                    fraud[at] = 0
                n += 1
            head[slot] = begins
            length[slot] = n
    return len(slots)
