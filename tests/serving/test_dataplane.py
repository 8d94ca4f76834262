"""What requests mean, on a model written by hand: no TensorFlow, no transport."""

import numpy as np
import pytest

from serving import wire_pb2 as wire
from serving.server import dataplane
from serving.server.dataplane import Spec
from serving.server.model import Model, Signature, Slot
from serving.server.models import Models
from serving.server.status import Code, StatusError
from serving.server.versions import State, Versions, VersionStatus


def slot(number, dtype, *shape):
    return Slot(number, np.dtype(dtype), shape)


def sum_model(version):
    """Adds its two inputs; its text goes unread."""
    inputs = {
        "a": slot(wire.DT_FLOAT, np.float32, None),
        "b": slot(wire.DT_FLOAT, np.float32, None),
        "text": slot(wire.DT_STRING, object, None),
    }
    sums = Signature(
        wire.SignatureDef(method_name="tensorflow/serving/predict"),
        inputs,
        frozenset({"sum", "first"}),
        lambda given: {"sum": given["a"] + given["b"], "first": given["a"]},
    )
    return Model(version, {"serving_default": sums}, {"serving_default": sums.definition})


class Loaded(Versions):
    """Versions whose newest is there from the start."""

    def __init__(self, version):
        self._model = sum_model(version)

    def loaded(self, version=None):
        return self._model if version in (None, self._model.version) else None

    def statuses(self):
        return [VersionStatus(3, State.END, Code.DATA_LOSS, "cut short"), VersionStatus(2, State.AVAILABLE)]


class OneModel(Models):
    """A server with that model, whose label `stable` is version 2 and whose label `old` is a version that left."""

    def __init__(self):
        self._loaded = Loaded(2)

    def versions(self, name):
        return self._loaded if name == "sum" else None

    def labelled(self, name, label):
        self._labels = {"sum": {"stable": 2, "old": 1}}
        return super().labelled(name, label)


MODELS = OneModel()
GIVEN = {"a": np.float32([1, 2]), "b": np.float32([3, 4]), "text": np.array([b"x", b"y"], object)}


def predict(models, spec, inputs, output_filter=()):
    return dataplane.call(dataplane.find(models, spec), spec.signature, inputs, output_filter)


def test_every_output_comes_back_with_the_version_that_gave_it():
    answer = predict(MODELS, Spec("sum"), GIVEN)
    assert (answer.version, answer.signature) == (2, "serving_default")
    assert {name: values.tolist() for name, values in answer.outputs.items()} == {"sum": [4, 6], "first": [1, 2]}


def test_a_filter_leaves_only_the_outputs_it_names():
    assert list(predict(MODELS, Spec("sum", 2), GIVEN, ["first"]).outputs) == ["first"]


def test_a_label_stands_for_its_version():
    assert predict(MODELS, Spec("sum", label="stable"), GIVEN).version == 2
    assert [each.version for each in dataplane.status(MODELS, Spec("sum", label="stable"))] == [2]
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(sum, 1\)"):
        dataplane.find(MODELS, Spec("sum", label="old"))


def without(name):
    return {key: values for key, values in GIVEN.items() if key != name}


@pytest.mark.parametrize(
    ("spec", "inputs", "output_filter", "code", "text"),
    [
        (Spec(""), GIVEN, [], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (Spec("other"), GIVEN, [], Code.NOT_FOUND, "Servable not found for request: Latest(other)"),
        (Spec("sum", 7), GIVEN, [], Code.NOT_FOUND, "Servable not found for request: Specific(sum, 7)"),
        (Spec("sum", 3), GIVEN, [], Code.NOT_FOUND, "Servable not found for request: Specific(sum, 3)"),
        (
            Spec("sum", label="canary"),
            GIVEN,
            [],
            Code.INVALID_ARGUMENT,
            "Unrecognized servable version label: canary",
        ),
        (
            Spec("sum", signature="explain"),
            GIVEN,
            [],
            Code.FAILED_PRECONDITION,
            'Serving signature key "explain" not found.',
        ),
        (
            Spec("sum"),
            without("b"),
            [],
            Code.INVALID_ARGUMENT,
            "input size does not match signature: 2!=3 len({a,text}) != len({a,b,text}). "
            "Sent extra: {}. Missing but required: {b}.",
        ),
        (
            Spec("sum"),
            {**GIVEN, "c": GIVEN["a"]},
            [],
            Code.INVALID_ARGUMENT,
            "input size does not match signature: 4!=3 len({a,b,c,text}) != len({a,b,text}). "
            "Sent extra: {c}. Missing but required: {}.",
        ),
        (
            Spec("sum"),
            {**without("b"), "c": GIVEN["a"]},
            [],
            Code.INVALID_ARGUMENT,
            "input tensor alias not found in signature: c. Inputs expected to be in the set {a,b,text}.",
        ),
        (
            Spec("sum"),
            {**GIVEN, "b": GIVEN["text"]},
            [],
            Code.INVALID_ARGUMENT,
            "Expects arg[1] to be float but string is provided",
        ),
        (
            Spec("sum"),
            {**GIVEN, "text": np.int64([1, 2])},
            [],
            Code.INVALID_ARGUMENT,
            "Expects arg[2] to be string but int64 is provided",
        ),
        (
            Spec("sum"),
            {**GIVEN, "a": np.float32([[1], [2]])},
            [],
            Code.INVALID_ARGUMENT,
            "input tensor a has shape [2,1], which does not fit the signature's [?]",
        ),
        (
            Spec("sum"),
            GIVEN,
            ["score"],
            Code.INVALID_ARGUMENT,
            "output tensor alias not found in signature: score Outputs expected to be in the set {first,sum}.",
        ),
        (Spec("sum"), GIVEN, ["sum", "sum"], Code.INVALID_ARGUMENT, "duplicate output tensor alias: sum"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_the_protocols_code_and_text(spec, inputs, output_filter, code, text):
    with pytest.raises(StatusError) as caught:
        predict(MODELS, spec, inputs, output_filter)
    assert (caught.value.code, caught.value.message) == (code, text)


def test_status_tells_of_every_version_or_of_the_one_asked_for():
    assert [each.version for each in dataplane.status(MODELS, Spec("sum"))] == [3, 2]
    assert [each.message for each in dataplane.status(MODELS, Spec("sum", 3))] == ["cut short"]


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        (Spec(""), Code.NOT_FOUND, "Could not find any versions of model "),
        (Spec("other"), Code.NOT_FOUND, "Could not find any versions of model other"),
        (Spec("sum", 7), Code.NOT_FOUND, "Could not find version 7 of model sum"),
        (Spec("sum", label="x"), Code.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
    ],
)
def test_status_of_what_is_not_there(spec, code, text):
    with pytest.raises(StatusError) as caught:
        dataplane.status(MODELS, spec)
    assert (caught.value.code, caught.value.message) == (code, text)


def test_metadata_has_one_field():
    version, definitions = dataplane.metadata(MODELS, Spec("sum"), ["signature_def"])
    assert (version, list(definitions)) == (2, ["serving_default"])
    with pytest.raises(StatusError, match="Metadata field %s is not supportedgraph"):
        dataplane.metadata(MODELS, Spec("sum"), ["graph"])
    with pytest.raises(StatusError, match="at least one metadata_field"):
        dataplane.metadata(MODELS, Spec("sum"), [])
