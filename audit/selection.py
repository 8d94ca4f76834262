"""Which entries an audit compares: a range of sequence numbers, a range of time, a sample of accounts; all combine.

Times are those at which the journal's broker took the record in: they never run backwards along the journal, so a range
of time is a range of sequence numbers too. A sample takes whole accounts, by a hash of their ids: the same ones on
every machine and at every time, and nobody can tell from an id whether it is among them without computing the hash.
"""

import datetime
import functools
import hashlib
import re
from dataclasses import dataclass

from archive.record import Record
from plumbline.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Sample:
    """`part` of `whole` accounts, such as 1 of 100."""

    part: int
    whole: int

    def takes(self, account_id: str) -> bool:
        """Whether an account is in the sample; an entry about no account always is."""
        return not account_id or _bucket(account_id) % self.whole < self.part

    def __str__(self) -> str:
        return f"{self.part}/{self.whole}"


@functools.lru_cache(maxsize=65_536)
def _bucket(account_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(account_id.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Selection:
    """first, last: sequence numbers, both included; since_ms, until_ms: half-open; None: no bound."""

    first: int = 0
    last: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    sample: Sample | None = None

    def covers(self, record: Record) -> bool:
        """Whether a record lies in the ranges."""
        at = record.appended_at_ms
        return (
            record.sequence >= self.first
            and (self.last is None or record.sequence <= self.last)
            and (self.since_ms is None or at >= self.since_ms)
            and (self.until_ms is None or at < self.until_ms)
        )

    def is_past(self, record: Record) -> bool:
        """Whether neither this journal entry nor any later one can lie in the ranges."""
        late = self.until_ms is not None and record.appended_at_ms >= self.until_ms
        return record.value is not None and (late or (self.last is not None and record.sequence > self.last))

    def takes(self, account_id: str) -> bool:
        """Whether an account is in the sample, where there is one."""
        return self.sample is None or self.sample.takes(account_id)

    def options(self) -> dict[str, str]:
        """The options that select the same again; empty when everything is selected."""
        found = {}
        if self.first or self.last is not None:
            found["sequence"] = f"{self.first}:{'' if self.last is None else self.last}"
        for name, at_ms in (("since", self.since_ms), ("until", self.until_ms)):
            if at_ms is not None:
                found[name] = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).isoformat()
        return found | ({} if self.sample is None else {"sample": str(self.sample)})


def parse_selection(sequence: str, since: str | None, until: str | None, sample: str | None) -> Selection:
    """The selection that the options of the command name; raises InvalidSetting, with the option and what it takes."""
    first, last = _sequences(sequence)
    chosen = Selection(
        first=first,
        last=last,
        since_ms=None if since is None else _milliseconds("--since", since),
        until_ms=None if until is None else _milliseconds("--until", until),
        sample=None if sample is None else _sample(sample),
    )
    if chosen.since_ms is not None and chosen.until_ms is not None and chosen.since_ms >= chosen.until_ms:
        raise InvalidSetting("audit", "--until", until or "", f"a time after --since {since}")
    return chosen


def _sequences(text: str) -> tuple[int, int | None]:
    first, colon, last = text.partition(":")
    if not colon or not re.fullmatch("[0-9]*", first) or not re.fullmatch("[0-9]*", last):
        raise InvalidSetting("audit", "--sequence", text, "A:B with whole numbers, such as 0:5000 or 100:")
    if last and int(first or 0) > int(last):
        raise InvalidSetting("audit", "--sequence", text, "A:B with A at most B")
    return int(first or 0), int(last) if last else None


def _milliseconds(option: str, text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        allowed = "a day such as 2026-01-31, or a time such as 2026-01-31T18:00:00 (UTC, unless it names a zone)"
        raise InvalidSetting("audit", option, text, allowed) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def _sample(text: str) -> Sample:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 0 < int(found[1]) <= int(found[2]):
        raise InvalidSetting("audit", "--sample", text, "a share of the accounts such as 1/100")
    return Sample(int(found[1]), int(found[2]))
