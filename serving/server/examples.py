"""tf.Example as a request carries it: a list of them with or without a common context, from a message or from JSON.

An example goes to the graph as bytes, unread. Where there is a context, its bytes come first, since two messages on
end are one message with the fields of both: an example's own feature wins over the context's.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from serving import wire_pb2 as wire
from serving.server.json_request import base64_bytes, is_base64, lossless
from serving.server.json_text import json_type, shown
from serving.server.status import invalid

FLOAT32: Final = np.dtype(np.float32)
INT64_MAX: Final = (1 << 63) - 1
UINT64_MAX: Final = (1 << 64) - 1
KIND_NAMES: Final = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def serialized(given: wire.Input) -> list[bytes]:
    """The examples of a message, each the bytes of one tf.Example; there may be none."""
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        return [listed.context + example for example in listed.examples]
    return list(given.example_list.examples)


def from_json(document: Mapping[str, Any]) -> list[bytes]:
    """The examples in the body of a REST classify or regress request. Raises StatusError."""
    context = _example(document["context"]).SerializeToString() if "context" in document else b""
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    listed = document["examples"]
    if not isinstance(listed, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not listed:
        raise invalid(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    return [context + _example(each).SerializeToString() for each in listed]


def _example(value: Any) -> wire.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = wire.Example()
    features = example.features.feature
    for name, content in value.items():
        # A name is UTF-8 on this wire; half of a pair of surrogates, which JSON allows, is none.
        feature = features[name.encode("utf-8", "replace").decode()]
        for each in content if isinstance(content, list) else [content]:
            _add(feature, name, each)
    return example


def _add(feature: wire.Feature, name: str, value: Any) -> None:
    """Add a JSON value to a feature, whose first value says what kind all must have."""
    if isinstance(value, str):
        _of_kind(feature, name, "bytes_list").value.append(value.encode("utf-8", "surrogatepass"))
    elif is_base64(value):
        _of_kind(feature, name, "bytes_list").value.append(base64_bytes(value))
    elif isinstance(value, (bool, int)) and -INT64_MAX - 1 <= value <= UINT64_MAX:
        listed = _of_kind(feature, name, "int64_list")
        if value > INT64_MAX:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        listed.value.append(int(value))
    elif isinstance(value, (int, float)):  # an integer of more than 64 bits is read as a float
        listed = _of_kind(feature, name, "float_list")
        if not lossless(value, FLOAT32):
            raise invalid(f"Cannot convert JSON value: {shown(value)} to float without loss of precision.")
        listed.value.append(float(value))
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def _of_kind(feature: wire.Feature, name: str, kind: str) -> Any:
    held = feature.WhichOneof("kind")
    if held not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {KIND_NAMES[held]}")
    return getattr(feature, kind)
