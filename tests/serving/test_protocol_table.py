"""The protocol as two tables, asked over real connections: every call with its answer, every complaint with its code."""

import http.client
import json
import math

import grpc
import pytest
from google.protobuf import text_format

from serving import wire_pb2 as wire
from serving.methods import MODEL_SERVICE, PREDICTION_SERVICE
from serving.server.grpc_calls import CALLS
from tests.serving_by_hand import served


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("by-hand")) as running:
        yield running


def ask(server, method, path, body=None, **headers):
    """Status, headers and body of a REST call."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


M = "/v1/models"
EXAMPLE = '{"amount": 2.5}'
TWO = '{"examples": [{"amount": 2.5}, {"amount": 7.5}]}'
CLASSES = [[["fraud", 0.25], ["honest", 0.75]], [["fraud", 0.75], ["honest", 0.25]]]
AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

ANSWERED = [
    # Predict in rows and in columns, by version and by label; one output needs no name.
    ("POST", f"{M}/plain:predict", '{"instances": [1.5, 2]}', {"predictions": [3.0, 4.0]}),
    ("POST", f"{M}/plain:predict", '{"inputs": [1.5, 2]}', {"outputs": [3.0, 4.0]}),
    ("POST", f"{M}/plain:predict", '{"instances": [{"x": 1}]}', {"predictions": [2.0]}),
    ("POST", f"{M}/plain:predict", '{"inputs": {"x": [1]}}', {"outputs": [2.0]}),
    ("POST", f"{M}/plain:predict", '{"signature_name": "matrix", "instances": [[1, 2], [3, 4]]}', {"predictions": [[1.0, 2.0], [3.0, 4.0]]}),
    ("POST", f"{M}/plain:predict", '{"signature_name": "scalar", "inputs": [1, 2]}', {"outputs": 3.0}),
    ("POST", f"{M}/plain:predict", '{"signature_name": "bool", "inputs": [true, false]}', {"outputs": [True, False]}),
    ("POST", f"{M}/plain:predict", '{"signature_name": "int", "inputs": [9223372036854775807]}', {"outputs": [9223372036854775807]}),
    ("POST", f"{M}/sum:predict", '{"instances": [{"a": 1, "b": 2}]}', {"predictions": [{"sum": 3.0, "version": 2}]}),
    ("POST", f"{M}/sum/versions/1:predict", '{"inputs": {"a": [1], "b": [2]}}', {"outputs": {"sum": [3.0], "version": [1]}}),
    ("POST", f"{M}/sum/labels/stable:predict", '{"inputs": {"a": [1], "b": [2]}}', {"outputs": {"sum": [3.0], "version": [1]}}),
    ("POST", f"{M}/sum/labels/canary:predict", '{"inputs": {"a": [1], "b": [2]}}', {"outputs": {"sum": [3.0], "version": [2]}}),
    ("POST", "/V1/Models/plain/Versions/01:predict", '{"inputs": [1]}', {"outputs": [2.0]}),
    ("POST", f"{M}/pl%61in:predict", '{"inputs": [1]}', {"outputs": [2.0]}),
    ("POST", f"{M}/plain:predict?x=1", '{"inputs": [1]}', {"outputs": [2.0]}),
    # Texts, and bytes both ways.
    ("POST", f"{M}/texts:predict", '{"instances": ["\u00fc", {"b64": "YQ=="}, {"b64": "YQ"}]}', {"predictions": ["\u00fc", "a", "a"]}),
    ("POST", f"{M}/texts:predict", '{"signature_name": "raw", "instances": [{"b64": "/w=="}]}', {"predictions": [{"b64": "/w=="}]}),
    # Numbers that are none.
    ("POST", f"{M}/plain:predict", '{"inputs": [NaN, Infinity, -Infinity]}', {"outputs": [math.nan, math.inf, -math.inf]}),
    # Classify and regress.
    ("POST", f"{M}/examples:classify", TWO, {"results": CLASSES}),
    ("POST", f"{M}/examples/versions/1:classify", TWO, {"results": CLASSES}),
    ("POST", f"{M}/examples:classify", f'{{"context": {EXAMPLE}, "examples": [{{}}, {{"amount": [7.5]}}]}}', {"results": CLASSES}),
    ("POST", f"{M}/examples:classify", f'{{"signature_name": "classes_only", "examples": [{EXAMPLE}]}}', {"results": [[["fraud", 0.0], ["honest", 0.0]]]}),
    ("POST", f"{M}/examples:classify", f'{{"signature_name": "scores_only", "examples": [{EXAMPLE}]}}', {"results": [[["", 0.25], ["", 0.75]]]}),
    ("POST", f"{M}/examples:regress", TWO.replace("{", '{"signature_name": "regress", ', 1), {"results": [5.0, 15.0]}),
    ("POST", f"{M}/examples:regress", TWO.replace("{", '{"signature_name": "column", ', 1), {"results": [2.5, 7.5]}),
    ("POST", f"{M}/examples:regress", '{"signature_name": "regress", "examples": [{"amount": 1.5, "text": "a", "bytes": {"b64": "/w=="}, "many": ["a", "b"], "flag": true, "whole": 3, "none": [], "big": 18446744073709551616}]}', {"results": [3.0]}),
    # Status and metadata.
    ("GET", f"{M}/sum/versions/1", None, {"model_version_status": [{"version": "1", **AVAILABLE}]}),
    ("GET", f"{M}/sum/labels/canary", None, {"model_version_status": [{"version": "2", **AVAILABLE}]}),
    ("GET", f"{M}/sum", None, {"model_version_status": [
        {"version": "3", "state": "END", "status": {"error_code": "DATA_LOSS", "error_message": "cut short"}},
        {"version": "2", **AVAILABLE},
        {"version": "1", **AVAILABLE},
    ]}),
]  # fmt: skip

REFUSED = [
    # Paths.
    ("GET", f"{M}/plain:predict", None, 400, f"Malformed request: GET {M}/plain:predict"),
    ("GET", f"{M}/plain/nothing", None, 400, f"Malformed request: GET {M}/plain/nothing"),
    ("GET", f"{M}/plain/versions/x", None, 400, f"Malformed request: GET {M}/plain/versions/x"),
    ("POST", f"{M}/plain", "{}", 400, f"Malformed request: POST {M}/plain"),
    ("POST", f"{M}/plain:PREDICT", "{}", 400, f"Malformed request: POST {M}/plain:PREDICT"),
    ("POST", f"{M}:predict", "{}", 400, f"Malformed request: POST {M}:predict"),
    ("POST", f"{M}/plain:multiinference", "{}", 400, f"Malformed request: POST {M}/plain:multiinference"),
    ("PUT", f"{M}/plain:predict", "{}", 400, f"Malformed request: PUT {M}/plain:predict"),
    ("DELETE", f"{M}/plain", None, 400, f"Malformed request: DELETE {M}/plain"),
    ("BREW", f"{M}/plain", None, 400, f"Malformed request: BREW {M}/plain"),
    ("GET", M, None, 400, "Missing model name in request."),
    ("GET", f"{M}/plain/versions/{1 << 63}", None, 400, f"Failed to convert version: {1 << 63} to numeric."),
    ("GET", f"{M}/plain/versions/{'9' * 5000}", None, 400, f"Failed to convert version: {'9' * 5000} to numeric."),
    # Which model.
    ("GET", f"{M}/other", None, 404, "Could not find any versions of model other"),
    ("GET", f"{M}/plain/versions/7", None, 404, "Could not find version 7 of model plain"),
    ("GET", f"{M}/plain/labels/stable", None, 400, "Unrecognized servable version label: stable"),
    ("GET", f"{M}/other/metadata", None, 404, "Servable not found for request: Latest(other)"),
    ("POST", f"{M}/other:predict", '{"inputs": [1]}', 404, "Servable not found for request: Latest(other)"),
    ("POST", f"{M}/sum/versions/3:predict", '{"inputs": [1]}', 404, "Servable not found for request: Specific(sum, 3)"),
    ("POST", f"{M}/sum/labels/x:predict", '{"inputs": [1]}', 400, "Unrecognized servable version label: x"),
    ("POST", f"{M}/other:classify", TWO, 404, "Servable not found for request: Latest(other)"),
    # The body as JSON.
    ("POST", f"{M}/plain:predict", "", 400, "JSON Parse error: The document is empty"),
    ("POST", f"{M}/plain:predict", '{"inputs": x}', 400, "JSON Parse error: Invalid value. at offset: 11"),
    ("POST", f"{M}/plain:predict", "[1]", 400, "JSON Value: [\n    1\n] Is not object"),
    ("POST", f"{M}/plain:predict", '{"signature_name": 1}', 400, 'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. \'signature_name\' key must be a string value.'),
    ("POST", f"{M}/plain:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
    ("POST", f"{M}/plain:predict", '{"inputs": 1, "instances": 1}', 400, 'JSON Value: {\n    "inputs": 1,\n    "instances": 1\n} Not formatted correctly expecting only one of \'inputs\' or \'instances\' keys to exist '),
    ("POST", f"{M}/plain:predict", '{"instances": 1}', 400, 'JSON Value: {\n    "instances": 1\n} Excepting \'instances\' to be an list/array'),
    ("POST", f"{M}/plain:predict", '{"instances": []}', 400, 'JSON Value: {\n    "instances": []\n} No values in \'instances\' array'),
    ("POST", f"{M}/plain:predict", '{"signature_name": "x", "inputs": 1}', 400, 'Serving signature name: "x" not found in signature def'),
    ("POST", f"{M}/plain:predict", '{"signature_name": "nothing", "inputs": 1}', 400, "Failed to get input map for signature: nothing"),
    # Values against the signature.
    ("POST", f"{M}/plain:predict", '{"inputs": ["a"]}', 400, 'JSON Value: "a" Type: String is not of expected type: float'),
    ("POST", f"{M}/plain:predict", '{"inputs": [null]}', 400, "JSON Value: null Type: Null is not of expected type: float"),
    ("POST", f"{M}/plain:predict", '{"inputs": [true]}', 400, "JSON Value: true Type: True is not of expected type: float"),
    ("POST", f"{M}/plain:predict", '{"inputs": [16777217]}', 400, "Cannot convert JSON value: 16777217 to float without loss of precision."),
    ("POST", f"{M}/plain:predict", '{"signature_name": "int", "inputs": [1.0]}', 400, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
    ("POST", f"{M}/texts:predict", '{"inputs": [1]}', 400, "JSON Value: 1 Type: Number is not of expected type: string"),
    ("POST", f"{M}/texts:predict", '{"inputs": [{"b64": "?"}]}', 400, "Unable to base64 decode"),
    ("POST", f"{M}/texts:predict", '{"inputs": [{"b64": 1}]}', 400, 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
    ("POST", f"{M}/plain:predict", '{"inputs": [[1], 2]}', 400, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ("POST", f"{M}/plain:predict", '{"inputs": [1, [2]]}', 400, "Encountered list at unexpected level: 1 expected < 1"),
    ("POST", f"{M}/plain:predict", '{"inputs": [[1, 2], [3]]}', 400, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("POST", f"{M}/plain:predict", f'{{"inputs": {"[" * 99}{"]" * 99}}}', 400, "Encountered list at unexpected level: 32 expected < 32"),
    ("POST", f"{M}/plain:predict", '{"instances": [1, {"x": 1}]}', 400, "Expecting value/list but got object at item 1 of input list"),
    ("POST", f"{M}/plain:predict", '{"instances": [{"x": 1}, 1]}', 400, "Expecting object but got list at item 1 of input list"),
    ("POST", f"{M}/plain:predict", '{"instances": [1, [2]]}', 400, "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]"),
    ("POST", f"{M}/plain:predict", '{"instances": [[1], [2, 3]]}', 400, "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2"),
    ("POST", f"{M}/sum:predict", '{"instances": [1]}', 400, "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    ("POST", f"{M}/sum:predict", '{"inputs": [1]}', 400, "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ("POST", f"{M}/sum:predict", '{"inputs": {"a": [1]}}', 400, "Missing named input: b in 'inputs' object."),
    ("POST", f"{M}/sum:predict", '{"instances": [{"a": 1}]}', 400, 'Failed to process element: 0 of \'instances\' list. JSON object: {\n    "a": 1\n} keys must be equal to: a,b'),
    ("POST", f"{M}/sum:predict", '{"instances": [{"a": 1, "c": 1}]}', 400, "Failed to process element: 0 key: c of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: c"),
    ("POST", f"{M}/sum:predict", '{"signature_name": "uneven", "instances": [{"a": 1, "b": 1}]}', 400, "Tensor name: two has inconsistent batch size: 2 expecting: 1"),
    ("POST", f"{M}/plain:predict", '{"signature_name": "scalar", "instances": [1]}', 400, "Tensor name: y has no shape information "),
    # Examples.
    ("POST", f"{M}/examples:classify", "{}", 400, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
    ("POST", f"{M}/examples:regress", '{"examples": 1}', 400, 'JSON Value: {\n    "examples": 1\n} Expecting \'examples\' value to be an list/array'),
    ("POST", f"{M}/examples:regress", '{"examples": []}', 400, 'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty array'),
    ("POST", f"{M}/examples:classify", '{"examples": [1]}', 400, "Example must be JSON object but got JSON Number"),
    ("POST", f"{M}/examples:classify", '{"context": [], "examples": [{}]}', 400, "Example must be JSON object but got JSON Array"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": null}]}', 400, "Feature: a has element with unexpected JSON type: Null"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": [[1]]}]}', 400, "Feature: a has element with unexpected JSON type: Array"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": {"b": 1}}]}', 400, "Feature: a has element with unexpected JSON type: Object"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": [1, "x"]}]}', 400, "Unexpected element type in feature: a expecting type: int64"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": ["x", 1]}]}', 400, "Unexpected element type in feature: a expecting type: bytes"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": [1.5, 1]}]}', 400, "Unexpected element type in feature: a expecting type: float"),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": 18446744073709551615}]}', 400, "Feature: a has uint64 element. Only int64 is supported."),
    ("POST", f"{M}/examples:classify", '{"examples": [{"a": 1e39}]}', 400, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
    ("POST", f"{M}/examples:classify", '{"signature_name": "x", "examples": [{}]}', 400, "No signature was found with the name: x"),
    ("POST", f"{M}/examples:classify", '{"examples": [{}]}', 400, "Feature: amount (data type: float) is required but not found."),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "wanted"), ANSWERED)
def test_rest_answers(server, method, path, body, wanted):
    status, headers, content = ask(server, method, path, body and body.encode())
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert repr(json.loads(content)) == repr(wanted)  # NaN is NaN


@pytest.mark.parametrize(("method", "path", "body", "code", "error"), REFUSED)
def test_rest_refuses(server, method, path, body, code, error):
    status, headers, content = ask(server, method, path, body and body.encode())
    assert (status, json.loads(content)) == (code, {"error": error})
    assert headers["Content-Type"] == "application/json"


def test_rest_metadata_has_every_signature_with_its_defaults(server):
    status, _, content = ask(server, "GET", f"{M}/plain/metadata")
    found = json.loads(content)
    assert (status, found["model_spec"]) == (200, {"name": "plain", "signature_name": "", "version": "1"})
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["matrix"]["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "name": "x:0",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
    }


def test_answers_are_laid_out_as_tensorflow_serving_lays_them_out(server):
    _, _, rows = ask(server, "POST", f"{M}/examples:classify", TWO)
    assert rows.decode() == (
        '{\n    "results": [[["fraud", 0.25], ["honest", 0.75]], [["fraud", 0.75], ["honest", 0.25]]\n    ]\n}'
    )
    _, _, error = ask(server, "GET", M)
    assert error.decode() == '{\n    "error": "Missing model name in request."\n}'


# gRPC

CALL = {call.name: call for call in CALLS}


def call(server, name, text):
    """The answer's text, or the code and the details."""
    found = CALL[name]
    request = text_format.Parse(text, found.request())
    with grpc.insecure_channel(server.target) as channel:
        method = channel.unary_unary(
            f"/{found.service}/{name}",
            request_serializer=found.request.SerializeToString,
            response_deserializer=found.response.FromString,
        )
        try:
            return method(request, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details()


def spec(name, signature="", more=""):
    return f'model_spec {{ name: "{name}" signature_name: "{signature}" {more} }}'


def example(amount):
    message = wire.Example()
    message.features.feature["amount"].float_list.value.append(amount)
    return message.SerializeToString()


def escaped(raw):
    return "".join(f"\\x{byte:02x}" for byte in raw)


def examples(*amounts):
    listed = " ".join(f'examples: "{escaped(example(amount))}"' for amount in amounts)
    return f"input {{ example_list {{ {listed} }} }}"


CONTEXT = f'input {{ example_list_with_context {{ context: "{escaped(example(2.5))}" examples: "" examples: "{escaped(example(7.5))}" }} }}'
X = 'inputs { key: "x" value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 1.5 } }'
AB = X.replace('"x"', '"a"') + X.replace('"x"', '"b"')


def said(name, version, signature="serving_default"):
    return f'model_spec {{ name: "{name}" version {{ value: {version} }} signature_name: "{signature}" }}'


def classes(*pairs):
    rows = (f"classifications {{ {' '.join(f'classes {{ {each} }}' for each in row)} }}" for row in pairs)
    return " ".join(rows)


FRAUD = classes(
    ('label: "fraud" score: 0.25', 'label: "honest" score: 0.75'),
    ('label: "fraud" score: 0.75', 'label: "honest" score: 0.25'),
)
VALUES = "regressions { value: 5 } regressions { value: 15 }"


def task(method, name="examples", signature="", more=""):
    return f'tasks {{ {spec(name, signature, more)} method_name: "tensorflow/serving/{method}" }}'


GRPC_ANSWERED = [
    ("Predict", spec("plain") + X, said("plain", 1) + 'outputs { key: "y" value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 3 } }'),
    ("Predict", spec("sum", more='version_label: "stable"') + AB + 'output_filter: "version"', said("sum", 1) + 'outputs { key: "version" value { dtype: DT_INT64 tensor_shape { dim { size: 1 } } int64_val: 1 } }'),
    ("Classify", spec("examples") + examples(2.5, 7.5), said("examples", 1) + f"result {{ {FRAUD} }}"),
    ("Classify", spec("examples") + CONTEXT, said("examples", 1) + f"result {{ {FRAUD} }}"),
    ("Classify", spec("examples", "scores_only") + examples(2.5), said("examples", 1, "scores_only") + f'result {{ {classes(("score: 0.25", "score: 0.75"))} }}'),
    ("Classify", spec("examples", "classes_only") + examples(2.5), said("examples", 1, "classes_only") + f"""result {{ {classes(('label: "fraud"', 'label: "honest"'))} }}"""),
    ("Regress", spec("examples", "regress", "version { value: 1 }") + examples(2.5, 7.5), said("examples", 1, "regress") + f"result {{ {VALUES} }}"),
    ("Regress", spec("examples", "column") + examples(2.5), said("examples", 1, "column") + "result { regressions { value: 2.5 } }"),
    ("MultiInference", task("regress", signature="regress") + task("classify") + examples(2.5, 7.5),
        f"results {{ {said('examples', 1, 'regress')} regression_result {{ {VALUES} }} }}"
        f"results {{ {said('examples', 1)} classification_result {{ {FRAUD} }} }}"),
    ("GetModelStatus", spec("sum", more="version { value: 3 }"), 'model_version_status { version: 3 state: END status { error_code: DATA_LOSS error_message: "cut short" } }'),
    ("GetModelStatus", spec("sum", more='version_label: "canary"'), "model_version_status { version: 2 state: AVAILABLE status {} }"),
]  # fmt: skip

NO_MODEL = "Servable not found for request: Latest(other)"
INVALID, MISSING, UNFIT = "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"
GRPC_REFUSED = [
    *[(name, "", INVALID, "Missing ModelSpec") for name in ("Predict", "Classify", "Regress", "GetModelMetadata", "GetModelStatus")],
    *[(name, "model_spec {}", INVALID, "ModelSpec has no name specified.") for name in ("Predict", "Classify", "Regress")],
    *[(name, spec("other"), MISSING, NO_MODEL) for name in ("Predict", "Classify", "Regress")],
    *[(name, spec("sum", more='version_label: "x"'), INVALID, "Unrecognized servable version label: x") for name in ("Predict", "Classify", "Regress", "GetModelStatus")],
    ("Predict", spec("sum", more="version { value: 7 }"), MISSING, "Servable not found for request: Specific(sum, 7)"),
    ("GetModelStatus", "model_spec {}", MISSING, "Could not find any versions of model "),
    ("GetModelStatus", spec("other"), MISSING, "Could not find any versions of model other"),
    ("GetModelStatus", spec("sum", more="version { value: 7 }"), MISSING, "Could not find version 7 of model sum"),
    ("GetModelMetadata", spec("sum"), INVALID, "GetModelMetadataRequest must specify at least one metadata_field"),
    ("GetModelMetadata", spec("sum") + 'metadata_field: "graph"', INVALID, "Metadata field %s is not supportedgraph"),
    ("GetModelMetadata", spec("other") + 'metadata_field: "signature_def"', MISSING, NO_MODEL),
    # Predict.
    ("Predict", spec("plain", "x") + X, UNFIT, 'Serving signature key "x" not found.'),
    ("Predict", spec("plain") + AB, INVALID, "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. Missing but required: {x}."),
    ("Predict", spec("plain") + X.replace('"x"', '"z"'), INVALID, "input tensor alias not found in signature: z. Inputs expected to be in the set {x}."),
    ("Predict", spec("other") + X.replace("DT_FLOAT", "DT_INVALID"), MISSING, NO_MODEL),
    ("Predict", spec("plain") + AB.replace("DT_FLOAT", "DT_INVALID"), INVALID, "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. Missing but required: {x}."),
    ("Predict", spec("plain", "int") + X + 'output_filter: "z"', INVALID, "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
    ("Predict", spec("plain", "int") + X, INVALID, "Expects arg[0] to be int64 but float is provided"),
    ("Predict", spec("plain") + X.replace("float_val: 1.5", 'tensor_content: "123"'), INVALID, "tensor parsing error: x"),
    ("Predict", spec("plain") + X.replace("DT_FLOAT", "DT_INVALID"), INVALID, "tensor parsing error: x"),
    ("Predict", spec("plain") + X + 'output_filter: "z"', INVALID, "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
    ("Predict", spec("plain") + X + 'output_filter: "y" output_filter: "y"', INVALID, "duplicate output tensor alias: y"),
    # Classify and regress.
    ("Classify", spec("examples"), INVALID, "Input is empty."),
    ("Regress", spec("examples", "regress") + "input { example_list {} }", INVALID, "Input is empty."),
    ("Regress", spec("examples", "regress") + 'input { example_list_with_context { context: "" } }', INVALID, "Input is empty."),
    ("Classify", spec("examples", "x") + examples(1), INVALID, "No signature was found with the name: x"),
    ("Regress", spec("examples", "x") + examples(1), INVALID, "No signature was found with the name: x"),
    ("Classify", spec("examples") + 'input { example_list { examples: "\\xff" } }', INVALID, "Could not parse example input"),
    ("Classify", spec("examples", "two_inputs") + examples(1), INVALID, "Expected one input Tensor."),
    ("Regress", spec("examples", "two_inputs") + examples(1), INVALID, "Expected one input Tensor."),
    ("Classify", spec("examples", "three_outputs") + examples(1), INVALID, "Expected one or two output Tensors, found 3"),
    ("Regress", spec("examples") + examples(1), INVALID, "Expected one output Tensor."),
    ("Classify", spec("examples", "float_input") + examples(1), UNFIT, 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: *'),
    ("Regress", spec("examples", "float_input") + examples(1), INVALID, "Expects arg[0] to be float but string is provided"),
    ("Classify", spec("examples", "other_input") + examples(1), UNFIT, "No classification inputs found in SignatureDef: *"),
    ("Regress", spec("examples", "other_input") + examples(1), UNFIT, "No regression inputs found in SignatureDef: *"),
    ("Regress", spec("examples", "other_output") + examples(1), UNFIT, "No regression outputs found in SignatureDef: *"),
    ("Classify", spec("examples", "flat_classes") + examples(1), INVALID, "Expected Tensor shape: [batch_size num_classes] but got [1]"),
    ("Classify", spec("examples", "int_classes") + examples(1), INVALID, "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
    ("Classify", spec("examples", "double_scores") + examples(1), INVALID, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ("Classify", spec("examples", "few_scores") + examples(1, 2), INVALID, "Expected scores output batch size of 2. Got: 1"),
    ("Classify", spec("examples", "unlike") + examples(1), INVALID, "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ("Regress", spec("examples", "square") + examples(1), INVALID, "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
    ("Regress", spec("examples", "few_values") + examples(1, 2), INVALID, "Input batch size did not match output batch size: 2 vs. 1"),
    ("Regress", spec("examples", "int_values") + examples(1), INVALID, "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
    # Multi-inference.
    ("MultiInference", examples(1), INVALID, "ModelSpec has no name specified."),
    ("MultiInference", task("regress", "other") + examples(1), MISSING, NO_MODEL),
    ("MultiInference", task("classify") + task("regress", "", "regress") + examples(1), INVALID, "Found ModelSpec with an empty model name."),
    ("MultiInference", task("classify") + task("regress", "sum", "regress") + examples(1), INVALID, "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ("MultiInference", task("classify") + task("classify", signature="serving_default") + examples(1), INVALID, "Duplicate evaluation of signature: serving_default"),
    ("MultiInference", task("classify", signature="x") + examples(1), INVALID, "Requested signature not found in model graph: x"),
    ("MultiInference", task("predict") + examples(1), "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
    ("MultiInference", task("classify") + task("regress", signature="elsewhere") + examples(1), INVALID, "Input tensor must be the same for all Signatures."),
    ("MultiInference", task("classify"), INVALID, "Input is empty."),
    # Configuration.
    ("HandleReloadConfigRequest", "", INVALID, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
    ("HandleReloadConfigRequest", "config { custom_model_config {} }", INVALID, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
    ("HandleReloadConfigRequest", 'config { model_config_list { config { name: "m" base_path: "m" } } }', INVALID, "Expected model m to have an absolute path or URI; got base_path()=m"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "request_text", "wanted"), GRPC_ANSWERED)
def test_grpc_answers(server, name, request_text, wanted):
    assert call(server, name, request_text) == text_format.Parse(wanted, CALL[name].response())


@pytest.mark.parametrize(("name", "request_text", "code", "details"), GRPC_REFUSED)
def test_grpc_refuses(server, name, request_text, code, details):
    got_code, got = call(server, name, request_text)
    if details.endswith("*"):
        got = got[: len(details) - 1] + "*"
    assert (got_code, got) == (code, details)


def test_every_call_is_in_the_tables():
    asked = {row[0] for row in GRPC_ANSWERED} | {"GetModelMetadata", "HandleReloadConfigRequest"}
    assert asked == CALL.keys(), "and those two have tests of their own"
    assert {call.service for call in CALLS} == {PREDICTION_SERVICE, MODEL_SERVICE}
