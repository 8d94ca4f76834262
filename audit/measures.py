"""History as columns: what n decisions say of it, against what was recomputed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from audit.bits import bits
from audit.report import Difference
from features.history import Flags, Integers
from plumbline.decision import Decision

NO_VERSION = -1


@dataclass(frozen=True, slots=True)
class Journaled:
    """What the journal says of n decisions; none of it is recomputed.

    history: int64 [n, measures], zeros where a record has another number of measures; widths: int64 [n], that number;
    versions: int64 [n], the model version asked, -1 for none.
    """

    sequences: Integers
    transaction_ids: Sequence[str]
    fingerprints: Sequence[str]
    versions: Integers
    widths: Integers
    history: Integers

    def __len__(self) -> int:
        return len(self.sequences)


def journaled(decisions: Sequence[tuple[int, Decision]], width: int, beside: str | None = None) -> Journaled:
    """The columns of numbered decisions; width: measures of the declaration.

    beside: fingerprint of a declaration that was in force beside the deciding one, which is meant when not given.
    """
    no_history = (0,) * width
    pasts = [each.history if beside is None else each.history_of(beside) or () for _, each in decisions]
    return Journaled(
        sequences=np.array([sequence for sequence, _ in decisions], np.int64),
        transaction_ids=[each.transaction.transaction_id for _, each in decisions],
        fingerprints=[each.fingerprint if beside is None else beside for _, each in decisions],
        versions=np.array([each.scores[0].model_version if each.scores else NO_VERSION for _, each in decisions]),
        widths=np.array([len(each) for each in pasts], np.int64),
        history=np.array([each if len(each) == width else no_history for each in pasts], np.int64).reshape(
            len(decisions), width
        ),
    )


def to_table(rows: Journaled, arrivals: Integers, names: Sequence[str]) -> pa.Table:
    """The same as a table for the disk, with each decision's number among all arrivals."""
    columns = {name: rows.history[:, at] for at, name in enumerate(names)}
    return pa.table(
        {
            "sequence": rows.sequences,
            "arrival": arrivals,
            "transaction_id": pa.array(rows.transaction_ids, pa.string()),
            "fingerprint": pa.array(rows.fingerprints, pa.string()),
            "version": rows.versions,
            "width": rows.widths,
            **columns,
        }
    )


def from_table(table: pa.Table, names: Sequence[str]) -> tuple[Journaled, Integers]:
    """What `to_table` was given: the columns, and the numbers of arrival."""
    columns = [np.asarray(table.column(name), dtype=np.int64) for name in names]
    rows = Journaled(
        sequences=np.asarray(table.column("sequence"), dtype=np.int64),
        transaction_ids=table.column("transaction_id").to_pylist(),
        fingerprints=table.column("fingerprint").to_pylist(),
        versions=np.asarray(table.column("version"), dtype=np.int64),
        widths=np.asarray(table.column("width"), dtype=np.int64),
        history=np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0), np.int64),
    )
    return rows, np.asarray(table.column("arrival"), dtype=np.int64)


def differences(
    rows: Journaled, history: Integers, found: Flags, layer: str, names: Sequence[str], declared: str
) -> Iterator[Difference]:
    """Every measure that is not the same.

    history, found: recomputed, and whether there is such a row at all; names, declared: the measures and fingerprint
    of the declaration under which was recomputed; numbers of another declaration are not compared one by one.
    """
    fits = rows.widths == len(names)
    unequal = rows.history != history
    foreign = np.array([each != declared for each in rows.fingerprints], np.bool_)
    for n in np.flatnonzero(unequal.any(axis=1) | ~found | ~fits | foreign).tolist():
        told: list[tuple[str, str, str]]
        if foreign[n]:
            told = [("declaration", rows.fingerprints[n], declared)]
        elif not found[n]:
            told = [("row", "present", "absent")]
        elif not fits[n]:
            told = [("measures", f"{rows.widths[n]} numbers", f"{len(names)} numbers")]
        else:
            told = [
                (names[at], bits(rows.history[n, at]), bits(history[n, at]))
                for at in np.flatnonzero(unequal[n]).tolist()
            ]
        for name, was, now in told:
            version = int(rows.versions[n])
            yield Difference(
                sequence=int(rows.sequences[n]),
                transaction_id=rows.transaction_ids[n],
                layer=layer,
                name=name,
                journaled=was,
                recomputed=now,
                fingerprint=rows.fingerprints[n],
                model_version=None if version == NO_VERSION else version,
            )
