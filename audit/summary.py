"""An audit told in full: what was asked, what was found, and with what: the facts behind `--json` and the report."""

import dataclasses
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from audit.report import Report
from audit.run import Audited
from features.declaration import fingerprint
from training.host import host_facts

SOFTWARE: Final = ("plumbline", "tensorflow", "apache-beam", "numpy", "numba", "pyarrow", "msgspec", "kafka-python")


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A model version that the selection names: its declaration, digests, and whether its files are those exported."""

    number: int
    compared: int
    different: int
    fingerprint: str
    digests: dict[str, str]
    changed: tuple[str, ...] | None
    same_host: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All that a reader of the report needs; times are microseconds since 1970 UTC."""

    report: Report
    journal: str
    journal_digest: str
    archive: str
    archive_digest: str
    selection: dict[str, str]
    declaration: str
    versions: tuple[VersionFacts, ...]
    host: dict[str, str]
    software: dict[str, str]
    started_at: int
    finished_at: int
    command: str


def summary(asked: Audited, report: Report, archive_digest: str, started_at: int, finished_at: int) -> Summary:
    """Put everything together; started_at, finished_at: our clock, microseconds since 1970 UTC."""
    return Summary(
        report=report,
        journal=asked.journal.name,
        journal_digest=asked.journal.digest,
        archive="" if asked.archive is None else str(asked.archive),
        archive_digest=archive_digest,
        selection=asked.selection.options(),
        declaration=fingerprint(),
        versions=tuple(_version(asked, report, number) for number in sorted(report.by_version)),
        host=host_facts() | {"system": platform.platform()},
        software={name: found for name in SOFTWARE if (found := _installed(name))} | {
            "python": platform.python_version()
        },
        started_at=started_at,
        finished_at=finished_at,
        command=_command(asked),
    )  # fmt: skip


def as_facts(told: Summary) -> dict[str, Any]:
    """What `--json` prints: `compared` decisions and `different` entries, counted once a layer, and all the rest."""
    report = told.report
    return {
        "compared": report.decisions,
        "different": report.decisions_different,
        **{f"{layer}_compared": count for layer, count in report.compared.items()},
        **{f"{layer}_different": count for layer, count in report.different.items()},
        "unscored": report.unscored,
        "raw_missing": report.raw_missing,
        "shadow_rows": report.shadow_rows,
        "shadow_failed": report.shadow_failed,
        "shadow_waiting": report.shadow_waiting,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
        "seconds": round((told.finished_at - told.started_at) / 1e6, 3),
        "journal": told.journal,
        "journal_digest": told.journal_digest,
        "archive_digest": told.archive_digest,
        "declaration": told.declaration,
        "fingerprints": dict(report.fingerprints),
        "policies": dict(report.policies),
        "versions": [dataclasses.asdict(each) for each in told.versions],
        "host": told.host,
        "differences": [dataclasses.asdict(each) for each in report.differences],
    }


def _version(asked: Audited, report: Report, number: int) -> VersionFacts:
    card = asked.versions.card(number)
    listed = card.get("files")
    return VersionFacts(
        number=number,
        compared=report.by_version[number].compared,
        different=report.by_version[number].different,
        fingerprint=str(card.get("fingerprint", "")),
        digests=dict(listed) if isinstance(listed, dict) else {},
        changed=asked.versions.changed(number),
        same_host=asked.versions.same_host(number),
    )


def _command(asked: Audited) -> str:
    options = " ".join(f"--{name} {value}" for name, value in asked.selection.options().items())
    kept = f"--journal {asked.journal.name}" if asked.journal.digest else ""
    archive = f"--archive {asked.archive}" if asked.archive is not None else ""
    return " ".join(part for part in ("plumbline audit", options, kept, archive) if part)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
