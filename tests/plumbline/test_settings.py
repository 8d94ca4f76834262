"""Settings: a misspelt name is an error, a secret is never printed."""

from pathlib import Path

import pytest

from plumbline.errors import InvalidSetting
from plumbline.settings import SECRETS, Settings, described, load, variable

KEY = "k" * 32


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load({}) == Settings()
    assert load({"HOME": "/home/ada", "PLUMB": "1"}) == Settings()


def test_values_are_read_in_their_own_types() -> None:
    settings = load(
        {
            "PLUMBLINE_HTTP_PORT": "9090",
            "PLUMBLINE_HTTPS_ONLY": "false",
            "PLUMBLINE_KAFKA_BOOTSTRAP": "a:1,b:2",
            "PLUMBLINE_SECRET_KEY": KEY,
            "PLUMBLINE_DATA_DIR": "/data",
        }
    )
    assert (settings.http_port, settings.https_only, settings.kafka_bootstrap) == (9090, False, "a:1,b:2")
    assert settings.secret_key == KEY
    assert settings.data_path == Path("/data")


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match=r"PLUMBLINE_HTTP_PROT is '1': expected one of .*PLUMBLINE_HTTP_PORT"):
        load({"PLUMBLINE_HTTP_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLUMBLINE_HTTP_PORT", "65536"),
        ("PLUMBLINE_HTTP_PORT", "-1"),
        ("PLUMBLINE_HTTP_PORT", "http"),
        ("PLUMBLINE_HTTP_PORT", ""),
        ("PLUMBLINE_HTTPS_ONLY", "perhaps"),
        ("PLUMBLINE_BATCH_MAX_TRANSACTIONS", "513"),
        ("PLUMBLINE_MODEL_DEADLINE_MS", "0"),
        ("PLUMBLINE_LOG_FORMAT", "xml"),
        ("PLUMBLINE_TOPIC_PREFIX", "a b"),
        ("PLUMBLINE_MODEL_NAME", "../model"),
        ("PLUMBLINE_KAFKA_BOOTSTRAP", ""),
    ],
)
def test_a_value_outside_its_range_is_an_error_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load({name: value})
    assert caught.value.field == name
    assert repr(value) in str(caught.value)


def test_a_secret_too_short_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidSetting) as caught:
        load({"PLUMBLINE_SECRET_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.value == "(masked)"
    assert ">= 32" in str(caught.value)


def test_secrets_have_no_default() -> None:
    assert all(getattr(Settings(), name) is None for name in SECRETS)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert load({"PLUMBLINE_SECRET_KEY_FILE": str(tmp_path / "key")}).secret_key == KEY


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    with pytest.raises(InvalidSetting, match="only one of"):
        load({"PLUMBLINE_SECRET_KEY": KEY, "PLUMBLINE_SECRET_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"], ids=["absent", "binary"])
def test_a_secret_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidSetting, match="a readable text file"):
        load({"PLUMBLINE_SECRET_KEY_FILE": str(tmp_path / "key")})


def test_described_has_a_line_of_help_for_every_setting() -> None:
    rows = list(described(Settings(), {}))
    assert [row["variable"] for row in rows] == [variable(name) for name in Settings.__struct_fields__]
    assert all(row["help"] and row["source"] == "default" for row in rows)


def test_described_masks_secrets_and_the_password_in_an_address(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    environ = {
        "PLUMBLINE_SECRET_KEY_FILE": str(tmp_path / "key"),
        "PLUMBLINE_PASSWORD_SALT": "s" * 16,
        "PLUMBLINE_DATABASE_URL": "postgresql+psycopg://plumbline:p@ss/word@db:5432/plumbline",
    }
    rows = {row["variable"]: row for row in described(load(environ), environ)}
    assert rows["PLUMBLINE_SECRET_KEY"]["value"] == rows["PLUMBLINE_PASSWORD_SALT"]["value"] == "(masked)"
    assert rows["PLUMBLINE_SECRET_KEY"]["source"] == "environment"
    assert rows["PLUMBLINE_DATABASE_URL"]["value"] == "postgresql+psycopg://plumbline:(masked)@db:5432/plumbline"
