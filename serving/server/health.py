"""gRPC's health protocol, as a load balancer asks it; TensorFlow Serving has it behind the same option.

It tells that the process answers, not that a model is served: for that there is GetModelStatus.
"""

from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.methods import MODEL_SERVICE, PREDICTION_SERVICE

NAMES: Final = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)
"""What may be asked for: the whole server, and its services by TensorFlow Serving's short names and by full ones."""


def add(server: grpc.Server) -> None:
    """Let a server that is not yet started answer health checks; it says SERVING from its start to its end."""
    servicer = health.HealthServicer()
    for name in NAMES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
