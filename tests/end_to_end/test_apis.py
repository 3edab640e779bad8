"""The HTTP APIs are processes of their own: nothing that their clients send reaches the loop in which a service handles its records."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain, count, islice
from random import Random
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from msgspec.structs import replace
from oms_client.publisher import Publisher
from oms_client.queries import QueryClient, poll
from oms_contracts.catalogue import APIS
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode, key_of
from oms_contracts.orders import ENDED_STATUSES
from oms_contracts.samples import sample
from oms_demo.baskets import read_baskets, stock_for
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local.ports import LOOPBACK
from oms_local.stack import Stack
from oms_runtime.clock import utc_now
from oms_runtime.limits import HEAD_TIMEOUT_SECONDS
from oms_runtime.settings import OperationsSettings

from tests.conftest import KEY
from tests.end_to_end.floods import flooding
from tests.load.gateway import placing
from tests.load.phases import open_loop, publishing
from tests.load.usage import MIB, peak_memory
from tests.load.watch import Watch

TIMEOUT_SECONDS = 30
MAX_DELAY_SECONDS = 5
"""For an order on Kafka to be known while the API is flooded on two cores. When requests and batches shared a loop it took 19 s."""
ORDERS = "/api/v1/orders"
MISTAKES = 100_000
BODIES = 60
FLOOD_SECONDS = float(os.environ.get("OMS_TEST_FLOOD_SECONDS", "15"))
ORDERS_PER_SECOND = 10.0
"""On the topic, and as many through the gateway."""
MAX_ANSWER_SECONDS, USUAL_ANSWER_SECONDS = 5, 2
"""For any order through the gateway, and for nine of ten, while it is flooded in all ways at once by the same two cores."""
AT_REST_SECONDS = 90
"""For every order to be completed after that."""
MAX_MEMORY_BYTES = 150 * MIB
"""What the gateway may take more."""
MAX_CONNECTIONS = OperationsSettings().http_max_connections


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        yield client


def order(reference: str) -> OrderPlaced:
    return replace(sample(OrderPlaced), channel="web", channel_reference=reference)


async def known(query: QueryClient, placed: OrderPlaced, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
    """What the query API says of an order, once it knows it; None where that takes too long."""
    return await poll(lambda: query.find(f"/orders/{key_of(placed)}"), timeout_seconds)


async def test_orders_are_taken_while_capture_is_down_and_are_handled_when_it_is_back(
    stack: Stack, gateway: httpx.AsyncClient, query: QueryClient
) -> None:
    placed = order("API-1")
    await asyncio.to_thread(stack.stop_part, "capture")
    response = await gateway.post(ORDERS, content=encode(placed))
    assert response.status_code == 202, response.text
    await asyncio.to_thread(stack.start_part, "capture")
    assert (await known(query, placed))["reference"] == "API-1"
    shown = await gateway.get(response.json()["status_url"])
    assert (shown.status_code, shown.json()["reference"]) == (200, "API-1")


async def test_queries_are_answered_while_projection_is_down(stack: Stack, query: QueryClient) -> None:
    await asyncio.to_thread(stack.stop_part, "projection")
    try:
        assert await query.get("/outcomes") is not None
    finally:
        await asyncio.to_thread(stack.start_part, "projection")


async def test_the_gateway_takes_orders_from_who_shows_its_key_alone(stack: Stack, gateway: httpx.AsyncClient) -> None:
    for shown in ("", f"Bearer {stack.query_token()}"):
        response = await gateway.post(ORDERS, content=encode(order("API-0")), headers={"authorization": shown})
        assert response.status_code == 401


async def test_the_gateway_serves_while_the_query_api_is_down(stack: Stack, gateway: httpx.AsyncClient) -> None:
    await asyncio.to_thread(stack.stop_part, "projection-api")
    try:
        assert (await gateway.get(f"{ORDERS}/any")).status_code == 503
        assert (await gateway.post(ORDERS, content=encode(order("API-3")))).status_code == 202
        assert next(part for part in stack.status() if part.name == "gateway").ready
    finally:
        await asyncio.to_thread(stack.start_part, "projection-api")


async def test_queries_are_answered_to_the_service_credential_alone(stack: Stack, client: httpx.AsyncClient) -> None:
    for path in ("/orders", "/customers", "/audits/money", "/nowhere"):
        for headers in ({}, {"authorization": f"Bearer {stack.query_token()[1:]}"}):
            response = await client.post(f"{stack.query_url()}{path}", json={}, headers=headers)
            assert (response.status_code, response.json()["status"]) == (401, 401)
    headers = {"authorization": f"Bearer {stack.query_token()}"}
    assert (await client.get(f"{stack.query_url()}/orders", headers=headers)).status_code == 200
    assert (await client.get(f"{stack.query_url()}/docs")).status_code == 200


async def test_bodies_full_of_mistakes_do_not_delay_the_orders_of_channels(
    stack: Stack, gateway: httpx.AsyncClient, query: QueryClient
) -> None:
    wrong = msgspec.json.encode({"lines": [0] * MISTAKES})
    async with Publisher(settings_of(stack.kafka("channel:web")), "/test/channel", utc_now) as publisher:
        first = order("API-0")  # the topic of a new channel is read some seconds later
        await publisher.publish([first])
        assert await known(query, first, TIMEOUT_SECONDS)
    flood = [asyncio.create_task(gateway.post(ORDERS, content=wrong)) for _ in range(BODIES)]
    async with Publisher(settings_of(stack.kafka("channel:web")), "/test/channel", utc_now) as publisher:
        placed = order("API-2")
        await publisher.publish([placed])
        assert await known(query, placed, MAX_DELAY_SECONDS)
    assert {response.status_code for response in await asyncio.gather(*flood)} == {422}


@pytest.mark.parametrize("api", APIS)
async def test_a_flood_of_connections_leaves_health_and_metrics_alone(stack: Stack, client: httpx.AsyncClient, api: str) -> None:
    port = stack.settings.http_port_of(APIS[api])
    operations = f"http://{LOOPBACK}:{stack.settings.operations_port_of(api)}"
    async with AsyncExitStack() as connections:
        for _ in range(MAX_CONNECTIONS):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            connections.callback(writer.close)
            writer.write(b"GET / HTTP/1.1\r\n")
        page = "docs/" if api == "gateway" else "docs"  # the gateway has a folder of files there
        refused = partial(_status, client, f"http://{LOOPBACK}:{port}/{page}")
        assert await poll(partial(_when, refused, 503), TIMEOUT_SECONDS)
        assert await _status(client, f"{operations}/ready") == 200
        assert 'oms_http_responses_total{part="' in (await client.get(f"{operations}/metrics")).text
    assert await _status(client, f"{operations}/audit") == 404
    assert await poll(partial(_when, refused, 200), TIMEOUT_SECONDS)


@pytest.mark.alone
async def test_floods_of_the_gateway_keep_no_order_from_being_answered_and_completed(stack: Stack, query: QueryClient) -> None:
    number = round(FLOOD_SECONDS * ORDERS_PER_SECOND)
    orders = list(islice(chain.from_iterable(read_baskets(1, round_number=turn) for turn in count(1)), 2 * number))
    port, pid = stack.settings.http_port_of("gateway"), next(part.pid for part in stack.status() if part.name == "gateway")
    assert pid is not None
    watch, random = Watch(stack), Random(1)
    watch.expect(key_of(order) for order in orders)
    async with AsyncExitStack() as meanwhile:
        await meanwhile.enter_async_context(make_app(lambda user: settings_of(stack.kafka(user))))
        watching = asyncio.create_task(watch.run())
        meanwhile.callback(watching.cancel)
        async with Publisher(settings_of(stack.kafka("operator")), "/test/warehouse", utc_now) as publisher:
            await publisher.publish(stock_for(orders, 1))
        publish = await meanwhile.enter_async_context(publishing(stack))
        place = await meanwhile.enter_async_context(placing(stack))
        on_topic, through_gateway = [publish(order) for order in orders[:number]], [place(order) for order in orders[number:]]
        before = psutil.Process(pid).memory_info().rss
        with flooding(port, KEY) as counts:
            looks = asyncio.create_task(_look_at(stack, pid))
            answered, _ = await asyncio.gather(
                open_loop(through_gateway, ORDERS_PER_SECOND, random), open_loop(on_topic, ORDERS_PER_SECOND, random)
            )
            looks.cancel()
        await watch.at_rest(AT_REST_SECONDS, lambda _count: None)
    usual, worst = sorted(answered.taken)[number * 9 // 10 - 1], max(answered.taken)
    assert usual <= USUAL_ANSWER_SECONDS, f"one order of ten was answered after {usual:.1f} s or more; {counts}"
    assert worst <= MAX_ANSWER_SECONDS, f"an order was answered after {worst:.1f} s; {counts}"
    assert _most_memory(pid) - before <= MAX_MEMORY_BYTES, counts
    assert not looks.done() or looks.cancelled(), looks.exception()
    # The floods came to what they should.
    for came in ("not JSON 422", "many mistakes 422", "unknown path 404", "wrong password 401", "wrong password 429", "connection 503"):
        assert counts[came], (came, counts)
    for came in ("slow head closed", "slow body 408"):
        assert counts[came] or FLOOD_SECONDS < HEAD_TIMEOUT_SECONDS, (came, counts)

    async def ended() -> bool | None:
        shown = await query.get(f"/orders/{key_of(orders[-1])}")
        return shown["status"] in ENDED_STATUSES or None

    assert await poll(ended, TIMEOUT_SECONDS)  # the topics have it, and projection follows


async def _look_at(stack: Stack, pid: int) -> None:
    """Raise when the gateway says of itself that it is not well, or takes too long to say anything."""
    operations = f"http://{LOOPBACK}:{stack.settings.operations_port_of('gateway')}"
    async with httpx.AsyncClient(timeout=MAX_ANSWER_SECONDS) as client:
        while True:
            for path in ("/live", "/ready"):
                assert await _status(client, f"{operations}{path}") == 200, path
            await asyncio.sleep(0.5)  # as often as a probe may ask: it ends with the flood


def _most_memory(pid: int) -> float:
    """Bytes of resident memory at the most, since the process began."""
    return peak_memory({"gateway": pid})["gateway"] * MIB


async def _status(client: httpx.AsyncClient, url: str) -> int:
    return (await client.get(url)).status_code


async def _when(ask: Any, status: int) -> bool | None:
    return True if await ask() == status else None
