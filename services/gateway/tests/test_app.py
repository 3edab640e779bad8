"""The gateway on a real broker and a real database: how it starts, and what it says when one of them is away."""

from typing import Any

import pytest
from oms_gateway.app import fault, gateway
from oms_gateway.settings import Settings
from oms_provision.sql import session
from pydantic import SecretStr

NOBODY = "127.0.0.1:1"
"""Where nothing answers."""


@pytest.fixture
async def settings(servers: Any) -> Settings:
    user, password = servers.kafka["username"], servers.kafka["password"]
    return Settings(
        kafka_bootstrap_servers=servers.kafka["bootstrap_servers"],
        kafka_username=user,
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(await servers.create_database("gateway")),
        query_token=SecretStr("t" * 32),
    )


async def test_it_starts_on_an_empty_database_and_again_and_makes_no_table_of_a_service(settings: Settings) -> None:
    for _ in range(2):
        async with gateway(settings) as app:
            assert app.title == "Orderstream"
    async with session(settings.database_url.get_secret_value()) as connection:
        assert await connection.fetchval("select to_regclass('migrations') is not null and to_regclass('events') is null")


async def test_it_says_which_of_its_servers_is_away(settings: Settings) -> None:
    assert await fault(settings) == ""
    without_broker = settings.model_copy(update={"kafka_bootstrap_servers": NOBODY})
    assert (await fault(without_broker)).startswith("the broker cannot be reached")
    without_database = settings.model_copy(update={"database_url": SecretStr(f"postgresql://gateway@{NOBODY}/gateway")})
    assert (await fault(without_database)).startswith("the database does not answer: ")
