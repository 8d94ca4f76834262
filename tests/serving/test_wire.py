"""Our messages against TensorFlow Serving's own classes, which live in another process: they import TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest

from serving import methods, tensors
from serving import wire_pb2 as wire
from serving.compile_proto import PACKAGE, compiled

OFFICIAL = """
import json, sys
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2
import tensorflow as tf

classes = {
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
}
answers = {"json": {}, "bytes": {}}
for name, sent in json.load(sys.stdin).items():
    message = classes[name].FromString(bytes.fromhex(sent))
    answers["json"][name] = json_format.MessageToDict(message)
    answers["bytes"][name] = message.SerializeToString(deterministic=True).hex()

arrays = {"floats": [0.1, 3e38], "integers": [-1, 2**62], "texts": [b"EUR", b""], "flags": [True, False]}
request = predict_pb2.PredictRequest()
request.model_spec.name, request.model_spec.version.value = "m", 4
for name, values in arrays.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=tf.float32 if name == "floats" else None))
answers["request"] = request.SerializeToString().hex()
answers["types"] = dict(types_pb2.DataType.items())
answers["states"] = dict(get_model_status_pb2.ModelVersionStatus.State.items())
json.dump(answers, sys.stdout)
"""


def request():
    message = wire.PredictRequest(output_filter=["score"])
    message.model_spec.name = "plumbline"
    message.model_spec.version.value = 12
    message.model_spec.signature_name = "serving_default"
    tensors.fill(message.inputs["history"], np.arange(6, dtype=np.int64).reshape(3, 2))
    tensors.fill(message.inputs["currency"], [b"EUR", b"\xff", b""])
    return message


def response():
    message = wire.PredictResponse()
    message.model_spec.version.value = 12
    tensors.fill(message.outputs["score"], np.array([0.1, 0.9], np.float32))
    typed = message.outputs["typed"]
    typed.dtype = wire.DT_FLOAT
    typed.float_val.extend([0.25, 0.5])
    return message


def metadata():
    message = wire.GetModelMetadataResponse()
    message.metadata["signature_def"].type_url = methods.SIGNATURE_DEF_MAP
    message.metadata["signature_def"].value = signatures().SerializeToString()
    return message


def signatures():
    message = wire.SignatureDefMap()
    info = message.signature_def["serving_default"].inputs["amount_minor"]
    info.name, info.dtype = "serving_default_amount_minor:0", wire.DT_INT64
    info.tensor_shape.dim.add(size=-1)
    message.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    return message


def status():
    message = wire.GetModelStatusResponse()
    entry = message.model_version_status.add(version=3, state="END")
    entry.status.CopyFrom(wire.StatusProto(error_code="DATA_LOSS", error_message="truncated"))
    return message


OURS = {
    "PredictRequest": request(),
    "PredictResponse": response(),
    "GetModelStatusRequest": wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name="m", version_label="stable")),
    "GetModelStatusResponse": status(),
    "GetModelMetadataRequest": wire.GetModelMetadataRequest(metadata_field=["signature_def"]),
    "GetModelMetadataResponse": metadata(),
    "SignatureDefMap": signatures(),
}


@pytest.fixture(scope="module")
def official():
    sent = {name: message.SerializeToString().hex() for name, message in OURS.items()}
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL], input=json.dumps(sent), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", OURS)
def test_the_official_class_reads_our_bytes_and_writes_them_back(official, name):
    assert official["json"][name]
    back = type(OURS[name]).FromString(bytes.fromhex(official["bytes"][name]))
    assert back == OURS[name]


def test_the_official_class_reads_every_field_as_we_meant_it(official):
    got = official["json"]["PredictRequest"]
    assert got["modelSpec"] == {"name": "plumbline", "version": "12", "signatureName": "serving_default"}
    assert got["inputs"]["history"]["dtype"] == "DT_INT64"
    assert got["inputs"]["history"]["tensorShape"] == {"dim": [{"size": "3"}, {"size": "2"}]}
    assert got["inputs"]["currency"]["stringVal"] == ["RVVS", "/w==", ""]
    assert got["outputFilter"] == ["score"]
    assert official["json"]["PredictResponse"]["outputs"]["typed"]["floatVal"] == [0.25, 0.5]
    assert official["json"]["GetModelStatusResponse"]["model_version_status"] == [
        {"version": "3", "state": "END", "status": {"error_code": "DATA_LOSS", "error_message": "truncated"}}
    ]
    assert official["json"]["GetModelStatusRequest"] == {"modelSpec": {"name": "m", "versionLabel": "stable"}}
    unpacked = official["json"]["GetModelMetadataResponse"]["metadata"]["signature_def"]
    assert unpacked["@type"] == methods.SIGNATURE_DEF_MAP
    assert "amount_minor" in unpacked["signatureDef"]["serving_default"]["inputs"]


def test_we_read_what_tensorflow_makes(official):
    message = wire.PredictRequest.FromString(bytes.fromhex(official["request"]))
    got = {name: tensors.array(tensor) for name, tensor in message.inputs.items()}
    assert got["floats"].tolist() == np.array([0.1, 3e38], np.float32).tolist()
    assert got["integers"].tolist() == [-1, 2**62]
    assert got["texts"].tolist() == [b"EUR", b""]
    assert got["flags"].tolist() == [True, False]
    assert (message.model_spec.name, message.model_spec.version.value) == ("m", 4)


def test_types_and_states_have_the_official_numbers(official):
    assert set(wire.DataType.items()) <= set(official["types"].items())
    assert dict(wire.ModelVersionStatus.State.items()) == official["states"]


def test_the_generated_files_are_not_stale():
    for name, text in compiled().items():
        assert (PACKAGE / name).read_text() == text, f"{name} differs from its source: run `make proto`"
