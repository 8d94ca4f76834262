"""What TFT's analyzers gather from a file of rows, without a pipeline: their own graph, combiners and coders, by hand.

A pipeline of TFT has every analyzer once for each day, and planning and starting them takes seconds a day, however few
rows it has. On one machine none of that is needed: the graph that TFT traced says which tensors an analyzer takes, its
combiner adds batch to batch, its coder encodes what was gathered. The names and bytes are those of a pipeline's cache
(a test compares them), so what was gathered here and on a cluster goes together.
"""

import functools
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow_transform import impl_helper
from tensorflow_transform.beam import analysis_graph_builder
from tensorflow_transform.beam.analyzer_cache import DatasetKey
from tfx_bsl.public.tfxio import TensorAdapter

from features.analysis import Columns, adapter
from features.grammar import Declaration
from features.preprocessing import preprocessing_fn


class Analyzers:
    """The analyzers of a declaration, traced once."""

    def __init__(self, declaration: Declaration) -> None:
        specs = TensorAdapter(adapter(declaration)).OriginalTypeSpecs()
        function = functools.partial(preprocessing_fn, declaration)
        with tempfile.TemporaryDirectory() as scratch:
            graph, self._inputs, outputs = impl_helper.trace_preprocessing_function(function, specs, False, scratch)
        day = DatasetKey("day")
        _, cache, _ = analysis_graph_builder.build(graph, self._inputs, outputs, {day}, cache_dict={})
        self._analyzers = {name: _analyzer(node) for name, node in cache[day].items()}
        self._session = tf.compat.v1.Session(graph=graph)

    def gather(self, batches: Iterable[Columns]) -> dict[bytes, list[bytes]]:
        """What all analyzers gather from batches of raw columns, encoded, by the name that TFT gives it."""
        tensors = {key: tensor for each in self._analyzers.values() for key, tensor in each.tensors.items()}
        gathered = {name: each.empty() for name, each in self._analyzers.items()}
        for columns in batches:
            fed = {placeholder.name: columns[name] for name, placeholder in self._inputs.items()}
            values = self._session.run(tensors, fed)
            gathered = {name: each.add(gathered[name], values) for name, each in self._analyzers.items()}
        return {name: each.encoded(gathered[name]) for name, each in self._analyzers.items()}


class _Combined:
    """An analyzer whose combiner adds the tensors of a batch to an accumulator: means and variances."""

    def __init__(self, coder: Any, combiner: Any, tensors: Mapping[str, Any]) -> None:
        self.tensors, self._coder, self._combiner = tensors, coder, combiner

    def empty(self) -> Any:
        return self._combiner.create_accumulator()

    def add(self, gathered: Any, values: Mapping[str, Any]) -> Any:
        return self._combiner.add_input(gathered, tuple(values[key] for key in self.tensors))

    def encoded(self, gathered: Any) -> list[bytes]:
        return [self._coder.encode_cache(gathered)]


class _Counted:
    """An analyzer that counts how often each value comes: vocabularies."""

    def __init__(self, coder: Any, tensors: Mapping[str, Any]) -> None:
        (self._key,) = tensors
        self.tensors, self._coder = tensors, coder

    def empty(self) -> Counter[bytes]:
        return Counter()

    def add(self, gathered: Counter[bytes], values: Mapping[str, Any]) -> Counter[bytes]:
        gathered.update(values[self._key].tolist())
        return gathered

    def encoded(self, gathered: Counter[bytes]) -> list[bytes]:
        return [self._coder.encode_cache(each) for each in gathered.items()]


def _analyzer(node: Any) -> _Combined | _Counted:
    """What TFT's node of an entry of its cache stands for."""
    encode, (gathered,) = node.parent_operation.operation_def, node.parent_operation.inputs
    operation, inputs = gathered.parent_operation.operation_def, gathered.parent_operation.inputs
    kind = type(operation).__name__
    if kind == "VocabularyAccumulate":
        source = inputs[0].parent_operation
        return _Counted(encode.coder, _tensors(source.inputs[0], source.operation_def.keys))
    if kind == "ExtractFromDict":  # one of several combiners that TFT packed together
        packed = inputs[0].parent_operation
        (found,) = (each for each in packed.operation_def.combiners if each.label == operation.keys)
        return _Combined(encode.coder, found.combiner, _tensors(packed.inputs[0], found.keys))
    if kind == "CacheableCombineAccumulate":
        source = inputs[0].parent_operation
        return _Combined(encode.coder, operation.combiner, _tensors(source.inputs[0], source.operation_def.keys))
    raise AssertionError(f"no analyzer of a declaration is a {kind}")


def _tensors(applied: Any, keys: Sequence[str]) -> dict[str, Any]:
    """The graph's tensors by key; applied: TFT's node of the model that computes what analyzers take."""
    signature = applied.parent_operation.inputs[0].parent_operation.operation_def.output_signature
    return {key: signature[key] for key in keys}
