"""Warm-up requests: what a model server answers before a version comes into service, kept in the version's own folder.

TensorFlow Serving reads the same file: at most 1,000 PredictionLog records in `assets.extra`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from plumbline.errors import Invalid
from serving import tensors
from serving import wire_pb2 as wire
from serving.records import framed, records

FILE: Final = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS: Final = 1000


def write(folder: Path, model_name: str, requests: list[tuple[str, Mapping[str, Any]]]) -> Path:
    """Write Predict requests (each a signature and its inputs by name) into a version's folder; returns the file.

    Raises Invalid when there are more than a server takes.
    """
    if len(requests) > MAX_RECORDS:
        raise Invalid("warm-up requests", "number", len(requests), f"at most {MAX_RECORDS}")
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for signature, inputs in requests:
            log = wire.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, values in inputs.items():
                tensors.fill(request.inputs[name], values)
            file.write(framed(log.SerializeToString(deterministic=True)))
    return path


def read(folder: Path) -> Iterator[wire.PredictionLog]:
    """The records of a version, none where there is no such file.

    Raises Invalid where it is broken, or holds more records than a server takes.
    """
    path = folder / FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, record in enumerate(records(file)):
            if number == MAX_RECORDS:
                raise Invalid("warm-up requests", "number", f"more than {MAX_RECORDS}", f"at most {MAX_RECORDS}")
            try:
                yield wire.PredictionLog.FromString(record)
            except DecodeError as error:
                raise Invalid("warm-up requests", f"record {number}", str(error), "a PredictionLog") from error
