"""TLS between client and model server, with certificates made for the test."""

import pytest

from plumbline.errors import Invalid, InvalidSetting, ModelUnavailable
from plumbline.settings import load
from serving import wire_pb2 as wire
from serving.channel_tls import channel_credentials
from serving.client import ModelClient
from serving.server import grpc_edge, tls
from serving.server.models import Models
from serving.server.monitoring import Monitoring
from serving.server.watch import Watch
from tests.serving.certificates import Authority


@pytest.fixture(scope="module")
def authority():
    return Authority("the bank's own")


@pytest.fixture
def ask(authority, tmp_path):
    """What a client with some settings is told by a server with some TLS configuration, which serves no model."""
    servers = []

    def asked(client_verify, **settings):
        key, certificate = authority.issue("server")
        config = wire.SSLConfig(
            server_key=key, server_cert=certificate, custom_ca=authority.pem, client_verify=client_verify
        )
        models = Models(never)
        server, port = grpc_edge.bind(models, Watch(Monitoring()), "127.0.0.1", 0, tls.credentials(config))
        servers.append(server)
        server.start()
        environ = {}
        for name, text in settings.items():
            (tmp_path / name).write_text(text)
            environ[f"PLUMBLINE_{name.upper()}"] = str(tmp_path / name)
        credentials = channel_credentials(load(environ))
        with (
            ModelClient(f"127.0.0.1:{port}", "m", 3000, credentials) as client,
            pytest.raises(ModelUnavailable) as caught,
        ):
            client.states()
        return str(caught.value)

    yield asked
    for server in servers:
        server.stop(0)


def never(folder, version):
    raise AssertionError("no model is to be loaded here")


REACHED = "NOT_FOUND: Could not find any versions of model m"


def test_a_client_that_trusts_the_authority_reaches_the_server(authority, ask):
    assert REACHED in ask(False, model_ca_file=authority.pem)


def test_a_client_without_tls_or_with_another_authority_does_not(ask):
    assert "UNAVAILABLE" in ask(False)
    assert "UNAVAILABLE" in ask(False, model_ca_file=Authority("a stranger").pem)


def test_under_client_verify_only_a_client_with_a_certificate_of_the_authority_is_answered(authority, ask):
    assert "UNAVAILABLE" in ask(True, model_ca_file=authority.pem)
    key, certificate = Authority("a stranger").issue("client")
    stranger = {"model_client_key_file": key, "model_client_cert_file": certificate}
    assert "UNAVAILABLE" in ask(True, model_ca_file=authority.pem, **stranger)
    key, certificate = authority.issue("client")
    known = {"model_client_key_file": key, "model_client_cert_file": certificate}
    assert REACHED in ask(True, model_ca_file=authority.pem, **known)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"CA": "missing"}, r"PLUMBLINE_MODEL_CA_FILE is '.*: expected a readable file"),
        ({"CLIENT_CERT": "here"}, "PLUMBLINE_MODEL_CA_FILE is '': expected a file, since model_client_cert_file is"),
        ({"CA": "here", "CLIENT_CERT": "here"}, "PLUMBLINE_MODEL_CLIENT_KEY_FILE is '': expected a file"),
        ({"CA": "here", "CLIENT_KEY": "here"}, "PLUMBLINE_MODEL_CLIENT_CERT_FILE is '': expected a file"),
    ],
)
def test_half_a_configuration_of_the_client_is_refused(settings, complaint, tmp_path):
    (tmp_path / "here").touch()
    environ = {f"PLUMBLINE_MODEL_{name}_FILE": str(tmp_path / file) for name, file in settings.items()}
    with pytest.raises(InvalidSetting, match=complaint):
        channel_credentials(load(environ))


def test_half_a_configuration_of_the_server_is_refused_and_no_key_is_shown(authority):
    key, certificate = authority.issue("server")
    for config, field in (
        (wire.SSLConfig(server_cert=certificate), "server_key is ''"),
        (wire.SSLConfig(server_key=key, server_cert="x"), "server_cert is 'no PEM'"),
        (wire.SSLConfig(server_key=key, server_cert=certificate, client_verify=True), "custom_ca is ''"),
        (wire.SSLConfig(server_key="secret " + key, server_cert=certificate), "server_key is 'no PEM'"),
    ):
        with pytest.raises(Invalid, match=field) as caught:
            tls.credentials(config)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text", "code", "complaint"),
    [
        (["--batching-parameters-file"], "max_batch_size { value: 8 }", 2, "supplied without --enable-batching"),
        (["--enable-batching", "--batching-parameters-file"], "max_batch_size: x", 1, "BatchingParameters as text"),
        (["--enable-batching", "--batching-parameters-file"], "max_batch_size { value: 0 }", 1, "expected 1 or more"),
        (["--ssl-config-file"], "client_verify: true", 1, "server_key is ''"),
        (["--monitoring-config-file"], "prometheus_config { enable: true path: 'x' }", 1, "begins with /"),
    ],
)
def test_a_wrong_file_is_told_before_anything_is_served(tmp_path, capsys, arguments, text, code, complaint):
    from plumbline.cli import main

    file = tmp_path / "file"
    file.write_text(text)
    assert main.run(["serve", "--port", "0", "--rest-port", "0", *arguments, str(file)]) == code
    assert complaint in " ".join(capsys.readouterr().err.split())
