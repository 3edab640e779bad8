"""Our clients on a real broker, where aiokafka's need help."""

import asyncio
import secrets
from functools import partial
from time import monotonic
from typing import Any

from oms_contracts.catalogue import Topic
from oms_local.testing import Servers
from oms_runtime.kafka import METADATA_PAUSE, make_producer
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr


async def test_a_producer_asks_with_pauses_for_the_leader_that_a_partition_lacks(servers: Servers) -> None:
    topic = Topic(name=f"led-{secrets.token_hex(4)}", key="none", messages=(), writers=(), readers=(), summary="", partitions=1)
    servers.create_topics([topic])
    password = servers.kafka.get("password")
    settings = RuntimeSettings(
        kafka_bootstrap_servers=str(servers.kafka["bootstrap_servers"]),
        kafka_username=servers.kafka.get("username"),
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(""),
    )
    producer: Any = make_producer(settings, "test-leaderless")
    await producer.start()
    cluster, told, asked = producer.client.cluster, asyncio.Semaphore(0), 5
    leader_for_partition = cluster.leader_for_partition
    cluster.leader_for_partition = _nobody
    cluster.add_listener(partial(_tell, told))

    sent = asyncio.create_task(producer.send_and_wait(topic.name, b"value", partition=0))
    began = monotonic()
    async with asyncio.timeout(20):
        for _ in range(asked):
            await told.acquire()
        assert monotonic() - began > (asked - 1) * METADATA_PAUSE * 0.9

        cluster.leader_for_partition = leader_for_partition
        assert (await sent).offset == 0
    await producer.stop()


def _nobody(_partition: object) -> int:
    return -1


def _tell(told: asyncio.Semaphore, _cluster: object) -> None:
    told.release()
