"""Each test that asks for a door gets one of its own."""

from collections.abc import AsyncIterator

import pytest
from oms_local.testing import Servers

from services.gateway.tests.doors import Door, open_door


@pytest.fixture
async def door(servers: Servers) -> AsyncIterator[Door]:
    """A door over an empty database."""
    async with open_door(await servers.create_database("gateway")) as opened:
        yield opened
