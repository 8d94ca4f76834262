"""The parity gate of a night: a server of its own serves the candidate's files, and must answer what was judged.

The candidate was judged by scores that this night's `evaluate` computed from the files. Here `plumbline serve` loads
the same files in a process of its own, and by gRPC answers for the last test rows: every score, and every feature, must
be the same bits. Whether the installation's own server answers so is asked again when the version comes to be served
(`release.parity`).
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq

from features.analysis import raw_columns
from release.parity import ROWS, ROWS_A_CALL, SCORE, Part, differences
from serving.client import ModelClient
from serving.columns import ModelColumns
from streaming.parts import start
from training.evaluate import Loaded
from training.metrics import ScoredRows

NAME: Final = "candidate"
VERSION: Final = 1
DEADLINE_MS: Final = 30_000


def served_parity(folder: Path, model: Loaded, rows: Path, judged: ScoredRows, scratch: Path) -> dict[str, Any]:
    """Count what the server answers otherwise than was judged, over the last 10,000 rows.

    folder: the candidate's files; model: what was loaded from them; rows: the test rows, Parquet; judged: their scores,
    in the same order; scratch: a folder that is emptied. Returns the fields of `release.parity.Differences`.
    Raises Unready when no server comes up, ModelUnavailable when it does not answer.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch / "served" / str(VERSION))
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
            found = differences(_parts(model, rows, judged), client, model.declaration.feature_names, VERSION)
    finally:
        server.stop()
    shutil.rmtree(scratch)
    return msgspec.structs.asdict(found)


def _parts(model: Loaded, rows: Path, judged: ScoredRows) -> Iterator[Part]:
    table = pq.read_table(rows)
    for begin in range(max(0, table.num_rows - ROWS), table.num_rows, ROWS_A_CALL):
        columns = raw_columns(table.slice(begin, ROWS_A_CALL).combine_chunks(), model.declaration)
        end = begin + len(columns["history"])
        ours = {**model.call("transform", columns), SCORE: judged.scores[begin:end]}
        yield judged.transaction_ids[begin:end].tolist(), ModelColumns(**columns), ours
