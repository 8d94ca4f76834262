"""Our messages and our server against TensorFlow Serving's own classes and client, which import TensorFlow: so they
live in another process."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from serving import methods, tensors
from serving import wire_pb2 as wire
from serving.columns import NAMES, TEXTS
from serving.compile_proto import PACKAGE, compiled
from tests.serving_model import columns

OFFICIAL = """
import json, os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # and none of either kind: TensorFlow is imported sooner
sys.modules["tf_keras"] = None
import grpc
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, input_pb2, model_management_pb2,
    model_service_pb2_grpc, predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc, regression_pb2
)
import tensorflow as tf

classes = {
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "ClassificationRequest": classification_pb2.ClassificationRequest,
    "ClassificationResponse": classification_pb2.ClassificationResponse,
    "RegressionRequest": regression_pb2.RegressionRequest,
    "RegressionResponse": regression_pb2.RegressionResponse,
    "MultiInferenceRequest": inference_pb2.MultiInferenceRequest,
    "MultiInferenceResponse": inference_pb2.MultiInferenceResponse,
    "PredictionLog": prediction_log_pb2.PredictionLog,
    "ReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
    "ReloadConfigResponse": model_management_pb2.ReloadConfigResponse,
}
given = json.load(sys.stdin)
answers = {"json": {}, "bytes": {}}
for name, sent in given["messages"].items():
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
channel = grpc.insecure_channel(given["target"])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
model = model_service_pb2_grpc.ModelServiceStub(channel)

request = predict_pb2.PredictRequest()
request.model_spec.name = "plumbline"
for name, values in given["inputs"].items():
    dtype = tf.string if isinstance(values[0], str) else tf.int64
    request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=dtype))
response = prediction.Predict(request, timeout=30)
metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
metadata.model_spec.name = "plumbline"
packed = prediction.GetModelMetadata(metadata, timeout=30).metadata["signature_def"]
signatures = get_model_metadata_pb2.SignatureDefMap()
packed.Unpack(signatures)
status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "plumbline"

def fault(change):
    broken = predict_pb2.PredictRequest()
    broken.CopyFrom(request)
    change(broken)
    try:
        prediction.Predict(broken, timeout=30)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

answers["served"] = {
    "score": tf.make_ndarray(response.outputs["score"]).tobytes().hex(),
    "version": response.model_spec.version.value,
    "signature": response.model_spec.signature_name,
    "signatures": sorted(signatures.signature_def),
    "status": json_format.MessageToDict(model.GetModelStatus(status, timeout=30)),
    "faults": [
        fault(lambda broken: broken.ClearField("model_spec")),
        fault(lambda broken: broken.model_spec.ClearField("name")),
        fault(lambda broken: setattr(broken.model_spec, "signature_name", "nothing")),
        fault(lambda broken: broken.inputs["mcc"].CopyFrom(tf.make_tensor_proto([1, 2]))),
        fault(lambda broken: broken.output_filter.append("nothing")),
        fault(lambda broken: setattr(broken.inputs["history"], "tensor_content", b"123")),
    ],
}

# A server that is told which models to serve, by the official classes alone.
channel = grpc.insecure_channel(given["told"])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
model = model_service_pb2_grpc.ModelServiceStub(channel)

def reload(labels, *names):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name in names:
        config = request.config.model_config_list.config.add()
        config.name, config.base_path, config.model_platform = name, given["bases"] + "/" + name, "tensorflow"
        config.model_version_policy.all.SetInParent()
        if name == "examples":
            config.version_labels.update(labels)
    return model.HandleReloadConfigRequest(request, timeout=60)

def told(call):
    try:
        return json_format.MessageToDict(call(), preserving_proto_field_name=True)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

def example(amount):
    made = tf.train.Example()
    made.features.feature["amount"].float_list.value.append(amount)
    return made

def fill(request, signature="", label=""):
    request.model_spec.name, request.model_spec.signature_name = "examples", signature
    if label:
        request.model_spec.version_label = label
    request.input.example_list.examples.extend([example(2.5), example(7.5)])
    return request

def context():
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "examples"
    request.input.example_list_with_context.context.CopyFrom(example(2.5))
    request.input.example_list_with_context.examples.add()
    return request

def several(*signatures):
    request = inference_pb2.MultiInferenceRequest()
    for method, signature in signatures:
        task = request.tasks.add(method_name="tensorflow/serving/" + method)
        task.model_spec.name, task.model_spec.signature_name = "examples", signature
    request.input.example_list.examples.extend([example(2.5), example(7.5)])
    return request

classify, regress = classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest
answers["told"] = {
    "loaded": told(lambda: reload({}, "examples")),
    "too early": told(lambda: reload({"stable": 9}, "examples")),
    "labelled": told(lambda: reload({"stable": 1}, "examples")),
    "classes": told(lambda: prediction.Classify(fill(classify()), timeout=30)),
    "by label": told(lambda: prediction.Classify(fill(classify(), label="stable"), timeout=30)),
    "no label": told(lambda: prediction.Classify(fill(classify(), label="x"), timeout=30)),
    "context": told(lambda: prediction.Classify(context(), timeout=30)),
    "values": told(lambda: prediction.Regress(fill(regress(), "regress"), timeout=30)),
    "no example": told(lambda: prediction.Classify(classify(model_spec={"name": "examples"}), timeout=30)),
    "both": told(lambda: prediction.MultiInference(several(("classify", ""), ("regress", "regress")), timeout=30)),
    "apart": told(lambda: prediction.MultiInference(several(("classify", ""), ("regress", "elsewhere")), timeout=30)),
    "left out": told(lambda: reload({}, "plumbline")),
    "gone": told(lambda: prediction.Classify(fill(classify()), timeout=30)),
}
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


def of_kind(kind, **fields):
    """A message with a model spec."""
    return kind(model_spec=wire.ModelSpec(name="m", signature_name="s"), **fields)


def example(amount):
    made = wire.Example()
    made.features.feature["amount"].float_list.value.append(amount)
    made.features.feature["country"].bytes_list.value.append(b"DE")
    made.features.feature["count"].int64_list.value.extend([1, -1])
    return made.SerializeToString(deterministic=True)


LISTED = wire.Input(example_list=wire.ExampleList(examples=[example(1.5), example(2.5)]))
WITH_CONTEXT = wire.Input(
    example_list_with_context=wire.ExampleListWithContext(examples=[example(1.5)], context=example(0.5))
)
CLASSES = wire.ClassificationResult(
    classifications=[wire.Classifications(classes=[wire.Class(label="fraud", score=0.25)])]
)
VALUES = wire.RegressionResult(regressions=[wire.Regression(value=0.5)])


def configuration():
    config = wire.ModelServerConfig()
    made = config.model_config_list.config.add(name="m", base_path="/m", model_platform="tensorflow")
    made.model_version_policy.specific.versions.extend([1, 2])
    made.version_labels["stable"] = 1
    made.logging_config.log_collector_config.type = "file"
    made.logging_config.sampling_config.sampling_rate = 0.5
    config.model_config_list.config.add(name="n").model_version_policy.latest.num_versions = 3
    config.model_config_list.config.add(name="o").model_version_policy.all.SetInParent()
    return config


def log():
    """A record of a Predict call; those of the others differ in their messages alone, which are tried by themselves."""
    message = wire.PredictionLog(predict_log=wire.PredictLog(request=request(), response=response()))
    about = message.log_metadata
    about.model_spec.name, about.timestamp_secs = "plumbline", 1700
    about.sampling_config.sampling_rate = 0.5
    about.saved_model_tags.append("serve")
    return message


OURS = {
    "PredictionLog": log(),
    "ClassificationRequest": of_kind(wire.ClassificationRequest, input=LISTED),
    "ClassificationResponse": of_kind(wire.ClassificationResponse, result=CLASSES),
    "RegressionRequest": of_kind(wire.RegressionRequest, input=WITH_CONTEXT),
    "RegressionResponse": of_kind(wire.RegressionResponse, result=VALUES),
    "MultiInferenceRequest": wire.MultiInferenceRequest(
        tasks=[of_kind(wire.InferenceTask, method_name=methods.REGRESS_METHOD)], input=LISTED
    ),
    "MultiInferenceResponse": wire.MultiInferenceResponse(
        results=[
            of_kind(wire.InferenceResult, classification_result=CLASSES),
            of_kind(wire.InferenceResult, regression_result=VALUES),
        ]
    ),
    "ReloadConfigRequest": wire.ReloadConfigRequest(config=configuration()),
    "ReloadConfigResponse": wire.ReloadConfigResponse(status=wire.StatusProto(error_code="OK")),
    "PredictRequest": request(),
    "PredictResponse": response(),
    "GetModelStatusRequest": wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name="m", version_label="stable")),
    "GetModelStatusResponse": status(),
    "GetModelMetadataRequest": wire.GetModelMetadataRequest(metadata_field=["signature_def"]),
    "GetModelMetadataResponse": metadata(),
    "SignatureDefMap": signatures(),
}


@pytest.fixture(scope="module")
def bases(models, tmp_path_factory):
    """Base paths that a server may be told of."""
    root = tmp_path_factory.mktemp("bases")
    shutil.copytree(models / "examples", root / "examples" / "1")
    shutil.copytree(models / "1", root / "plumbline" / "1")
    return root


@pytest.fixture(scope="module")
def official(told, bases, server):
    """What the official classes made of our messages, and what the official client got from our servers."""
    asked = columns(257)
    given = {
        "messages": {name: message.SerializeToString().hex() for name, message in OURS.items()},
        "target": server.target,
        "told": told.target,
        "bases": str(bases),
        "inputs": {
            name: np.asarray(getattr(asked, name)).astype("U" if name in TEXTS else int).tolist() for name in NAMES
        },
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL], input=json.dumps(given), capture_output=True, text=True, check=True
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


def test_tensorflow_servings_own_client_gets_what_it_expects(official, models):
    served = official["served"]
    reference = np.load(models / "reference-1.npz")
    assert bytes.fromhex(served["score"]) == reference["score"].tobytes()
    assert (served["version"], served["signature"]) == (1, "serving_default")
    assert {"serving_default", "transform", "explain", "about"} <= set(served["signatures"])
    assert served["status"]["model_version_status"][0]["state"] == "AVAILABLE"
    assert served["faults"] == [
        ["INVALID_ARGUMENT", "Missing ModelSpec"],
        ["INVALID_ARGUMENT", "ModelSpec has no name specified."],
        ["FAILED_PRECONDITION", 'Serving signature key "nothing" not found.'],
        ["INVALID_ARGUMENT", "Expects arg[7] to be string but int32 is provided"],
        [
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: nothing Outputs expected to be in the set {score}.",
        ],
        ["INVALID_ARGUMENT", "tensor parsing error: history"],
    ]


SAID = {"name": "examples", "version": "1"}
TWO_CLASSES = {
    "classifications": [
        {"classes": [{"label": "fraud", "score": 0.25}, {"label": "honest", "score": 0.75}]},
        {"classes": [{"label": "fraud", "score": 0.75}, {"label": "honest", "score": 0.25}]},
    ]
}
CLASSIFIED = {"model_spec": {**SAID, "signature_name": "serving_default"}, "result": TWO_CLASSES}
TWO_VALUES = {"regressions": [{"value": 5.0}, {"value": 15.0}]}


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("loaded", {"status": {}}),
        (
            "too early",
            [
                "FAILED_PRECONDITION",
                "Request to assign label to version 9 of model examples, "
                "which is not currently available for inference",
            ],
        ),
        ("labelled", {"status": {}}),
        ("classes", CLASSIFIED),
        ("by label", CLASSIFIED),
        ("no label", ["INVALID_ARGUMENT", "Unrecognized servable version label: x"]),
        (
            "context",
            {**CLASSIFIED, "result": {"classifications": TWO_CLASSES["classifications"][:1]}},
        ),
        ("values", {"model_spec": {**SAID, "signature_name": "regress"}, "result": TWO_VALUES}),
        ("no example", ["INVALID_ARGUMENT", "Input is empty."]),
        (
            "both",
            {
                "results": [
                    {"model_spec": CLASSIFIED["model_spec"], "classification_result": TWO_CLASSES},
                    {"model_spec": {**SAID, "signature_name": "regress"}, "regression_result": TWO_VALUES},
                ]
            },
        ),
        ("apart", ["INVALID_ARGUMENT", "Input tensor must be the same for all Signatures."]),
        ("left out", {"status": {}}),
        ("gone", ["NOT_FOUND", "Servable not found for request: Latest(examples)"]),
    ],
)
def test_tensorflow_servings_own_client_tells_it_what_to_serve_and_asks(official, step, answer):
    assert official["told"][step] == answer


def test_the_generated_files_are_not_stale():
    for name, text in compiled().items():
        assert (PACKAGE / name).read_text() == text, f"{name} differs from its source: run `make proto`"
