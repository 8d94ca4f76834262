"""The installation as `release.carrying` sees it, made from the settings; steps are told on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plumbline.cli.models_store import now_us, opened

if TYPE_CHECKING:
    from plumbline.settings import Settings
    from release.carrying import Gate, Site
    from release.serving import ModelServer

Few = Annotated[bool, typer.Option("--few", help="Let the parity gate do with fewer than 1,000 rows.")]
Wait = Annotated[
    float, typer.Option("--wait-seconds", min=0.1, help="How long a version may take to load, and a scorer to obey.")
]
Journal = Annotated[Path | None, typer.Option(help="Kept journal for the parity gate. [default: the journal in Kafka]")]


def model_server(settings: "Settings", load_seconds: float = 180.0) -> "ModelServer":
    """The server of the settings; the folder of versions as it sees them."""
    from release.serving import DEADLINE_LEAST_MS, ModelServer
    from serving.channel_tls import channel_credentials

    base_path = settings.model_server_base_path or str(settings.models_path.absolute())
    return ModelServer(
        settings.model_server, settings.model_name, base_path, max(settings.model_deadline_ms, DEADLINE_LEAST_MS),
        load_seconds, channel_credentials(settings),
    )  # fmt: skip


@contextmanager
def site(wait_seconds: float = 180.0) -> "Iterator[tuple[Site, Settings]]":
    """The installation and the settings; wait_seconds: how long server and scorer may take. Raises Unready."""
    from release.carrying import Site

    with opened() as (engine, settings):
        yield (
            Site(
                engine, settings.kafka_bootstrap, settings.topic_prefix, model_server(settings, wait_seconds),
                settings.models_path, now_us, wait_seconds,
            ),
            settings,
        )  # fmt: skip


@contextmanager
def gate(settings: "Settings", journal: Path | None, few: bool) -> "Iterator[Gate]":
    """The parity gate of this installation; TensorFlow is loaded when it is asked."""
    from plumbline.cli.quiet import import_tensorflow_quietly
    from release.gates import parity_gate
    from release.serving import DEADLINE_LEAST_MS
    from serving.channel_tls import channel_credentials
    from serving.client import ModelClient

    asking = settings.model_server, settings.model_name, max(settings.model_deadline_ms, DEADLINE_LEAST_MS)
    with ModelClient(*asking, channel_credentials(settings)) as client:
        place = settings.kafka_bootstrap, settings.topic_prefix
        found = parity_gate(settings.models_path, client, *place, kept=journal, few=few)

        def quietly(version: int) -> object:
            import_tensorflow_quietly()
            return found(version)

        yield quietly  # type: ignore[misc] # the same gate, with TensorFlow's chatter kept away


def tell(step: str) -> None:
    """A step that is done."""
    print(f"plumbline models: {step.replace('_', ' ')}", file=sys.stderr, flush=True)
