"""What the labels of a transaction say together: one truth where several people and feeds have spoken.

A chargeback beats what anybody else says, since the bank has paid for it; an analyst or an imported archive beats the
mere passing of time (`maturity`); among equals the last to arrive counts, since whoever speaks later has seen more.
`unsure` says nothing. Everything here is pure.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

RANKS: Final = {"chargeback": 2, "analyst": 1, "archive": 1, "maturity": 0}
"""Whose word counts more."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """n transactions that have a label.

    transaction_ids: text [n], each once; frauds: bool [n]; sources: text [n], of the label that decided; known_at:
    int64 [n], when that one became known; contradicted: bool [n], where the last words of two who spoke differ.
    analysts: by log-in, verdicts of an analyst on transactions that a chargeback judged, and how many it overruled.
    """

    transaction_ids: pa.Array
    frauds: Flags
    sources: pa.Array
    known_at: npt.NDArray[np.int64]
    contradicted: Flags
    analysts: dict[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.frauds)


def judge(labels: pa.Table) -> Judged:
    """Judge labels in order of arrival; columns transaction_id, verdict, source, by, known_at."""
    spoken = labels.filter(pc.not_equal(labels["verdict"], "unsure")).combine_chunks()
    ids = _encoded(spoken, "transaction_id")
    codes = ids.indices.to_numpy().astype(np.int64)
    frauds = np.asarray(pc.equal(spoken["verdict"], "fraud"))
    sources, speakers = _encoded(spoken, "source"), _encoded(spoken, "by")
    ranks = np.array([RANKS[each] for each in sources.dictionary.to_pylist()] or [0])[sources.indices.to_numpy()]
    arrival = np.arange(len(codes))
    decided = _last(np.lexsort((arrival, ranks, codes)), codes)
    voices = sources.indices.to_numpy() * np.int64(len(speakers.dictionary) + 1) + speakers.indices.to_numpy()
    order = np.lexsort((arrival, voices, codes))
    last_words = (
        order[np.append((np.diff(codes[order]) != 0) | (np.diff(voices[order]) != 0), True)] if len(order) else order
    )
    said_fraud, said_genuine = np.zeros(len(decided), np.bool_), np.zeros(len(decided), np.bool_)
    said_fraud[codes[last_words[frauds[last_words]]]] = True
    said_genuine[codes[last_words[~frauds[last_words]]]] = True
    return Judged(
        transaction_ids=ids.dictionary,
        frauds=frauds[decided],
        sources=spoken["source"].combine_chunks().take(pa.array(decided)),
        known_at=np.asarray(spoken["known_at"], dtype=np.int64)[decided],
        contradicted=said_fraud & said_genuine,
        analysts=_analysts(spoken, last_words, codes, frauds, frauds[decided], ranks[decided] == RANKS["chargeback"]),
    )


def _last(order: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last of each code's rows, of rows ordered by code."""
    return order[np.append(np.diff(codes[order]) != 0, True)] if len(order) else order


def _analysts(
    spoken: pa.Table, rows: Any, codes: Any, frauds: Flags, truths: Flags, by_chargeback: Flags
) -> dict[str, tuple[int, int]]:
    """Of every analyst: last words on transactions that a chargeback judged, and how many of them it overruled."""
    found: dict[str, tuple[int, int]] = {}
    judged = rows[by_chargeback[codes[rows]]]
    names = spoken.select(["source", "by"]).take(pa.array(judged))
    wrong = frauds[judged] != truths[codes[judged]]
    for source, by, overruled in zip(*(each.to_pylist() for each in names.columns), wrong.tolist(), strict=True):
        if source == "analyst":
            said, against = found.get(by, (0, 0))
            found[by] = said + 1, against + overruled
    return found


def _encoded(table: pa.Table, column: str) -> Any:
    """A column as codes in order of first appearance, and what they stand for."""
    chunk = table[column].combine_chunks()
    plain = chunk.cast(pa.string()) if isinstance(chunk, pa.Array) else pa.array([], pa.string())
    return plain.dictionary_encode()
