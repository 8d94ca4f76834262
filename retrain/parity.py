"""The parity gate of a night: a server of its own serves the candidate's files, and must answer what was judged.

The candidate was judged by scores that this night's `evaluate` computed from the files. Here `plumbline serve` loads
the same files in a process of its own, and by gRPC answers for the last test rows: every score, and every feature, must
be the same bits. Whether the installation's own server answers so is asked again when the version comes to be served
(`release.parity`).
"""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from features.analysis import raw_columns
from release.parity import ROWS, SHOWN, by_server, unequal
from serving.client import ModelClient
from serving.columns import ModelColumns
from streaming.parts import start
from training.evaluate import Loaded
from training.metrics import ScoredRows

NAME: Final = "candidate"
VERSION: Final = 1
ROWS_A_CALL: Final = 512
DEADLINE_MS: Final = 30_000
SCORE: Final = "score"


def served_parity(folder: Path, model: Loaded, rows: Path, judged: ScoredRows, scratch: Path) -> dict[str, Any]:
    """Count what the server answers otherwise than was judged, over the last 10,000 rows.

    folder: the candidate's files; model: what was loaded from them; rows: the test rows, Parquet; judged: their scores,
    in the same order; scratch: a folder that is emptied. Returns compared (rows), features, different_scores,
    different_features (values) and first, up to five differences in words.
    Raises Unready when no server comes up, ModelUnavailable when it does not answer.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch / "served" / str(VERSION))
    names = model.declaration.feature_names
    table = pq.read_table(rows)
    begins = max(0, table.num_rows - ROWS)
    columns = raw_columns(table.slice(begins).combine_chunks(), model.declaration)
    ids, scores = judged.transaction_ids[begins:], judged.scores[begins:]
    found: dict[str, Any] = {
        "compared": table.num_rows - begins, "features": len(names), "different_scores": 0, "different_features": 0,
        "first": [],
    }  # fmt: skip
    arguments = [
        "serve", "--model-base-path", str(scratch / "served"), "--model-name", NAME, "--host", "127.0.0.1",
        "--port", "0", "--no-rest", "--json-ready",
    ]  # fmt: skip
    # What this installation says of its own server, its ports and certificates, is none of this one's business.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    server = start("serve", environ | {"PLUMBLINE_DATA_DIR": str(scratch)}, scratch / "logs", arguments)
    try:
        port = server.wait_for(state="serving")["port"]
        with ModelClient(f"127.0.0.1:{port}", NAME, DEADLINE_MS) as client:
            for at in range(0, found["compared"], ROWS_A_CALL):
                part = {name: column[at : at + ROWS_A_CALL] for name, column in columns.items()}
                ours = {**model.call("transform", part), SCORE: scores[at : at + ROWS_A_CALL]}
                theirs = by_server(client, ModelColumns(**part), names, VERSION)
                for name in (SCORE, *names):
                    wrong = np.flatnonzero(unequal(ours[name], theirs[name]))
                    found["different_scores" if name == SCORE else "different_features"] += len(wrong)
                    for row in wrong[: SHOWN - len(found["first"])].tolist():
                        found["first"].append(
                            f"{name} of {ids[at + row]}: {ours[name][row]!r} as judged, {theirs[name][row]!r} as served"
                        )
    finally:
        server.stop()
    shutil.rmtree(scratch)
    return found
