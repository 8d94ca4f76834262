"""The reference page, docs/reference.md: commands, settings, topics, metrics and errors, as the code declares them."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence

from plumbline import errors, settings
from plumbline.names import METRICS, TOPIC_SETTINGS
from plumbline.schemas import RECORDS

OPENING = """# Reference

Written by `plumbline schemas` from the declarations in `plumbline/`: change those, and run it again.
"""


def page(verbs: Mapping[str, str]) -> str:
    """The whole page as Markdown; verbs: each command of `plumbline` and its one line of help."""
    sections = {
        "Commands": _table(("Command", "What it does"), _commands(verbs)),
        "Settings": _table(("Variable", "Default", "Meaning"), _settings()),
        "Topics": _table(("Topic", "Partitions", "Settings", "Records"), _topics()),
        "Metrics": _table(("Metric", "Kind", "Labels", "Meaning"), _metrics()),
        "Errors": _table(("Error", "A kind of", "Meaning"), _errors()),
    }
    return OPENING + "".join(f"\n## {title}\n\n{table}\n" for title, table in sections.items())


def _commands(verbs: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for verb, help_text in verbs.items():
        yield f"`plumbline {verb}`", help_text


def _settings() -> Iterator[tuple[str, ...]]:
    for row in settings.described(settings.Settings(), {}):
        default = f"`{row['value']}`" if row["value"] else "(empty)"
        yield f"`{row['variable']}`", default, row["help"]


def _topics() -> Iterator[tuple[str, ...]]:
    for topic, declared in TOPIC_SETTINGS.items():
        partitions = "`PLUMBLINE_TRANSACTIONS_PARTITIONS`" if declared.partitions is None else str(declared.partitions)
        config = ", ".join(f"`{name}={value}`" for name, value in declared.config.items())
        records = f"[schema](schemas/{topic.value}.json)" if topic in RECORDS else "none"
        yield f"`{topic.value}`", partitions, config, records


def _metrics() -> Iterator[tuple[str, ...]]:
    for metric in METRICS:
        yield f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help


def _errors() -> Iterator[tuple[str, ...]]:
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.PlumblineError) and error is not errors.PlumblineError:
            yield f"`{name}`", f"`{error.__mro__[1].__name__}`", (inspect.getdoc(error) or "").partition("\n")[0]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
