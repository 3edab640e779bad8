"""The metrics that only the store knows."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from oms_runtime.database import migrate, open_database
from oms_runtime.model import service_of
from oms_runtime.runtime import Runtime
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr


@pytest.fixture
async def runtime(servers: Any) -> AsyncIterator[Runtime]:
    """A process that has its store and does not lead: nobody relays."""
    url = await servers.create_database("metrics")
    made = Runtime(service_of("inventory"), RuntimeSettings(database_url=SecretStr(url)))
    made.database = await open_database(url)
    await migrate(made.database)
    made.started = True
    yield made
    await made.database.close()


def relay_lag(runtime: Runtime) -> float:
    found = runtime.metrics.registry.get_sample_value("oms_relay_lag_events")
    assert found is not None
    return found


async def test_the_relay_is_behind_by_what_is_committed_and_not_acknowledged(runtime: Runtime) -> None:
    await runtime.measure()
    assert relay_lag(runtime) == 0

    async with runtime.database.acquire() as connection:
        await connection.execute(
            """insert into events
               select n, 's', n, 't', 'oms.stock', 'k', '', '', '', now(), '{}' from generate_series(1, 5) n"""
        )
        await runtime.measure()
        assert relay_lag(runtime) == 5

        await connection.execute("update relay set position = 3")
        await runtime.measure()
        assert relay_lag(runtime) == 2


async def test_without_its_database_the_lag_is_not_known(runtime: Runtime) -> None:
    await runtime.database.close()
    await runtime.measure()
    assert math.isnan(relay_lag(runtime))
