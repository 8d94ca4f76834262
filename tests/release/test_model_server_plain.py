"""A model server that takes no configuration by call: what it serves is taken as it is, and nothing else."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from plumbline.errors import Refused
from release.serving import BY_FILE, ModelServer, config_text, labels, let_go, make_available, move_labels, needed
from release.stages import Placed, Registry
from serving import wire_pb2 as wire
from serving.methods import GET_MODEL_STATUS

STATES = {1: wire.ModelVersionStatus.AVAILABLE, 2: wire.ModelVersionStatus.AVAILABLE, 3: wire.ModelVersionStatus.END}
REGISTRY = Registry({1: Placed("retired"), 2: Placed("champion"), 3: Placed("canary", 10)}, former=(1,))


class StatusAlone(grpc.GenericRpcHandler):
    """Answers GetModelStatus, as a server does whose administrators left the rest out."""

    def service(self, details):
        if details.method != GET_MODEL_STATUS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.answer,
            request_deserializer=wire.GetModelStatusRequest.FromString,
            response_serializer=wire.GetModelStatusResponse.SerializeToString,
        )

    def answer(self, request, context):
        found = wire.GetModelStatusResponse()
        for version, state in STATES.items():
            each = found.model_version_status.add(version=version, state=state)
            if state == wire.ModelVersionStatus.END:
                each.status.error_code, each.status.error_message = wire.StatusProto.INTERNAL, "bytes are missing"
        return found


@pytest.fixture
def plain() -> Iterator[ModelServer]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((StatusAlone(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield ModelServer(f"127.0.0.1:{port}", "plumbline", "/models", 10_000, load_seconds=1.0)
    server.stop(None).wait()


def test_what_is_available_there_will_do_and_the_rest_is_refused(plain):
    assert make_available(plain, REGISTRY, [1, 2]) == ""
    assert move_labels(plain, REGISTRY) == let_go(plain, REGISTRY) == BY_FILE
    with pytest.raises(Refused, match="does not load version 3: bytes are missing"):
        make_available(plain, REGISTRY, [3])
    with pytest.raises(Refused, match=r"version 9 is unknown to it on the server .*UNIMPLEMENTED"):
        make_available(plain, REGISTRY, [2, 9])


def test_labels_and_the_configuration_follow_the_registry(plain):
    assert labels(REGISTRY) == {"champion": 2, "canary": 3}
    assert needed(REGISTRY) == [1, 2, 3], "the champion of before stays loaded, for a rollback"
    shadows = Registry({2: Placed("champion"), 4: Placed("shadow"), 5: Placed("shadow")})
    assert labels(shadows) == {"champion": 2, "shadow-4": 4, "shadow-5": 5}
    arms = Registry({2: Placed("champion"), 4: Placed("canary", 1), 5: Placed("shadow")}, experiment="e")
    assert labels(arms) == {"champion": 2, "arm-4": 4, "shadow": 5}
    with pytest.raises(Refused, match="no champion yet"):
        config_text(plain, Registry({1: Placed("candidate")}))
