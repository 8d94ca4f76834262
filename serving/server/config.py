"""Which models are served, and which of their versions: TensorFlow Serving's configuration, read and checked.

The complaints are its own, word for word where it has one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format

from serving import wire_pb2 as wire
from serving.methods import TENSORFLOW_PLATFORM
from serving.server import request_log
from serving.server.status import Code, StatusError, invalid


@dataclass(frozen=True, slots=True)
class Policy:
    """Which versions of a base path are served: so many of the newest (None: all) of those named (None: any)."""

    newest: int | None = 1
    only: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model as a configuration wants it; labels: version by label; logging: None where it says nothing of that."""

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)
    logging: wire.LoggingConfig | None = None


def single(name: str, base_path: Path, keep_versions: int) -> wire.ModelServerConfig:
    """The configuration of one model whose newest versions are served."""
    config = wire.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name = name
    model.base_path = str(base_path.absolute())
    model.model_platform = TENSORFLOW_PLATFORM
    model.model_version_policy.latest.num_versions = keep_versions
    return config


def read(path: Path) -> wire.ModelServerConfig:
    """A configuration file in protobuf's text form. Raises StatusError when there is none, or it cannot be read."""
    try:
        return text_format.Parse(path.read_text("utf-8"), wire.ModelServerConfig())
    except OSError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: {error.strerror}: --model-config-file takes a file") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error}") from error


def wanted(config: wire.ModelServerConfig, before: Sequence[Wanted] | None) -> tuple[Wanted, ...]:
    """The models of a configuration that takes the place of another one (None: there was none).

    Raises StatusError for a configuration that is not allowed, or not after that one.
    """
    choice = config.WhichOneof("config")
    if choice != "model_config_list":
        if before is None and choice is None:
            return ()  # nothing to serve yet
        if before is None:
            raise invalid("ModelServer does not yet support custom model config.")
        raise StatusError(
            Code.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
            "another.",
        )
    models = config.model_config_list.config
    names: set[str] = set()
    for model in models:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
    known = {each.name for each in before or ()}
    return tuple(_wanted(model, model.name in known) for model in models)


def _wanted(model: wire.ModelConfig, known: bool) -> Wanted:
    if not model.base_path.startswith("/"):
        if "://" in model.base_path:
            raise invalid(
                f"Model {model.name} has the base path {model.base_path}: this server reads local folders only"
            )
        raise invalid(f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}")
    _check_platform(model, known)
    logging = model.logging_config if model.HasField("logging_config") else None
    if logging is not None:
        request_log.check(model.name, logging)
    return Wanted(model.name, Path(model.base_path), _policy(model), dict(model.version_labels), logging)


def _check_platform(model: wire.ModelConfig, known: bool) -> None:
    platform = model.model_platform
    if model.model_type != wire.MODEL_TYPE_UNSPECIFIED:
        if platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
            )
        if model.model_type != wire.TENSORFLOW:
            raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        platform = TENSORFLOW_PLATFORM
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if platform != TENSORFLOW_PLATFORM and known:
        raise invalid(
            f"Illegal to change a model's platform. For model {model.name} platform was {TENSORFLOW_PLATFORM} "
            f"and new platform requested is {platform}"
        )
    if platform != TENSORFLOW_PLATFORM:
        raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def _policy(model: wire.ModelConfig) -> Policy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return Policy(None)
    if choice == "specific":
        return Policy(None, frozenset(policy.specific.versions))
    return Policy(max(policy.latest.num_versions, 1))
