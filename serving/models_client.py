"""Tells a model server which models and versions to serve under which labels, and asks what became of them.

For release tools, which wait for a version to load; whoever scores uses serving.client. It works with the embedded
server and with TensorFlow Serving alike, and never imports TensorFlow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from plumbline.errors import ModelRefused, ModelUnavailable
from serving import wire_pb2 as wire
from serving.client import FINAL_CODES, open_channel
from serving.methods import GET_MODEL_STATUS, HANDLE_RELOAD_CONFIG_REQUEST, TENSORFLOW_PLATFORM


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What a server is to serve of one model: the base path as the server sees it, versions, and version by label.

    versions: those to serve; none named means the newest `newest` of the base path.
    """

    name: str
    base_path: str
    versions: Sequence[int] = ()
    newest: int = 1
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version's state on the server, such as `AVAILABLE`, and the code and reason of a fault (`OK`, "")."""

    version: int
    state: str
    code: str
    message: str


def reload_models(
    target: str, plans: Sequence[ModelPlan], deadline_ms: int, credentials: grpc.ChannelCredentials | None = None
) -> None:
    """Let these models take the place of all that the server serves now; a model left out is unloaded.

    Returns once every model that is new to the server is served; a version that is new to a known model loads after
    that (ask `model_versions`). A label may only go to a version that is AVAILABLE already: so a release takes two
    calls, the first to load the version, the second to move the label. Raises ModelRefused when the server says no,
    ModelUnavailable when there is no answer within the deadline.
    """
    _asked(
        target,
        HANDLE_RELOAD_CONFIG_REQUEST,
        wire.ReloadConfigRequest(config=config_of(plans)),
        wire.ReloadConfigResponse,
        deadline_ms,
        credentials,
    )


def config_of(plans: Sequence[ModelPlan]) -> wire.ModelServerConfig:
    """The configuration that says these plans: what the call carries, and, as text, what a server's file would hold."""
    config = wire.ModelServerConfig()
    config.model_config_list.SetInParent()
    for plan in plans:
        model = config.model_config_list.config.add(
            name=plan.name, base_path=plan.base_path, model_platform=TENSORFLOW_PLATFORM, version_labels=plan.labels
        )
        if plan.versions:
            model.model_version_policy.specific.versions.extend(plan.versions)
        else:
            model.model_version_policy.latest.num_versions = plan.newest
    return config


def model_versions(
    target: str, model_name: str, deadline_ms: int, credentials: grpc.ChannelCredentials | None = None
) -> dict[int, ServedVersion]:
    """Every version that the server knows of a model, by number; empty where it knows no such model.

    Raises ModelUnavailable when there is no answer within the deadline.
    """
    request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name=model_name))
    try:
        answer = _asked(target, GET_MODEL_STATUS, request, wire.GetModelStatusResponse, deadline_ms, credentials)
    except ModelRefused as error:
        if isinstance(error.__cause__, grpc.RpcError) and error.__cause__.code() is grpc.StatusCode.NOT_FOUND:
            return {}
        raise
    return {
        each.version: ServedVersion(
            each.version,
            wire.ModelVersionStatus.State.Name(each.state),
            wire.StatusProto.Code.Name(each.status.error_code),
            each.status.error_message,
        )
        for each in answer.model_version_status
    }


def _asked(
    target: str,
    method: str,
    request: Any,
    response: Any,
    deadline_ms: int,
    credentials: grpc.ChannelCredentials | None,
) -> Any:
    with open_channel(target, credentials) as channel:
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        try:
            return call(request, timeout=deadline_ms / 1000)
        except grpc.RpcError as error:
            kind = ModelRefused if error.code() in FINAL_CODES else ModelUnavailable
            raise kind(f"{method} at {target}: {error.code().name}: {error.details()}") from error
