"""Settings of every process, read once from the environment (`PLUMBLINE_*`) at start.

A field is declared once, with its unit in its name, its range in its type and its help beside it; reading,
checking, `plumbline settings` and the docs table derive from that. A `PLUMBLINE_*` variable that no field declares is
an error, since a misspelt name would otherwise be a silent default. Secrets have no default and are masked.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidSetting
from plumbline.times import ANY_AGE_DAYS, MAX_AGE_DAYS

PREFIX = "PLUMBLINE_"

Port = Annotated[int, Meta(ge=0, le=65535)]
Milliseconds = Annotated[int, Meta(ge=1, le=600_000)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a deployment may change; see `plumbline settings` for values and where they came from."""

    data_dir: Annotated[str, Meta(description="Folder for everything Plumbline writes on this machine.")] = "var"
    log_format: Annotated[
        Literal["console", "json"], Meta(description="How log lines are written to standard error.")
    ] = "console"

    kafka_bootstrap: Annotated[
        str, Meta(min_length=1, description="Kafka brokers, host:port, separated by commas.")
    ] = "127.0.0.1:9092"
    topic_prefix: Annotated[
        str, Meta(pattern=r"^[a-zA-Z0-9._-]*$", max_length=100, description="Put before every topic and group name.")
    ] = ""
    transactions_partitions: Annotated[
        int, Meta(ge=1, le=1000, description="Partitions of the transactions topic when it is created here.")
    ] = 1

    model_name: Annotated[
        str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$", description="Name under which the model is served.")
    ] = "plumbline"
    model_server: Annotated[str, Meta(min_length=1, description="host:port of the model server's gRPC endpoint.")] = (
        "127.0.0.1:8500"
    )
    model_deadline_ms: Annotated[
        Milliseconds, Meta(description="Deadline of one Predict call; one retry is made within twice this time.")
    ] = 1000
    model_ca_file: Annotated[
        str, Meta(description="PEM file of the authority that signed the model server's certificate; empty: no TLS.")
    ] = ""
    model_client_cert_file: Annotated[
        str, Meta(description="PEM file of the certificate that is shown to the model server; empty: none.")
    ] = ""
    model_client_key_file: Annotated[
        str, Meta(description="PEM file of that certificate's private key; empty: none.")
    ] = ""

    model_server_base_path: Annotated[
        str,
        Meta(description="Folder of the model's versions as the model server sees it; empty: models/NAME in data_dir."),
    ] = ""
    code_commit: Annotated[
        str, Meta(max_length=64, description="Commit of this code, for models' cards where git cannot tell it.")
    ] = ""

    costs_file: Annotated[
        str, Meta(description="JSON file of what mistakes cost and of the review capacity; empty: the defaults.")
    ] = ""

    beam_runner: Annotated[
        Literal["embedded", "flink", "portable", "dataflow"],
        Meta(description="What runs Beam's pipelines: this process, Apache Flink, a job server at hand, or Dataflow."),
    ] = "embedded"
    beam_options: Annotated[
        str, Meta(description="Flags for Beam, as on a command line: --parallelism=8 --job_endpoint=host:port.")
    ] = ""
    flink_master: Annotated[
        str,
        Meta(
            pattern=r"^(\[local\]|(https?://)?[^\s/:\[\]]+:[0-9]+)$",
            description="Flink's REST address, host:port; [local]: a cluster in the job server.",
        ),
    ] = "[local]"
    flink_jars_lock: Annotated[
        str, Meta(description="Lock file of Beam's Flink job server; empty: the one of this release.")
    ] = ""

    batch_max_transactions: Annotated[
        int, Meta(ge=1, le=512, description="Most transactions that one micro-batch scores.")
    ] = 512
    snapshot_every_transactions: Annotated[
        int, Meta(ge=1000, description="Transactions between two snapshots of the history.")
    ] = 200_000
    remembered_transactions: Annotated[
        int,
        Meta(
            ge=1024,
            description="Newest transactions whose ids are remembered at least, to know duplicates and their labels; "
            "the journal says how many are.",
        ),
    ] = 4_000_000
    remembered_max_transactions: Annotated[
        int,
        Meta(ge=1024, description="Most transactions whose ids are remembered; each takes some 60 bytes of memory."),
    ] = 40_000_000
    remembered_days: Annotated[
        int,
        Meta(ge=0, description="Ids younger than this are not forgotten: more are remembered, up to the most allowed."),
    ] = 30
    archive: Annotated[
        str, Meta(description="Folder of the archive that came before the journal; empty: archive in data_dir.")
    ] = ""

    message_max_age_days: Annotated[
        int,
        Meta(
            ge=1, le=ANY_AGE_DAYS,
            description="A time further before the message came is refused, such as seconds taken for microseconds.",
        ),
    ] = MAX_AGE_DAYS  # fmt: skip

    clock_tolerance_seconds: Annotated[
        int,
        Meta(ge=61, le=86_400, description="A scorer whose clock differs so much from the broker's does not lead."),
    ] = 300
    rejected_share_warn: Annotated[
        float,
        Meta(gt=0, le=1, description="Share of rejected messages in the last ten minutes that is worth a warning."),
    ] = 0.05

    watch_one_in: Annotated[
        int, Meta(ge=1, description="One account in so many is audited all the time by `plumbline watch`; 1: all.")
    ] = 100
    waiting_limit_seconds: Annotated[
        int, Meta(ge=1, description="How long an acknowledged message may be on its way before the console warns.")
    ] = 60

    database_url: Annotated[str, Meta(description="SQLAlchemy address of the store; empty: SQLite in data_dir.")] = ""
    database_password_file: Annotated[
        str, Meta(description="File that holds the database password, put into database_url; empty: none.")
    ] = ""

    http_host: Annotated[str, Meta(description="Address the console listens on.")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="Port the console listens on.")] = 8080
    https_only: Annotated[
        bool, Meta(description="Console cookies are sent over HTTPS only; off for a laptop without a gateway.")
    ] = True
    trusted_proxies: Annotated[
        int, Meta(ge=0, le=5, description="Gateways in front of the console whose forwarding headers are believed.")
    ] = 0
    secret_key: Annotated[
        Annotated[str, Meta(min_length=32)] | None,
        Meta(description="Key that signs the console's sessions; 32 characters or more."),
    ] = None
    password_salt: Annotated[
        Annotated[str, Meta(min_length=16)] | None,
        Meta(description="Salt mixed into password hashes; 16 characters or more."),
    ] = None

    api_host: Annotated[str, Meta(description="Address the decision API listens on.")] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="Port of the decision API's HTTP.")] = 8090
    api_grpc_port: Annotated[Port, Meta(description="Port of the decision API's gRPC.")] = 8091
    api_deadline_ms: Annotated[
        Milliseconds, Meta(description="How long the decision API waits for a caller that names no deadline.")
    ] = 500
    api_deadline_max_ms: Annotated[
        Milliseconds, Meta(description="Longest that the decision API waits, whatever a caller asks for.")
    ] = 5000
    api_fallback: Annotated[
        Literal["review", "decline"],
        Meta(description="Outcome that is answered when no decision came in time; a failure never approves."),
    ] = "review"
    api_callers_max: Annotated[
        int, Meta(ge=1, le=4096, description="Most callers that wait at a time; more are told to come again.")
    ] = 256
    api_requests_per_second: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most requests of one API key within a second, in each process.")
    ] = 1000
    api_remembered_decisions: Annotated[
        int, Meta(ge=1, description="Newest decisions that the decision API keeps in memory, for ids sent again.")
    ] = 20_000

    drift_psi_warn: Annotated[
        float, Meta(gt=0, le=100, description="Population stability index from which drift is worth a warning.")
    ] = 0.1
    drift_psi_alarm: Annotated[
        float, Meta(gt=0, le=100, description="Population stability index from which drift is an alarm.")
    ] = 0.25
    drift_missing_warn: Annotated[
        float, Meta(gt=0, le=1, description="Difference of a feature's missing share that is worth a warning.")
    ] = 0.05
    drift_missing_alarm: Annotated[
        float, Meta(gt=0, le=1, description="Difference of a feature's missing share that is an alarm.")
    ] = 0.15
    drift_least_decisions: Annotated[
        int, Meta(ge=1, description="Fewer decisions than these are too few to tell drift from chance.")
    ] = 1000

    guard_limits_file: Annotated[
        str, Meta(description="JSON file of limits that replace the guard's own; empty: none.")
    ] = ""

    gate_limits_file: Annotated[
        str, Meta(description="JSON file of limits that replace those of the nightly gate; empty: none.")
    ] = ""
    retrain_keep_runs: Annotated[
        int, Meta(ge=1, le=1000, description="Newest nights whose files stay whole; of older ones their words stay.")
    ] = 7
    notify_command: Annotated[
        str,
        Meta(description="Command, run without a shell, that gets a night's notice as JSON on its input; empty: none."),
    ] = ""
    notify_url: Annotated[
        str, Meta(description="Address that a night's notice is posted to as JSON, over HTTPS; empty: none.")
    ] = ""
    notify_token_file: Annotated[
        str, Meta(description="File that holds the token sent to notify_url as Authorization: Bearer; empty: none.")
    ] = ""
    notify_file: Annotated[
        str, Meta(description="File that gets a night's notice as a further line of JSON; empty: none.")
    ] = ""
    notify_verdicts: Annotated[
        str,
        Meta(description="Verdicts that give a notice, by commas: failed, refused, registered, shadowed, stopped."),
    ] = "failed,refused,registered,shadowed"

    tensorboard_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?$",
            description="Address of a TensorBoard over the nights' logs, for the console's links; empty: no link.",
        ),
    ] = ""

    metrics_host: Annotated[str, Meta(description="Address this process's Prometheus metrics are served on.")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[Port, Meta(description="Port of this process's Prometheus metrics; 0: none.")] = 0

    @property
    def data_path(self) -> Path:
        """`data_dir` as a path."""
        return Path(self.data_dir)

    @property
    def archive_path(self) -> Path:
        """Where the archive that came before the journal lies, if one did."""
        return Path(self.archive) if self.archive else self.data_path / "archive"

    @property
    def models_path(self) -> Path:
        """The folder of the model's versions on this machine."""
        return self.data_path / "models" / self.model_name


SECRETS = frozenset({"secret_key", "password_salt"})

# The password of `scheme://name:password@host`, wherever such an address stands in a setting.
_PASSWORD = re.compile(r"(://[^/@\s]*?:)\S+@")


def variable(field: str) -> str:
    """Name of the environment variable of a field.

    >>> variable("http_port")
    'PLUMBLINE_HTTP_PORT'
    """
    return PREFIX + field.upper()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from an environment (the process's own when none is given).

    A secret may also come from a file named by `PLUMBLINE_<NAME>_FILE`, as container secrets do.
    Raises InvalidSetting for an unknown `PLUMBLINE_*` name or a value outside its field's range.
    """
    environ = os.environ if environ is None else environ
    fields = {variable(name): name for name in Settings.__struct_fields__}
    files = {variable(name) + "_FILE": name for name in SECRETS}
    given: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name in files:
            if variable(files[name]) in environ:
                raise InvalidSetting("environment", name, value, f"only one of {name} and {variable(files[name])}")
            given[files[name]] = _file(name, value)
        elif name in fields:
            given[fields[name]] = value
        else:
            known = ", ".join(sorted([*fields, *files]))
            raise InvalidSetting("environment", name, value, f"one of {known}")
    for name, value in given.items():
        _check(name, value)
    return msgspec.convert(given, Settings, strict=False)


def _file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InvalidSetting("environment", name, path, f"a readable text file ({error})") from None


def _check(name: str, value: str) -> None:
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at ")[0]
        value = "(masked)" if name in SECRETS else _PASSWORD.sub(r"\1(masked)@", value)
        choices = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"][name].get("enum")
        if choices:
            reason = "one of " + ", ".join(choices)
        raise InvalidSetting("environment", variable(name), value, reason.removeprefix("Expected ")) from None


def described(settings: Settings, environ: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """One row a setting: variable, value (secrets masked), source (environment or default), help."""
    environ = os.environ if environ is None else environ
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if name in SECRETS:
            value = "(not set)" if value is None else "(masked)"
        elif isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, str):
            value = _PASSWORD.sub(r"\1(masked)@", value)
        given = variable(name) in environ or variable(name) + "_FILE" in environ
        yield {
            "variable": variable(name),
            "value": str(value),
            "source": "environment" if given else "default",
            "help": _help(schema[name]),
        }


def _help(schema: dict[str, Any]) -> str:
    if "description" in schema:
        return str(schema["description"])
    return next((str(part["description"]) for part in schema.get("anyOf", []) if "description" in part), "")
