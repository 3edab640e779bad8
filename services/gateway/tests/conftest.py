"""Each test that asks for a gateway gets one of its own."""

from collections.abc import AsyncIterator

import pytest
from oms_local.testing import Servers

from services.gateway.tests.gateways import Gateway, open_gateway


@pytest.fixture
async def gateway(servers: Servers) -> AsyncIterator[Gateway]:
    """A gateway over an empty database."""
    async with open_gateway(await servers.create_database("gateway")) as opened:
        yield opened
