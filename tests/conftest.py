"""The stack that the tests of several services share: a new one for each module."""

import os
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from oms_client.queries import QueryClient
from oms_local.ports import LOOPBACK
from oms_local.stack import Stack, StackSettings

TIMEOUT_SECONDS = 60
KEY = "key-of-the-gateway-in-these-tests"


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real broker, real database and all services, empty; its parameter is the number of replicas of each service.

    Unknown payments are looked up after 0.2 s instead of 5 s. The gateway takes KEY.
    """
    replicas: int = getattr(request, "param", 1)
    stack = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack"), replicas=replicas))
    shorter = {"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}
    stack.up(environment=shorter | {"OMS_GATEWAY_KEY": KEY}, owner=os.getpid())
    yield stack
    stack.down()


@pytest.fixture
async def query(stack: Stack) -> AsyncIterator[QueryClient]:
    """The stack's query API."""
    async with QueryClient(stack.query_url(), token=stack.query_token()) as client:
        yield client


@pytest.fixture
async def gateway(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The stack's gateway, with its key."""
    url, headers = f"http://{LOOPBACK}:{stack.settings.http_port_of('gateway')}", {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS) as client:
        yield client
