"""Layer 3 in bulk: Beam and TFT look over the training window once, for means, variances and vocabularies.

Nothing is transformed here. What was learnt becomes constants of a graph, and that graph, inside the exported model,
is the only place where a feature is computed, for training as for serving.
"""

import functools
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
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public import tfxio

from features.declaration import DECLARATION
from features.grammar import ABSENT, RAW_INTEGERS, RAW_STRINGS, Declaration
from features.pipeline import quiet
from features.preprocessing import preprocessing_fn, raw_spec
from features.runner import EMBEDDED, Runner, pipeline_on

ROWS_A_BATCH: Final = 8192

Columns = dict[str, npt.NDArray[Any]]


def raw_names(declaration: Declaration) -> tuple[str, ...]:
    """The columns of a Parquet file of rows that `write_analysis` reads: int64, strings last; others are ignored."""
    return (*declaration.history_names, *RAW_INTEGERS, *RAW_STRINGS)


def raw_columns(rows: pa.Table | pa.RecordBatch, declaration: Declaration = DECLARATION) -> Columns:
    """The model's raw inputs from a table that has the columns `raw_names`.

    Returns `history` int64 [n, H], the other numbers int64 [n] (ABSENT for a missing place), strings as bytes [n].
    """
    names = declaration.history_names
    numbers = {name: np.asarray(_filled(rows.column(name)), dtype=np.int64) for name in (*names, *RAW_INTEGERS)}
    history = [numbers.pop(name) for name in names]
    strings = {name: np.asarray(rows.column(name).cast(pa.binary()), dtype=object) for name in RAW_STRINGS}
    return {"history": np.stack(history, axis=1), **numbers, **strings}


def write_analysis(
    files: Iterable[Path], folder: Path, *, declaration: Declaration = DECLARATION, runner: Runner = EMBEDDED
) -> None:
    """Analyse the rows of Parquet files that have the columns `raw_names`; TFT's transform graph goes into a folder.

    runner: whose workers must see the files, and the folder, beside which TFT keeps what it needs meanwhile.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".analysis-") as scratch,
        quiet(),
        pipeline_on(runner) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        names = pipeline | "Files" >> beam.Create([str(file) for file in files])
        rows = names | "Read" >> beam.FlatMap(functools.partial(batches, declaration))
        analyse = tft_beam.AnalyzeDataset(functools.partial(preprocessing_fn, declaration))
        graph = (rows, adapter(declaration)) | "Analyse" >> analyse
        _ = graph | "Write" >> tft_beam.WriteTransformFn(str(folder))


def record_batch(columns: Mapping[str, npt.NDArray[Any]], declaration: Declaration = DECLARATION) -> pa.RecordBatch:
    """Raw inputs as TFT takes them: a list of values for each row, of the length that `raw_spec` says."""
    arrays = []
    spec_of = raw_spec(declaration)
    for name, spec in spec_of.items():
        values = columns[name]
        width = spec.shape[0] if spec.shape else 1
        flat = pa.array(values.reshape(-1), pa.binary() if values.dtype == object else pa.int64())
        ends = pa.array(np.arange(len(values) + 1, dtype=np.int64) * width)
        arrays.append(pa.LargeListArray.from_arrays(ends, flat))
    return pa.RecordBatch.from_arrays(arrays, names=list(spec_of))


def batches(declaration: Declaration, file: str) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file as TFT takes them, some at a time."""
    for columns in column_batches(declaration, file):
        yield record_batch(columns, declaration)


def column_batches(declaration: Declaration, file: str) -> Iterator[Columns]:
    """The raw inputs in a Parquet file, some rows at a time."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_A_BATCH, columns=list(raw_names(declaration))):
            yield raw_columns(batch, declaration)


def adapter(declaration: Declaration) -> Any:
    """How TFT reads such RecordBatches: every column is a dense tensor."""
    representations = {}
    spec_of = raw_spec(declaration)
    for name, spec in spec_of.items():
        each = schema_pb2.TensorRepresentation()
        each.dense_tensor.column_name = name
        each.dense_tensor.shape.dim.extend(schema_pb2.FixedShape.Dim(size=size) for size in spec.shape)
        representations[name] = each
    empty = {
        name: np.zeros((0, *spec.shape), object if name in RAW_STRINGS else np.int64) for name, spec in spec_of.items()
    }
    return tfxio.TensorAdapterConfig(record_batch(empty, declaration).schema, representations)


def _filled(column: Any) -> Any:
    return column.cast(pa.int64()).fill_null(ABSENT)
