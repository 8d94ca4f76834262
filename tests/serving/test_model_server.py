"""The embedded server as a real process: what it answers over gRPC and REST, and that it is the model's own answer."""

import http.client
import json
import socket
import urllib.request
from urllib.error import HTTPError

import numpy as np
import pytest

from plumbline.errors import ModelUnavailable
from serving.client import ModelClient
from serving.columns import NAMES, TEXTS
from tests.serving_model import FEATURES, FINGERPRINTS, MEASURES, columns


@pytest.fixture(scope="module")
def reference(models):
    return np.load(models / "reference-1.npz")


def test_served_scores_equal_the_models_own_to_the_bit_for_any_batch(client, reference):
    asked = columns(257)
    whole = client.score(asked)
    assert whole.model_version == 1
    assert whole.values.tobytes() == reference["score"].tobytes()
    for start, end in ((0, 1), (5, 69), (100, 257)):
        part = client.score(asked.take(np.arange(start, end)))
        assert part.values.tobytes() == reference["score"][start:end].tobytes()


def test_effects_and_fingerprint_are_the_models_own(client, reference):
    effects = client.explain(columns(257))
    assert effects.shape == (257, FEATURES)
    assert effects.tobytes() == reference["effects"].tobytes()
    about = client.about()
    assert (about.fingerprint, about.model_version) == (FINGERPRINTS[1], 1)


def test_no_rows_are_no_scores(client):
    assert client.score(columns(0)).values.shape == (0,)


def test_the_state_of_every_version_is_told(client):
    assert client.states() == {1: "AVAILABLE"}


def test_another_version_or_model_is_unavailable_with_the_servers_reason(server, client):
    with pytest.raises(ModelUnavailable, match=r"NOT_FOUND: Servable not found for request: Specific\(plumbline, 9\)"):
        client.score(columns(1), version=9)
    with ModelClient(server.target, "other", 30_000) as stranger:
        with pytest.raises(ModelUnavailable, match=r"Latest\(other\)"):
            stranger.score(columns(1))
        with pytest.raises(ModelUnavailable, match="Could not find any versions of model other"):
            stranger.states()


def test_a_history_of_another_width_is_refused(client):
    asked = columns(2)
    narrow = type(asked)(
        **{name: getattr(asked, name) for name in NAMES if name != "history"}, history=asked.history[:, 1:]
    )
    with pytest.raises(ModelUnavailable, match=rf"INVALID_ARGUMENT: .*history has shape \[2,{MEASURES - 1}\]"):
        client.score(narrow)


def test_columns_of_different_lengths_get_the_graphs_own_complaint(server):
    document = {"inputs": {name: listed(getattr(columns(2), name)) for name in NAMES}}
    document["inputs"]["amount_minor"] = [1, 2, 3]
    status, answer = ask(server, ":predict", document)
    assert status == 400
    assert "error" in answer


# REST


def listed(column):
    return column.tolist() if isinstance(column, np.ndarray) else [text.decode() for text in column]


def ask(server, path, document=None, data=None):
    """Status and JSON of a GET, or of a POST where there is something to send."""
    if document is not None:
        data = json.dumps(document).encode()
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{server.model_name}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as response:
            assert response.headers["Content-Type"] == "application/json"
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("path", [":predict", "/versions/1:predict"])
def test_rest_scores_read_back_to_the_same_bits_in_both_forms(server, reference, path):
    asked = columns(257)
    inputs = {name: listed(getattr(asked, name)) for name in NAMES}
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    for document, key in (({"inputs": inputs}, "outputs"), ({"instances": rows}, "predictions")):
        status, answer = ask(server, path, document)
        assert status == 200
        assert np.float32(answer[key]).tobytes() == reference["score"].tobytes()


def test_rest_names_several_outputs(server):
    asked = columns(2)
    inputs = {name: listed(getattr(asked, name)) for name in NAMES}
    status, answer = ask(server, ":predict", {"signature_name": "transform", "inputs": inputs})
    assert (status, set(answer["outputs"])) == (200, {"amount_log", "currency_index"})
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    status, answer = ask(server, ":predict", {"signature_name": "transform", "instances": rows})
    assert [set(row) for row in answer["predictions"]] == [{"amount_log", "currency_index"}] * 2


def test_rest_status_and_metadata(server):
    one = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask(server, "") == (200, {"model_version_status": [one]})
    assert ask(server, "/versions/1") == (200, {"model_version_status": [one]})
    status, metadata = ask(server, "/metadata")
    assert status == 200
    assert metadata["model_spec"] == {"name": "plumbline", "signature_name": "", "version": "1"}
    default = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["inputs"]["history"]["dtype"] == "DT_INT64"
    assert default["inputs"]["history"]["tensor_shape"]["dim"][1]["size"] == str(MEASURES)
    assert set(TEXTS) <= set(default["inputs"])


@pytest.mark.parametrize(
    ("path", "data", "status", "error"),
    [
        ("/versions/9", None, 404, "Could not find version 9 of model plumbline"),
        ("/versions/9:predict", b'{"inputs": [1]}', 404, "Servable not found for request: Specific(plumbline, 9)"),
        ("/labels/stable:predict", b'{"inputs": [1]}', 400, "Unrecognized servable version label: stable"),
        ("/nothing", None, 400, "Malformed request: GET /v1/models/plumbline/nothing"),
        (":predict", None, 400, "Malformed request: GET /v1/models/plumbline:predict"),
        ("/metadata", b"{}", 400, "Malformed request: POST /v1/models/plumbline/metadata"),
        (":predict", b"", 400, "JSON Parse error: The document is empty"),
        (":predict", b"{}", 400, "Missing 'inputs' or 'instances' key"),
        (":predict", b'{"inputs": x}', 400, "JSON Parse error: Invalid value. at offset: 11"),
        (
            ":predict",
            b'{"signature_name": "score", "inputs": [1]}',
            400,
            'Serving signature name: "score" not found in signature def',
        ),
        (f"/versions/{1 << 63}", None, 400, f"Failed to convert version: {1 << 63} to numeric."),
    ],
)
def test_rest_errors_have_the_protocols_status_and_text(server, path, data, status, error):
    assert ask(server, path, data=data) == (status, {"error": error})


def test_rest_without_a_model_name(server):
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models", timeout=30)
    assert (caught.value.code, json.load(caught.value)) == (400, {"error": "Missing model name in request."})


def test_paths_outside_the_protocol_are_not_found(server):
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/metrics", timeout=30)
    assert caught.value.code == 404


def test_one_connection_carries_many_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    for path, wanted in (("/v1/models/plumbline", 200), ("/v1/models/other", 404), ("/v1/models/plumbline", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == wanted
    connection.close()


@pytest.mark.parametrize("header", ["Content-Length: 999999999999", "Content-Length: x"])
def test_a_body_without_a_sane_length_is_refused_and_the_connection_closed(server, header):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=30) as raw:
        raw.sendall(f"POST /v1/models/plumbline:predict HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        received = b""
        while part := raw.recv(4096):
            received += part
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Length" in received
