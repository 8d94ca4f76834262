"""Layer 3 in bulk: Beam and TFT look over the training window once, for means, variances and vocabularies.

Nothing is transformed here. What was learnt becomes constants of a graph, and that graph, inside the exported model,
is the only place where a feature is computed, for training as for serving.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public import tfxio

from features.declaration import ABSENT, HISTORY_NAMES, RAW_INTEGERS, RAW_STRINGS
from features.pipeline import RUNNER, quiet
from features.preprocessing import RAW_SPEC, preprocessing_fn

ROWS_A_BATCH: Final = 8192

RAW_COLUMNS: Final = (*HISTORY_NAMES, *RAW_INTEGERS, *RAW_STRINGS)
"""The columns of a Parquet file of rows, as `write_analysis` reads them: int64, strings last; others are ignored."""

Columns = dict[str, npt.NDArray[Any]]


def raw_columns(rows: pa.Table | pa.RecordBatch) -> Columns:
    """The model's raw inputs from a table that has RAW_COLUMNS.

    Returns `history` int64 [n, H], the other numbers int64 [n] (ABSENT for a missing place), strings as bytes [n].
    """
    numbers = {name: np.asarray(_filled(rows.column(name)), dtype=np.int64) for name in (*HISTORY_NAMES, *RAW_INTEGERS)}
    history = [numbers.pop(name) for name in HISTORY_NAMES]
    strings = {name: np.asarray(rows.column(name).cast(pa.binary()), dtype=object) for name in RAW_STRINGS}
    return {"history": np.stack(history, axis=1), **numbers, **strings}


def write_analysis(files: Iterable[Path], folder: Path, *, runner: str = RUNNER) -> None:
    """Analyse the rows of Parquet files that have RAW_COLUMNS and write TFT's transform graph into a folder."""
    with tempfile.TemporaryDirectory() as scratch, quiet():
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions([]))
        with pipeline, tft_beam.Context(temp_dir=scratch):
            rows = pipeline | "Files" >> beam.Create([str(file) for file in files]) | "Read" >> beam.FlatMap(_batches)
            graph = (rows, _adapter()) | "Analyse" >> tft_beam.AnalyzeDataset(preprocessing_fn)
            _ = graph | "Write" >> tft_beam.WriteTransformFn(str(folder))


def record_batch(columns: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    """Raw inputs as TFT takes them: a list of values for each row, of the length that RAW_SPEC says."""
    arrays = []
    for name, spec in RAW_SPEC.items():
        values = columns[name]
        width = spec.shape[0] if spec.shape else 1
        flat = pa.array(values.reshape(-1), pa.binary() if values.dtype == object else pa.int64())
        ends = pa.array(np.arange(len(values) + 1, dtype=np.int64) * width)
        arrays.append(pa.LargeListArray.from_arrays(ends, flat))
    return pa.RecordBatch.from_arrays(arrays, names=list(RAW_SPEC))


def _batches(file: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_A_BATCH, columns=list(RAW_COLUMNS)):
            yield record_batch(raw_columns(batch))


def _adapter() -> Any:
    """How TFT reads such RecordBatches: every column is a dense tensor."""
    representations = {}
    for name, spec in RAW_SPEC.items():
        each = schema_pb2.TensorRepresentation()
        each.dense_tensor.column_name = name
        each.dense_tensor.shape.dim.extend(schema_pb2.FixedShape.Dim(size=size) for size in spec.shape)
        representations[name] = each
    empty = {
        name: np.zeros((0, *spec.shape), object if name in RAW_STRINGS else np.int64) for name, spec in RAW_SPEC.items()
    }
    return tfxio.TensorAdapterConfig(record_batch(empty).schema, representations)


def _filled(column: Any) -> Any:
    return column.cast(pa.int64()).fill_null(ABSENT)
