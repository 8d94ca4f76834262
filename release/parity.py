"""The parity gate: what the server will answer must be what the version's own files answer, bit for bit.

Journaled decisions are scored twice, by the model loaded from its files in this process and by the server that will
serve it, asked for that version by number. Scores and every transformed feature must be the same bits. A server with
other files, another TensorFlow or another kind of processor is noticed before it decides about anybody's payment.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from plumbline.errors import ModelRefused, Refused
from release.journaled import Row
from serving.client import ModelClient
from serving.columns import NAMES, ModelColumns
from streaming.batch import model_columns
from training.evaluate import Loaded, load_version

ROWS: Final = 10_000
LEAST: Final = 1_000
"""Fewer rows than these prove little: the gate refuses them unless told otherwise."""
ROWS_A_CALL: Final = 512
SHOWN: Final = 5


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found, as it is kept with the change.

    compared: rows; carried_over: those of them whose history was journaled under another declaration, and taken over
    measure by measure; different_scores: of rows; different_features: of all values; first: up to five differences.
    """

    version: int
    server: str
    compared: int
    carried_over: int
    features: int
    different_scores: int
    different_features: int
    first: list[str]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.different_scores == 0 and self.different_features == 0


class Differences(msgspec.Struct, kw_only=True):
    """What a server answers otherwise than was expected; see Parity."""

    compared: int = 0
    features: int = 0
    different_scores: int = 0
    different_features: int = 0
    first: list[str] = []


Part = tuple[Sequence[str], ModelColumns, Mapping[str, npt.NDArray[Any]]]
"""Ids of some rows, their raw inputs, and what the files made of them: `score` and every feature, [n] each."""


def differences(parts: Iterable[Part], client: ModelClient, names: Sequence[str], version: int) -> Differences:
    """Ask the server about rows by version, and count every bit that is not what the files made.

    names: of the features. Raises Refused when the server does not serve the version or answers by another,
    ModelUnavailable when it does not answer.
    """
    found = Differences(features=len(names))
    for ids, columns, ours in parts:
        theirs = _by_server(client, columns, names, version)
        found.compared += len(ids)
        for name in (SCORE, *names):
            wrong = np.flatnonzero(_unequal(ours[name], theirs[name]))
            if name == SCORE:
                found.different_scores += len(wrong)
            else:
                found.different_features += len(wrong)
            for at in wrong[: SHOWN - len(found.first)].tolist():
                found.first.append(
                    f"{name} of {ids[at]}: {ours[name][at]!r} by the files, {theirs[name][at]!r} by the server"
                )
    return found


def compare(folder: Path, version: int, rows: Sequence[Row], client: ModelClient) -> Parity:
    """Score rows by the files in a folder and by the server, by version, and count every difference.

    Raises what `differences` raises, and FingerprintMismatch for a folder whose files are not of one model.
    """
    model = load_version(folder)
    found = differences(_parts(model, rows), client, model.declaration.feature_names, version)
    carried_over = sum(each.carried_over for each in rows)
    return Parity(version=version, server=client.target, carried_over=carried_over, **msgspec.structs.asdict(found))


def _parts(model: Loaded, rows: Sequence[Row]) -> Iterator[Part]:
    for begin in range(0, len(rows), ROWS_A_CALL):
        part = rows[begin : begin + ROWS_A_CALL]
        columns = model_columns(
            [each.transaction for each in part], np.array([each.history for each in part], np.int64)
        )
        yield [each.transaction.transaction_id for each in part], columns, _by_files(model, columns)


def require(found: Parity, *, few: bool) -> None:
    """Raises Refused for any difference, and for too few rows unless few are allowed (one is the least)."""
    if found.compared < (1 if few else LEAST):
        advice = "pass --few where that is all there is" if found.compared else "decide some transactions first"
        raise Refused(f"the parity gate found {found.compared} rows to compare: expected {LEAST} or more; {advice}")
    if not found.equal:
        raise Refused(
            f"version {found.version} at {found.server} is not what its files are: {found.different_scores} of "
            f"{found.compared} scores and {found.different_features} feature values differ, first {found.first[0]}"
        )


SCORE: Final = "score"


def _by_files(model: Loaded, columns: ModelColumns) -> dict[str, npt.NDArray[Any]]:
    inputs = {
        name: column if isinstance(column := getattr(columns, name), np.ndarray) else np.array(column, object)
        for name in NAMES
    }
    features = model.call("transform", inputs)
    return {SCORE: model.score(inputs), **{name: features[name] for name in model.declaration.feature_names}}


def _by_server(
    client: ModelClient, columns: ModelColumns, names: Sequence[str], version: int
) -> dict[str, npt.NDArray[Any]]:
    try:
        scored = client.score(columns, version)
        features = client.transform(columns, names, version)
    except ModelRefused as error:
        raise Refused(f"the server at {client.target} does not serve version {version}: {error}") from error
    if scored.model_version != version:
        raise Refused(f"the server at {client.target} answered by version {scored.model_version}, not {version}")
    return {SCORE: scored.values, **features}


def _unequal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where bits differ, bool [n]; everywhere for another type or length."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return np.ones(max(len(one), len(other)), bool)[: len(one)]
    unsigned = np.dtype(f"u{one.dtype.itemsize}")
    return np.asarray(np.ascontiguousarray(one).view(unsigned) != np.ascontiguousarray(other).view(unsigned))
