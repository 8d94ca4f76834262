"""The parity gate: what the server will answer must be what the version's own files answer, bit for bit.

Journaled decisions are scored twice, by the model loaded from its files in this process and by the server that will
serve it, asked for that version by number. Scores and every transformed feature must be the same bits. A server with
other files, another TensorFlow or another kind of processor is noticed before it decides about anybody's payment.
"""

from collections.abc import Sequence
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


def compare(folder: Path, version: int, rows: Sequence[Row], client: ModelClient) -> Parity:
    """Score rows by the files in a folder and by the server, by version, and count every difference.

    Raises Refused when the server does not serve the version or answers by another, ModelUnavailable when it does not
    answer, FingerprintMismatch for a folder whose files are not of one model.
    """
    model = load_version(folder)
    names = model.declaration.feature_names
    scores = features = 0
    first: list[str] = []
    for begin in range(0, len(rows), ROWS_A_CALL):
        part = rows[begin : begin + ROWS_A_CALL]
        columns = model_columns(
            [each.transaction for each in part], np.array([each.history for each in part], np.int64)
        )
        ours, theirs = _by_files(model, columns), by_server(client, columns, names, version)
        for name, wanted in ours.items():
            wrong = np.flatnonzero(unequal(wanted, theirs[name]))
            if name == SCORE:
                scores += len(wrong)
            else:
                features += len(wrong)
            for at in wrong[: SHOWN - len(first)].tolist():
                of = part[at].transaction.transaction_id
                first.append(f"{name} of {of}: {wanted[at]!r} by the files, {theirs[name][at]!r} by the server")
    return Parity(
        version=version, server=client.target, compared=len(rows), features=len(names),
        carried_over=sum(each.carried_over for each in rows), different_scores=scores, different_features=features,
        first=first,
    )  # fmt: skip


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


def by_server(
    client: ModelClient, columns: ModelColumns, names: Sequence[str], version: int
) -> dict[str, npt.NDArray[Any]]:
    """Score and features of n rows as the server answers them, [n] each. Raises Refused for another version."""
    try:
        scored = client.score(columns, version)
        features = client.transform(columns, names, version)
    except ModelRefused as error:
        raise Refused(f"the server at {client.target} does not serve version {version}: {error}") from error
    if scored.model_version != version:
        raise Refused(f"the server at {client.target} answered by version {scored.model_version}, not {version}")
    return {SCORE: scored.values, **features}


def unequal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where bits differ, bool [n]; everywhere for another type or length."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return np.ones(max(len(one), len(other)), bool)[: len(one)]
    unsigned = np.dtype(f"u{one.dtype.itemsize}")
    return np.asarray(np.ascontiguousarray(one).view(unsigned) != np.ascontiguousarray(other).view(unsigned))
