"""The fixture `servers` gives real servers, whichever they are."""

from dataclasses import replace

from oms_contracts.catalogue import TOPICS
from oms_local.sql import session
from oms_local.testing import Servers


async def test_a_fresh_database_is_empty_and_can_be_written(servers: Servers) -> None:
    first, second = await servers.create_database("some"), await servers.create_database("some")
    assert first != second
    async with session(first) as connection:
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
        await connection.execute("create table t (a int)")


def test_a_topic_can_be_written_as_soon_as_it_is_made(servers: Servers) -> None:
    topic = replace(TOPICS[0], name="plugin.test", partitions=3)
    servers.create_topics([topic])
    servers.create_topics([topic])
