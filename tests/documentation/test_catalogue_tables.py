"""The architecture page's topics, owners and deadlines are those of the catalogue and of the settings."""

import importlib
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from oms_contracts.catalogue import (
    ALL_SERVICES,
    FOREVER,
    GATEWAY,
    PARTY_TOPICS,
    PROJECTION,
    SERVICES,
    TOPICS,
    Topic,
    topics_read_by,
    topics_written_by,
)
from oms_contracts.dead_letters import concerns_dead_letters
from oms_contracts.message import type_of

from tests.documentation.pages import mermaid, names, rows, section

OPERATOR = "operator"
PARTS = ALL_SERVICES
COMMANDS, DEAD_LETTERS = ".commands", ".dead-letters"
EVENT_TOPICS = [topic for topic in TOPICS if not topic.name.endswith((COMMANDS, DEAD_LETTERS))]
TIMES = {"second": timedelta(seconds=1), "minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


def test_the_table_of_topics_is_the_catalogue() -> None:
    topics = [*EVENT_TOPICS, *command_topics(), *PARTY_TOPICS]
    assert [row[:6] for row in rows(section("Topics"))] == [*map(described, topics), dead_letter_topics()]


def test_every_topic_can_be_read_by_the_operator_who_writes_orders_and_commands() -> None:
    assert [topic.name for topic in TOPICS if OPERATOR not in topic.readers] == ["oms.customer-keys"]
    assert {topic.name for topic in topics_written_by(OPERATOR)} == {
        "oms.channel.orders",
        "oms.channel.webhooks",
        *(topic.name for topic in command_topics()),
    }


def test_the_gateway_may_do_what_the_page_says() -> None:
    written = {topic.name for topic in topics_written_by(GATEWAY)}
    assert written == {"oms.channel.orders", "oms.channel.webhooks", *(topic.name for topic in command_topics())}
    assert [topic.name for topic in topics_read_by(GATEWAY)] == ["oms.order-status-changes"]


@pytest.mark.parametrize("service", PARTS)
def test_a_service_writes_reads_and_takes_what_the_page_says(service: str) -> None:
    _, _, written, read, commands = next(row for row in rows(section("Who owns what")) if row[0] == service)
    assert set(names(written)) == {topic.name for topic in topics_written_by(service) if not topic.name.endswith(DEAD_LETTERS)}
    events = (topic.name for topic in topics_read_by(service) if topic.parties is None)
    assert set(names(read)) == {name for name in events if not name.endswith((COMMANDS, DEAD_LETTERS))}
    own = next(topic for topic in TOPICS if topic.name == f"oms.{service}{COMMANDS}")
    assert set(names(commands)) == {cls.__name__ for cls in own.messages if not concerns_dead_letters(type_of(cls).name)}


def test_every_service_has_a_row() -> None:
    assert [row[0] for row in rows(section("Who owns what"))] == [*PARTS]


def test_the_picture_shows_who_writes_and_reads_each_topic() -> None:
    topics, solid, dotted = flowchart()
    assert set(topics.values()) == {topic.name for topic in EVENT_TOPICS}
    shown = {(topics.get(one, one), topics.get(other, other)) for one, other in solid}
    left_out = {OPERATOR, PROJECTION}
    parties = {
        (writer, beside) for topic in PARTY_TOPICS for writer in topic.writers if (beside := topic.prefix.rstrip(".")) in topics.values()
    }
    written = parties | {(user, topic.name) for topic in EVENT_TOPICS for user in topic.writers if user not in left_out}
    read = {(topic.name, user) for topic in EVENT_TOPICS for user in topic.readers if user not in left_out}
    assert shown == written | read
    assert dotted == {(topic.parties, topic.readers[0]) for topic in PARTY_TOPICS if topic.prefix.endswith(f"{COMMANDS}.")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_deadline_has_the_default_of_its_setting(service: str) -> None:
    stated = {name: default for of, setting, default, *_ in rows(section("Deadlines")) if of == service for name in names(setting)}
    assert {name: duration(default) for name, default in stated.items()} == dict(deadlines(service))


def described(topic: Topic) -> list[str]:
    """A topic's row."""
    kept = "for ever" if topic.retention == FOREVER else f"{timedelta(milliseconds=topic.retention).days} days"
    return [
        f"`{topic.name}`",
        topic.key,
        str(topic.partitions),
        "the newest of each key (compacted)" if topic.compacted else kept,
        users(topic.writers),
        users(topic.readers),
    ]


def dead_letter_topics() -> list[str]:
    """The one row for all of them, because they differ in their service alone."""
    topics = [topic for topic in TOPICS if topic.name.endswith(DEAD_LETTERS)]
    assert [(topic.name, topic.writers) for topic in topics] == [(f"oms.{service}{DEAD_LETTERS}", (service,)) for service in PARTS]
    (row,) = {tuple(described(topic)[1:4] + described(topic)[5:]) for topic in topics}
    return [f"`oms.<service>{DEAD_LETTERS}`", *row[:3], "the service", *row[3:]]


def command_topics() -> list[Topic]:
    return [topic for topic in TOPICS if topic.name.endswith(COMMANDS)]


def users(names_of_users: tuple[str, ...]) -> str:
    """All of them but the operator, who is at every topic."""
    return ", ".join(user for user in names_of_users if user != OPERATOR) or "-"


def flowchart() -> tuple[dict[str, str], set[tuple[str, str]], set[tuple[str, str]]]:
    """Topics by their name in the picture, and its solid and its dotted arrows."""
    topics: dict[str, str] = {}
    arrows: dict[str, set[tuple[str, str]]] = {"-->": set(), "-.->": set()}
    for line in mermaid(section("The flow")):
        if node := re.fullmatch(r'(\w+)\[\("(.+)"\)\]', line):
            topics[node[1]] = node[2]
        else:
            left, arrow, right = re.split(r" (-->|-\.->) ", line)
            arrows[arrow] |= {(one, other) for one in left.split(" & ") for other in right.split(" & ")}
    return topics, arrows["-->"], arrows["-.->"]


def deadlines(service: str) -> Iterator[tuple[str, timedelta]]:
    """The variable and the default of every setting that is a time, but for what makes the sandbox slow."""
    settings: Any = importlib.import_module(f"oms_{service}.settings").Settings
    for name, field in settings.model_fields.items():
        if isinstance(field.default, timedelta) and not name.startswith("sandbox"):
            yield f"OMS_{name.upper()}", field.default


def duration(text: str) -> timedelta:
    """`2 days`, `1 hour`."""
    number, unit = text.split()
    return int(number) * TIMES[unit.removesuffix("s")]
