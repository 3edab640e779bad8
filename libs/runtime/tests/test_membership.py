"""Static membership on a real broker: after a crash a named process gets its partitions back without waiting for its old session to end."""

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from oms_contracts.catalogue import Topic
from oms_local.ports import find_free
from oms_local.testing import Servers
from oms_runtime.apply import Applier
from oms_runtime.clock import Clock
from oms_runtime.consumer import Consumer
from oms_runtime.database import Database, migrate, open_database
from oms_runtime.metrics import Metrics
from oms_runtime.model import Service
from oms_runtime.records import Partition
from oms_runtime.settings import RuntimeSettings
from probe import until as probe_until
from pydantic import SecretStr

SESSION, SOON = 60_000, 20
"""A session's milliseconds, and the seconds that are short beside it."""


class Member(Consumer):
    """A consumer that remembers its last assignment."""

    partitions: frozenset[Partition] = frozenset()

    async def _on_assigned(self, partitions: list[Partition]) -> None:
        self.partitions = frozenset(partitions)
        await super()._on_assigned(partitions)


Make = Callable[..., Member]


def a_topic(name: str) -> Topic:
    return Topic(name=name, key="none", messages=(), writers=("nobody",), readers=("nobody",), summary="", partitions=4)


@pytest.fixture
def topics(servers: Servers) -> tuple[Topic, Topic]:
    unique = secrets.token_hex(4)
    made = a_topic(f"membership.{unique}.one"), a_topic(f"membership.{unique}.two")
    servers.create_topics(made)
    return made


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    opened = await open_database(await servers.create_database("membership"))
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
def member(servers: Servers, database: Database, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a member that does not leave the group when it is stopped, as if it had been killed."""

    async def without_leaving(_coordinator: GroupCoordinator) -> None: ...

    monkeypatch.setattr(GroupCoordinator, "_maybe_leave_group", without_leaving)

    def make(*topics: Topic, session: int = SESSION, **settings: Any) -> Member:
        service = Service(name=topics[0].name, reads=topics, writes=(), dead_letters="")
        password = servers.kafka.get("password")
        kafka: dict[str, Any] = {
            "kafka_bootstrap_servers": servers.kafka["bootstrap_servers"],
            "kafka_username": servers.kafka.get("username"),
            "kafka_password": SecretStr(password) if password else None,
        }
        chosen = RuntimeSettings(**{**kafka, **settings}, database_url=SecretStr(""), session_timeout_ms=session)
        metrics = Metrics()
        return Member(service, chosen, Applier(service, database, metrics, Clock()), metrics)

    return make


async def until(holds: Callable[[], bool]) -> None:
    async def found() -> bool:
        return holds()

    await probe_until(found, SOON)


async def begin(consumer: Consumer) -> None:
    async with asyncio.timeout(SOON):
        await consumer.start()
        await consumer.assigned.wait()


async def test_a_static_member_gets_its_partitions_back_within_the_old_session(member: Make, topics: tuple[Topic, Topic]) -> None:
    for _ in range(3):
        killed = member(topics[0], instance="a")
        await begin(killed)
        await killed.stop()


async def test_a_static_member_reads_a_topic_that_it_did_not_read_before(member: Make, topics: tuple[Topic, Topic]) -> None:
    killed = member(topics[0], instance="a")
    await begin(killed)
    await killed.stop()

    successor = member(*topics, instance="a")
    await begin(successor)
    await until(lambda: len(successor.partitions) == sum(topic.partitions for topic in topics))
    await successor.stop()


async def test_replicas_with_other_instance_names_share_the_partitions(member: Make, topics: tuple[Topic, Topic]) -> None:
    one, other = (member(topics[0], instance=name, session=6_000) for name in "ab")
    await begin(one)
    await begin(other)
    await until(lambda: len(one.partitions) == len(other.partitions) == 2)
    await other.stop()

    again = member(topics[0], instance="b", session=6_000)
    await begin(again)
    assert again.partitions.isdisjoint(one.partitions)
    await until(lambda: len(one.partitions) == len(again.partitions) == 2)
    await again.stop()
    await one.stop()


@pytest.mark.parametrize("names", [("a", "b"), (None, None)], ids=["static", "dynamic"])
async def test_the_topic_of_a_party_that_comes_later_is_shared_without_a_restart(
    servers: Servers, member: Make, topics: tuple[Topic, Topic], names: tuple[str | None, str | None]
) -> None:
    family = replace(topics[0], name=f"{topics[0].name}.{{channel}}", parties="channel", partitions=3)
    one, other = (member(topics[0], family, instance=name, session=6_000) for name in names)
    await begin(one)
    await begin(other)
    await until(lambda: len(one.partitions) == len(other.partitions) == 2)

    for party in ("web", "app.de"):
        servers.create_topics([family.of_party(party)])
        await until(lambda party=party: {(family.of_party(party).name, number) for number in range(3)} <= one.partitions | other.partitions)
    assert one.partitions.isdisjoint(other.partitions)
    assert topics[1].name not in {name for name, _ in one.partitions | other.partitions}
    await other.stop()
    await one.stop()


async def test_a_topic_that_does_not_exist_is_missed_beside_those_of_parties(member: Make, topics: tuple[Topic, Topic]) -> None:
    family = replace(topics[0], name=f"{topics[0].name}.{{channel}}", parties="channel")
    waiting = member(topics[0], replace(topics[1], name=f"{topics[1].name}.missing"), family)
    with pytest.raises(UnknownTopicOrPartitionError, match=r"\.missing"):
        await begin(waiting)


async def test_a_failed_start_leaves_nothing_open_and_can_be_retried(member: Make, topics: tuple[Topic, Topic]) -> None:
    consumer = member(topics[0], kafka_bootstrap_servers=f"127.0.0.1:{find_free()}")
    for _ in range(2):
        with pytest.raises(KafkaConnectionError):
            await consumer.start()
    await consumer.stop()
    gc.collect()  # which would find a client that was not closed
