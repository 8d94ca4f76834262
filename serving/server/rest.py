"""The REST paths: each to the data plane, and its answer as JSON text."""

import json
import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf import json_format

from serving import wire_pb2 as wire
from serving.methods import DEFAULT_SIGNATURE, SIGNATURE_DEF
from serving.server import dataplane, examples, inference, json_answer, json_request, json_text, log_records
from serving.server.dataplane import Spec
from serving.server.grpc_calls import status_message
from serving.server.models import Models
from serving.server.status import invalid
from serving.server.watch import Watch

MODEL: Final = "/v1/models"
NAME: Final = "/(?P<name>[^/:]+)"
WHICH: Final = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
READ: Final = re.compile(f"{MODEL}(?:{NAME})?{WHICH}(?:/(?P<part>metadata))?", re.IGNORECASE | re.ASCII)
CALL: Final = re.compile(f"{MODEL}{NAME}{WHICH}:(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
VERSION_MAX: Final = (1 << 63) - 1
VERSION_MAX_DIGITS: Final = 19


def answer(models: Models, watch: Watch, method: str, path: str, body: bytes) -> str:
    """The JSON text that a request is answered with. Raises StatusError."""
    found = (CALL if method == "POST" else READ).fullmatch(path)
    if method not in ("GET", "POST") or found is None or (method == "POST" and found["method"] not in ANSWERS):
        raise invalid(f"Malformed request: {method} {path}")
    if found["name"] is None:
        raise invalid("Missing model name in request.")
    spec = Spec(unquote(found["name"]), _version(found["version"]), unquote(found["label"] or ""))
    if method == "POST":
        api, answered = ANSWERS[found["method"]]
        with watch.call(spec.name, api, "REST"):
            return answered(models, watch, spec, json_text.parse(body))
    return _metadata(models, spec) if found["part"] == "metadata" else _status(models, spec)


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > VERSION_MAX_DIGITS or int(digits) > VERSION_MAX:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(digits)


def _predict(models: Models, watch: Watch, spec: Spec, document: dict[str, Any]) -> str:
    name = json_request.signature_name(document)
    model = dataplane.find(models, spec)  # once: a version may take over between two looks
    signature = model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    form, inputs = json_request.arrays(document, signature.inputs)
    found = dataplane.call(model, name, inputs)
    watch.keep(spec.name, found.version, lambda: log_records.predicted(spec.name, inputs, found))
    return json_answer.text_of(found.outputs, form)


def _classify(models: Models, watch: Watch, spec: Spec, document: dict[str, Any]) -> str:
    spec = replace(spec, signature=json_request.signature_name(document))
    asked = examples.from_json(document)
    found = inference.classify(models, spec, asked)
    watch.keep(spec.name, found.version, lambda: log_records.classified(spec.name, asked, found))
    return json_answer.classes_text(found.labels, found.scores)


def _regress(models: Models, watch: Watch, spec: Spec, document: dict[str, Any]) -> str:
    spec = replace(spec, signature=json_request.signature_name(document))
    asked = examples.from_json(document)
    found = inference.regress(models, spec, asked)
    watch.keep(spec.name, found.version, lambda: log_records.regressed(spec.name, asked, found))
    return json_answer.values_text(found.values)


def _status(models: Models, spec: Spec) -> str:
    statuses = dataplane.status(models, spec)
    return (
        json_format.MessageToJson(status_message(statuses), indent=1, always_print_fields_with_no_presence=True) + "\n"
    )


def _metadata(models: Models, spec: Spec) -> str:
    version, definitions = dataplane.metadata(models, spec, [SIGNATURE_DEF])
    options: dict[str, Any] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    document = {
        "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
        "metadata": {
            SIGNATURE_DEF: json_format.MessageToDict(wire.SignatureDefMap(signature_def=definitions), **options)
        },
    }
    return json.dumps(document, indent=1) + "\n"


ANSWERS: Final = {
    "predict": ("Predict", _predict),
    "classify": ("Classify", _classify),
    "regress": ("Regress", _regress),
}
"""By the method in a path, which is written in small letters whatever the rest of the path is."""
