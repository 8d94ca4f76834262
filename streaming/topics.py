"""The topics exist, each with the settings that `plumbline.names` declares; what differs is reported, never hidden."""

from dataclasses import dataclass
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from plumbline.errors import Refused
from plumbline.names import TOPIC_SETTINGS, Topic
from streaming.kafka import administrator, reaching

READY_MS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting of an existing topic that is not as declared."""

    setting: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class TopicState:
    """What became of one topic; `differences` are empty when it is as declared."""

    name: str
    state: Literal["created", "present", "different"]
    partitions: int
    differences: tuple[Difference, ...] = ()


def ensure_topics(
    bootstrap: str, prefix: str, transactions_partitions: int, replication_factor: int = -1
) -> list[TopicState]:
    """Creates the topics that are missing and compares the others; changes none that exists.

    prefix: put before every name; transactions_partitions: for `transactions`, when it is created here;
    replication_factor: -1 leaves it to the broker. Raises BrokerUnavailable.
    """
    wanted = {prefix + topic.value: _declared(topic, transactions_partitions) for topic in Topic}
    with reaching(bootstrap), administrator(bootstrap) as admin:
        missing = wanted.keys() - set(admin.list_topics())
        created = set()
        for name in missing:
            partitions, config = wanted[name]
            request = {
                "num_partitions": partitions,
                "replication_factor": replication_factor,
                "configs": config,
            }
            try:
                admin.create_topics({name: request})
            except TopicAlreadyExistsError:
                continue  # another process created it since; it is compared below
            created.add(name)
        admin.wait_for_topics(list(wanted), timeout_ms=READY_MS)
        found = _found(admin, list(wanted))
    states = []
    for name, (partitions, config) in wanted.items():
        differences = _differences(partitions, config, *found[name])
        state: Literal["created", "present", "different"] = "created" if name in created else "present"
        states.append(TopicState(name, "different" if differences else state, found[name][0], differences))
    return states


def require_as_declared(states: list[TopicState]) -> None:
    """Raises Refused, naming every difference and what to do, unless all topics are as declared."""
    lines = [
        f"{state.name}: {difference.setting} is {difference.found}, declared is {difference.wanted}"
        for state in states
        for difference in state.differences
    ]
    if lines:
        raise Refused(
            f"{len(lines)} topic settings are not as declared ({'; '.join(lines)}): change them with Kafka's own "
            "tools, or what is declared (PLUMBLINE_TRANSACTIONS_PARTITIONS for the partitions of transactions)"
        )


def _declared(topic: Topic, transactions_partitions: int) -> tuple[int, dict[str, str]]:
    settings = TOPIC_SETTINGS[topic]
    return settings.partitions or transactions_partitions, settings.config


def _found(admin: Any, names: list[str]) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions and all settings, defaults included, of each topic."""
    described = admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names], config_filter="all"
    )["topic"]
    return {
        topic["name"]: (
            len(topic["partitions"]),
            {key: value["value"] for key, value in described[topic["name"]].items()},
        )
        for topic in admin.describe_topics(names)
    }


def _differences(
    wanted_partitions: int, wanted: dict[str, str], partitions: int, found: dict[str, str]
) -> tuple[Difference, ...]:
    differences = [
        Difference(key, value, found.get(key, "(not known)"))
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if partitions != wanted_partitions:
        differences.insert(0, Difference("partitions", str(wanted_partitions), str(partitions)))
    return tuple(differences)
