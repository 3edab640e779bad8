"""The stack that the tests of several services share: a new one for each module."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from oms_client.queries import QueryClient
from oms_local.stack import Stack, StackSettings


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real broker, real database and all services, empty; its parameter is the number of replicas of each service.

    Unknown payments are looked up after 0.2 s instead of 5 s.
    """
    replicas: int = getattr(request, "param", 1)
    stack = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack"), replicas=replicas))
    stack.up(environment={"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}, owner=os.getpid())
    yield stack
    stack.down()


@pytest.fixture
async def query(stack: Stack) -> AsyncIterator[QueryClient]:
    """The stack's query API."""
    async with QueryClient(stack.query_url(), token=stack.query_token()) as client:
        yield client
