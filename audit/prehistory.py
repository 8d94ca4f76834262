"""Which archive came before the journal: the one that the journal's first entry names, and no other."""

from pathlib import Path

from kafka import TopicPartition

from archive.layout import require_archive
from plumbline.errors import InvalidSetting
from plumbline.names import Topic
from plumbline.settings import Settings
from streaming.beginning import beginning


def archive_before(settings: Settings, named: Path | None) -> tuple[Path | None, int | None]:
    """Where the archive lies that the journal began with (None: none), and the arrival time up to which it was taken.

    named: where it lies, when not where the settings say. Raises Refused when another archive or none is there,
    InvalidSetting when the journal began without one, BrokerUnavailable, NotFound.
    """
    digest, until_us = named_archive(settings)
    return archive_of(digest, settings, named), until_us if digest else None


def named_archive(settings: Settings) -> tuple[str, int | None]:
    """Digest of the archive that the journal began with ("" for none), and how far it was taken."""
    partition = TopicPartition(settings.topic_prefix + Topic.DECISIONS.value, 0)
    snapshots = settings.data_path / "snapshots"
    return beginning(settings.kafka_bootstrap, partition, snapshots, settings.remembered_transactions).archive


def archive_of(digest: str, settings: Settings, named: Path | None) -> Path | None:
    """Where the archive of this digest lies ("" for none: None); raises as `archive_before`."""
    if not digest:
        if named is not None:
            raise InvalidSetting("options", "--archive", str(named), "no archive: the journal began without one")
        return None
    return require_archive(named or settings.archive_path, digest).path
