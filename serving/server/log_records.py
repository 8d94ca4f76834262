"""Calls as the records of a request log: their messages, made where a call did not come as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving import tensors
from serving import wire_pb2 as wire
from serving.server.dataplane import Answer
from serving.server.grpc_calls import fill_classes, fill_spec, fill_values
from serving.server.inference import Classified, Regressed
from serving.server.model import Arrays


def of_messages(field: str, request: Any, response: Any) -> wire.PredictionLog:
    """The record of a call that came as a message; field: where a record holds calls of its kind."""
    record = wire.PredictionLog()
    log = getattr(record, field)
    log.request.CopyFrom(request)
    log.response.CopyFrom(response)
    return record


def predicted(name: str, inputs: Arrays, found: Answer) -> wire.PredictionLog:
    """The record of a Predict call that came as arrays."""
    record = wire.PredictionLog()
    _fill(record.predict_log.request.inputs, inputs)
    _fill(record.predict_log.response.outputs, found.outputs)
    _fill_specs(record.predict_log, name, found.version, found.signature)
    return record


def classified(name: str, examples: Sequence[bytes], found: Classified) -> wire.PredictionLog:
    """The record of a Classify call whose examples came as JSON."""
    record = wire.PredictionLog()
    record.classify_log.request.input.example_list.examples.extend(examples)
    fill_classes(record.classify_log.response.result, found)
    _fill_specs(record.classify_log, name, found.version, found.signature)
    return record


def regressed(name: str, examples: Sequence[bytes], found: Regressed) -> wire.PredictionLog:
    """The record of a Regress call whose examples came as JSON."""
    record = wire.PredictionLog()
    record.regress_log.request.input.example_list.examples.extend(examples)
    fill_values(record.regress_log.response.result, found)
    _fill_specs(record.regress_log, name, found.version, found.signature)
    return record


def _fill(messages: Any, arrays: Mapping[str, Any]) -> None:
    for name, values in arrays.items():
        tensors.fill(messages[name], values)


def _fill_specs(log: Any, name: str, version: int, signature: str) -> None:
    for message in (log.request, log.response):
        fill_spec(message.model_spec, name, version, signature)
