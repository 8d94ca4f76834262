"""TLS on the way to the model server: whom the client believes, and how it shows who it is."""

from pathlib import Path

import grpc

from plumbline.errors import InvalidSetting
from plumbline.settings import Settings, variable


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """What a connection to the model server is opened with; None where no `model_ca_file` is set: without TLS.

    Raises InvalidSetting when a file cannot be read, or only half of what shows the client's identity is given.
    """
    own = ("model_client_cert_file", "model_client_key_file")
    given = [name for name in own if getattr(settings, name)]
    if not settings.model_ca_file:
        if given:
            raise InvalidSetting("environment", variable("model_ca_file"), "", f"a file, since {given[0]} is set")
        return None
    if len(given) == 1:
        (missing,) = set(own) - set(given)
        raise InvalidSetting("environment", variable(missing), "", f"a file, since {given[0]} is set")
    certificate, key = (_read(settings, name) if given else None for name in own)
    return grpc.ssl_channel_credentials(_read(settings, "model_ca_file"), key, certificate)


def _read(settings: Settings, name: str) -> bytes:
    path = Path(getattr(settings, name))
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSetting("environment", variable(name), str(path), f"a readable file ({error.strerror})") from error
