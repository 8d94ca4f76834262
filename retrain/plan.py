"""What a night is asked for: everything that decides what comes out of it, and the days that follow from a cut-off.

    train ........ | delay_days | test .... | delay_days | cut-off
                                ^ labels known by now train            ^ labels known by now judge

A transaction is as old as `delay_days` before its lack of a label counts as genuine, in training and in the test alike;
and the model that is judged was trained on what was known before the first test day.
"""

import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidSetting, Refused
from plumbline.transaction import DAY_US
from training.windows import AUTO_WARM_UP_DAYS, Days, Windows

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
Whole = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A night's arguments. The same plan over the same data is the same run, wherever it lies.

    cut_off_us: nothing that became known at this moment or later counts, microseconds since 1970 UTC; archive_digest:
    empty without an archive; journal: whether there is one, and whose (prefix of its topics), or empty; clock: see
    `retrain.sources`; devices: replicas, None: all GPUs or one CPU device; seeds: of further fits, whose scores say how
    much chance moves the figures; limits, costs: of the gate;
    empty_days: dates on which nothing was paid, as somebody declared.
    """

    cut_off_us: int
    archive_digest: str = ""
    journal: str = ""
    clock: Literal["journal", "told"] = "journal"
    fingerprint: str = ""
    model_name: str
    train_days: Positive = 270
    delay_days: Whole = 7
    test_days: Positive = 14
    epochs: Positive = 8
    batch_rows: Positive = 512
    seed: Whole = 0
    seeds: tuple[int, ...] = ()
    devices: int | None = None
    precision: str = "float32"
    limits: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    empty_days: tuple[str, ...] = ()

    @property
    def day(self) -> str:
        """The cut-off's date, as the run's name has it."""
        return (EPOCH + datetime.timedelta(microseconds=self.cut_off_us)).date().isoformat()

    def asked(self) -> dict[str, Any]:
        """The plan as JSON."""
        facts: dict[str, Any] = msgspec.to_builtins(self)
        return facts


def moment(text: str) -> int:
    """A cut-off from a date, whose first moment it is, or from a time with a zone; microseconds since 1970 UTC.

    Raises InvalidSetting.

    >>> moment("1970-01-02"), moment("1970-01-01T02:00+01:00")
    (86400000000, 3600000000)
    """
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(text) from None
    if found.tzinfo is None:
        if found.time() != datetime.time():
            raise _invalid(text)
        found = found.replace(tzinfo=datetime.UTC)
    return (found - EPOCH) // datetime.timedelta(microseconds=1)


def last_midnight(now_us: int) -> int:
    """The newest UTC midnight at or before a moment: the cut-off of a night that names none."""
    return now_us // DAY_US * DAY_US


def windows_of(first_us: int, plan: Plan) -> Windows:
    """Training and test days from the first transaction's time and a plan.

    Days that are too young to lack a label are neither; a short past has a shorter test, a tenth of its days, and its
    training begins when history is warm, as in `training.windows.automatic`. Raises Refused when it is too short.
    """
    first, end = first_us // DAY_US, plan.cut_off_us // DAY_US
    days = end - first
    test_last = (plan.cut_off_us - plan.delay_days * DAY_US) // DAY_US - 1
    test_first = test_last - max(1, min(plan.test_days, days // 10)) + 1
    train_last = test_first - plan.delay_days - 1
    train_first = max(first + min(AUTO_WARM_UP_DAYS, max(0, days) // 4), train_last - plan.train_days + 1)
    if train_first > train_last:
        raise Refused(
            f"{max(0, days)} days before the cut-off {plan.day} are too few to train, to wait {plan.delay_days} days "
            "for labels twice, and to test: give a later --cut-off, a longer past, or a smaller --delay-days"
        )
    return Windows(Days(train_first, train_last), plan.delay_days, Days(test_first, test_last))


def _invalid(text: str) -> InvalidSetting:
    allowed = "a date such as 2026-01-31, or a time with its zone, such as 2026-01-31T02:00+01:00"
    return InvalidSetting("retrain", "--cut-off", text, allowed)
