"""TLS of the gRPC port: the server's certificate, and whether a client must show one."""

import grpc

from plumbline.errors import Invalid
from serving import wire_pb2 as wire


def credentials(config: wire.SSLConfig) -> grpc.ServerCredentials:
    """What the port is opened with; a client must show a certificate of `custom_ca` where `client_verify` says so.

    The configuration holds keys and certificates themselves, as PEM. Raises Invalid when one that is needed is missing.
    """
    for field in ("server_key", "server_cert", *(["custom_ca"] if config.client_verify else [])):
        value = getattr(config, field)
        if not value.lstrip().startswith("-----BEGIN "):
            # Never the value: it may be a private key with a typing error.
            raise Invalid("ssl configuration", field, "no PEM" if value else "", "a key or certificate as PEM text")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
