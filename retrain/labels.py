"""The step `labels`: the truths of the training and the test days as they were known, and whether to trust the labels.

    FOLDER/train.parquet    truths of the training days, known before the end of the delay
    FOLDER/test.parquet     truths of the test days, known before the cut-off

Labels decide what a model learns, and people make mistakes, feeds break, and fraudsters open accounts as analysts. So
labels that contradict one another, or speak of transactions that nobody knows, are counted, and beyond a share of all
they are refused. How the newest labels differ from those before is counted too; the gate judges that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plumbline.errors import Invalid, Refused, Unready
from plumbline.transaction import DAY_US
from retrain.judged import Judged, judge
from retrain.shifts import NEW_DAYS, USUAL_DAYS, shifts
from retrain.sources import Sources, Tell, open_sources, require_days, silent
from retrain.truth import TRUTH, Use, every_id, truths_of
from training.windows import Days, Windows, day_name

JUDGED_LEAST: Final = 20
"""Labels below which no share of them is refused: of ten, one mistake is a tenth."""


class InvalidRules(Invalid):
    """Rules of labels that contradict themselves."""


@dataclass(frozen=True, slots=True)
class LabelRules:
    """maturity_days: after so many days without a label a transaction counts as genuine; contradictions_max: share of
    the labelled transactions about which two may disagree; unknown_max: share of the labels that may speak of
    transactions nobody knows; empty_days: days without any transaction, as somebody knows, since 1970.
    """

    maturity_days: int = 7
    contradictions_max: float = 0.05
    unknown_max: float = 0.05
    empty_days: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.maturity_days < 0:
            raise InvalidRules("label rules", "maturity_days", self.maturity_days, "0 or more")
        for name in ("contradictions_max", "unknown_max"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InvalidRules("label rules", name, value, "a share from 0 to 1")


def labels(
    folder: Path, *, sources: Path, windows: Windows, rules: LabelRules | None = None, tell: Tell = silent
) -> dict[str, Any]:
    """Write the truths of both windows into an empty folder; returns what is to be known of the labels.

    sources: folder of the step `archive`. Raises Refused where a day is missing, where too many labels contradict one
    another or speak of unknown transactions, or where a window has one class alone; Unready when the disk is full.
    """
    given = rules or LabelRules()
    opened = open_sources(sources)
    if windows.test.until_us > opened.cut_off_us:
        raise Refused(
            f"the test days {windows.test} end after the cut-off: choose earlier days, or wait for {windows.test}"
        )
    require_days(opened, windows.train.first, opened.cut_off_us // DAY_US - 1, empty=given.empty_days)
    told = opened.labels(opened.cut_off_us)
    judged = judge(told)
    facts = _trusted(opened, told, judged, given)
    facts |= shifts(opened, told, judged, given.maturity_days)
    facts["empty_days"] = ", ".join(day_name(day) for day in given.empty_days if day not in opened.days)
    then = judge(opened.labels(windows.cut_off_us))
    whole = windows.train.last - windows.train.first + windows.test.last - windows.test.first + 2
    facts |= _write(opened, then, windows.train, windows.cut_off_us, given, "train", folder, tell, 0, whole)
    begun = windows.train.last - windows.train.first + 1
    facts |= _write(opened, judged, windows.test, opened.cut_off_us, given, "test", folder, tell, begun, whole)
    return facts


def _trusted(opened: Sources, told: pa.Table, judged: Judged, rules: LabelRules) -> dict[str, Any]:
    """Counts of what is wrong with the labels; raises Refused where it is too much."""
    spoken = told.filter(pc.not_equal(told["verdict"], "unsure"))
    known = np.zeros(len(judged), np.bool_)
    for ids in every_id(opened):
        found = pc.index_in(pc.unique(ids), value_set=judged.transaction_ids)
        known[np.asarray(found.drop_null(), dtype=np.int64)] = True
    strangers = judged.transaction_ids.filter(pa.array(~known))
    unknown = spoken.filter(pc.is_in(spoken["transaction_id"], value_set=strangers))
    facts = {
        "labels": told.num_rows,
        "labels_unsure": told.num_rows - spoken.num_rows,
        "labels_unknown": unknown.num_rows,
        "labels_unknown_share": unknown.num_rows / max(1, spoken.num_rows),
        "labelled": len(judged),
        "labels_contradicting": int(judged.contradicted.sum()),
        "labels_contradicting_share": float(judged.contradicted.mean()) if len(judged) else 0.0,
    }
    if spoken.num_rows >= JUDGED_LEAST and facts["labels_unknown_share"] > rules.unknown_max:
        raise Refused(
            f"{unknown.num_rows} of {spoken.num_rows} labels ({facts['labels_unknown_share']:.1%}) speak of "
            f"transactions that neither the archive nor the journal has, such as {strangers[0].as_py()!r}; allowed are "
            f"{rules.unknown_max:.1%}: is the right archive given, and do the feeds use the platform's ids?"
        )
    if len(judged) >= JUDGED_LEAST and facts["labels_contradicting_share"] > rules.contradictions_max:
        first = judged.transaction_ids.filter(pa.array(judged.contradicted))[0].as_py()
        raise Refused(
            f"{facts['labels_contradicting']} of {len(judged)} labelled transactions "
            f"({facts['labels_contradicting_share']:.1%}) are fraud to one and genuine to another, such as {first!r}; "
            f"allowed are {rules.contradictions_max:.1%}: find out whose labels are wrong before a model learns them"
        )
    return facts


def _write(
    opened: Sources,
    judged: Judged,
    days: Days,
    known_before_us: int,
    rules: LabelRules,
    use: Use,
    folder: Path,
    tell: Tell,
    begun: int,
    whole: int,
) -> dict[str, Any]:
    rows = frauds = labelled = young = declined = 0
    weight = 0.0
    try:
        with pq.ParquetWriter(folder / f"{use}.parquet", TRUTH, compression="zstd") as writer:
            for number, day in enumerate(range(days.first, days.last + 1), begun):
                found = truths_of(opened, judged, day, known_before_us, rules.maturity_days, use)
                if found.truths.num_rows:
                    writer.write_table(found.truths)
                rows, frauds = rows + found.truths.num_rows, frauds + found.frauds
                labelled += found.labelled
                young, declined = young + found.young, declined + found.declined
                weight += float(pc.sum(found.truths["weight"]).as_py() or 0.0)
                tell(number + 1, whole)
    except OSError as error:
        raise Unready(f"{folder} cannot take the truths ({error.strerror}): make room there") from error
    if not 0 < frauds < rows:
        only = "no row" if not rows else "fraud alone" if frauds else "genuine rows alone"
        raise Refused(
            f"the {'training' if use == 'train' else 'test'} days {days} have {only} by the labels known then "
            f"({rows} rows, {frauds} frauds, {young} too young to count, {declined} declined): both classes are "
            "needed; give more days, or wait until labels have come in"
        )
    return {
        f"{use}_rows": rows, f"{use}_frauds": frauds, f"{use}_labelled": labelled, f"{use}_matured": rows - labelled,
        f"{use}_young": young, f"{use}_declined": declined, f"{use}_weight": weight,
    }  # fmt: skip


__all__ = ["NEW_DAYS", "USUAL_DAYS", "InvalidRules", "LabelRules", "labels"]
