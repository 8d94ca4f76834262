"""Scored test rows on disk, a column each, so that what the gate judged can be read by anybody afterwards."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.metrics import ScoredRows


def write_scored(rows: ScoredRows, file: Path) -> None:
    """Write scored rows as Parquet, a column for each field that they have."""
    columns = {each.name: getattr(rows, each.name) for each in fields(ScoredRows)}
    known = {name: pa.array(column) for name, column in columns.items() if column is not None}
    pq.write_table(pa.table(known), file, compression="zstd")


def read_scored(file: Path) -> ScoredRows:
    """What `write_scored` wrote."""
    table = pq.read_table(file)
    columns = {name: table[name].combine_chunks() for name in table.schema.names}
    texts = {name for name, column in columns.items() if pa.types.is_string(column.type)}
    arrays: dict[str, Any] = {
        name: np.array(column.to_pylist(), np.str_) if name in texts else column.to_numpy(zero_copy_only=False)
        for name, column in columns.items()
    }
    return ScoredRows(**arrays)
