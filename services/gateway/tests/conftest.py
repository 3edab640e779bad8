"""Each test that asks for a gateway gets one of its own."""

from collections.abc import AsyncIterator

import pytest
from oms_local.testing import Servers

from services.gateway.tests.gateways import Gateway, open_gateway


@pytest.fixture(autouse=True)
def without_a_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs several test processes may set it, and the command line's lines would be cut to it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
async def gateway(servers: Servers) -> AsyncIterator[Gateway]:
    """A gateway over an empty database."""
    async with open_gateway(await servers.create_database("gateway")) as opened:
        yield opened
