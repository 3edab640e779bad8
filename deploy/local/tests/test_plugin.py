"""The fixture `servers` gives real servers, of whichever kind."""

from dataclasses import replace

from oms_contracts.catalogue import TOPICS
from oms_local.testing import Servers
from oms_provision.sql import session


async def test_a_new_database_is_empty_and_can_be_written_to(servers: Servers) -> None:
    first, second = await servers.create_database("some"), await servers.create_database("some")
    assert first != second
    async with session(first) as connection:
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
        await connection.execute("create table t (a int)")


def test_topics_can_be_created_twice(servers: Servers) -> None:
    topic = replace(TOPICS[0], name="plugin.test", partitions=3)
    servers.create_topics([topic])
    servers.create_topics([topic])
