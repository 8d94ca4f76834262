"""What a request means, whatever it came by: model spec and arrays in, arrays or a StatusError out."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from serving import wire_pb2 as wire
from serving.methods import DEFAULT_SIGNATURE, SIGNATURE_DEF
from serving.server.model import Arrays, Model, Signature, type_name
from serving.server.models import Models
from serving.server.status import MISSING_NAME, NO_FIELDS, Code, StatusError, invalid, listed
from serving.server.versions import VersionStatus


@dataclass(frozen=True, slots=True)
class Spec:
    """Which model a request is for: the newest version where none is given, the default signature where it is empty."""

    name: str
    version: int | None = None
    label: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs by name, and the version and signature that gave them."""

    version: int
    signature: str
    outputs: Arrays


def find(models: Models, spec: Spec) -> Model:
    """The loaded version that a spec asks for. Raises StatusError when there is none."""
    if not spec.name:
        raise invalid(MISSING_NAME)
    version = _version(models, spec)
    versions = models.versions(spec.name)
    model = versions.loaded(version) if versions is not None else None
    if model is None:
        asked = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
    return model


def _version(models: Models, spec: Spec) -> int | None:
    """The version that a spec pins, by number or by label; None for the newest. Raises StatusError."""
    return models.labelled(spec.name, spec.label) if spec.label else spec.version


def signature_of(model: Model, name: str) -> Signature:
    """A version's signature by name; empty means the default one. Raises StatusError when there is none."""
    signature = model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')
    return signature


def call(model: Model, signature_name: str, inputs: Arrays, output_filter: Sequence[str] = ()) -> Answer:
    """Outputs of one signature of a version for the given inputs, or those of them that the filter names.

    Raises StatusError: an unknown signature or name, a wrong type or shape, a fault of the graph.
    """
    signature = signature_of(model, signature_name)
    check_names(signature, inputs.keys())
    _check_filter(signature, output_filter)
    check_arrays(signature, inputs)
    outputs = signature.run(inputs)
    chosen = {name: outputs[name] for name in output_filter} if output_filter else outputs
    return Answer(model.version, signature_name or DEFAULT_SIGNATURE, chosen)


def check_names(signature: Signature, given: Set[str]) -> None:
    """Raise StatusError unless the inputs that are given are the declared ones."""
    wanted = signature.inputs.keys()
    if len(wanted) != len(given):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} "
            f"len({listed(given)}) != len({listed(wanted)}). "
            f"Sent extra: {listed(given - wanted)}. Missing but required: {listed(wanted - given)}."
        )
    for name in given:
        if name not in wanted:
            raise invalid(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {listed(wanted)}."
            )


def check_arrays(signature: Signature, inputs: Arrays) -> None:
    """Raise StatusError unless every declared input is given in its type and a shape that fits."""
    for position, (name, slot) in enumerate(sorted(signature.inputs.items())):
        values = inputs[name]
        if values.dtype != slot.dtype:
            wanted_type, given_type = type_name(slot.dtype), type_name(values.dtype)
            raise invalid(f"Expects arg[{position}] to be {wanted_type} but {given_type} is provided")
        if not slot.fits(values.shape):
            expected = ",".join("?" if size is None else str(size) for size in slot.shape or ())
            found = ",".join(map(str, values.shape))
            raise invalid(f"input tensor {name} has shape [{found}], which does not fit the signature's [{expected}]")


def _check_filter(signature: Signature, output_filter: Sequence[str]) -> None:
    seen = set()
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {listed(signature.outputs)}."
            )
        if name in seen:
            raise invalid(f"duplicate output tensor alias: {name}")
        seen.add(name)


def status(models: Models, spec: Spec) -> list[VersionStatus]:
    """What is known of a model's versions, the newest first, or of the one asked for. Raises StatusError for none."""
    version = _version(models, spec)
    versions = models.versions(spec.name)
    found = [each for each in versions.statuses() if version in (None, each.version)] if versions is not None else []
    if not found:
        asked = "any versions" if version is None else f"version {version}"
        raise StatusError(Code.NOT_FOUND, f"Could not find {asked} of model {spec.name}")
    return found


def metadata(models: Models, spec: Spec, fields: Sequence[str]) -> tuple[int, Mapping[str, wire.SignatureDef]]:
    """A version and its signatures' definitions; the only field there is is `signature_def`. Raises StatusError."""
    if not fields:
        raise invalid(NO_FIELDS)
    for field in fields:
        if field != SIGNATURE_DEF:
            # The protocol's own text has a gap that nothing ever fills.
            raise invalid(f"Metadata field %s is not supported{field}")
    model = find(models, spec)
    return model.version, model.definitions
