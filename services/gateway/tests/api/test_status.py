"""The status of orders as it changes: server-sent events over a real HTTP server, from a real broker."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
from oms_client.publisher import Sender
from oms_contracts.message import decode
from oms_contracts.samples import sample
from oms_contracts.tracking import OrderStatusChanged
from oms_gateway.api import make_api
from oms_gateway.refusals import Invalid
from oms_gateway.status import Change, Filter, StatusFeed, Stream, offsets_of

from services.gateway.tests.api.conftest import NOW, Gateway, running, serving

TIMEOUT_SECONDS = 30

Events = AsyncGenerator[dict[str, str]]


def change(order_id: str, channel: str = "web", sequence: int = 1) -> OrderStatusChanged:
    return msgspec.structs.replace(sample(OrderStatusChanged), order_id=order_id, channel=channel, sequence=sequence)


async def publish(gateway: Gateway, *changes: OrderStatusChanged) -> None:
    sender: Any = gateway.parts.publisher
    assert isinstance(sender, Sender)
    for number, each in enumerate(changes):
        await sender.send(each, "/oms/tracking", f"{each.order_id}-{each.sequence}", NOW + timedelta(seconds=number))


@asynccontextmanager
async def feeding(gateway: Gateway, **options: Any) -> AsyncGenerator[str]:
    """The URL of a gateway whose feed reads."""
    chosen: dict[str, Any] = {"stream_seconds": TIMEOUT_SECONDS, "heartbeat_seconds": 0.2} | options
    feed = StatusFeed(gateway.kafka, **chosen)
    async with running(feed.run()), serving(make_api(replace(gateway.parts, statuses=feed))) as url:
        yield f"{url}/api/v1/status"


@asynccontextmanager
async def listening(url: str, name: str = "operator", last: str | None = None, **parameters: str) -> AsyncGenerator[Events]:
    """The events of a stream, once it is open."""
    headers = {"authorization": f"Bearer {name}"} | ({"last-event-id": last} if last else {})
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client, asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            async with client.stream("GET", url, params=parameters, headers=headers) as response:
                if response.status_code == 503 and "not read yet" in (await response.aread()).decode():
                    continue
                assert response.status_code == 200, response.status_code
                assert response.headers["content-type"].startswith("text/event-stream")
                async with aclosing(parsed(response)) as events:
                    yield events
                    return


async def parsed(response: httpx.Response) -> Events:
    """Each part of a stream: its fields, comments under the empty name."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif fields:
            yield fields
            fields = {}


async def opened(events: Events) -> str:
    """The id with which a stream begins."""
    async for event in events:
        if event.get("") == "open":
            return event["id"]
    raise AssertionError("the stream ended")


async def next_change(events: Events) -> tuple[OrderStatusChanged, str]:
    """The next change and its id."""
    async for event in events:
        if event.get("event") == "status":
            return decode("oms.tracking.OrderStatusChanged.v1", event["data"].encode()), event["id"]
    raise AssertionError("the stream ended")


async def test_changes_are_told_as_they_happen(gateway: Gateway, unused: Callable[[str], str]) -> None:
    await publish(gateway, change(unused("before")))
    async with feeding(gateway) as url, listening(url) as events:
        await opened(events)
        told = change(unused("o"))
        await publish(gateway, told)
        assert (await next_change(events))[0] == told


async def test_a_client_that_connects_again_goes_on_where_it_was_in_another_process_too(
    gateway: Gateway, unused: Callable[[str], str]
) -> None:
    first, missed, later = (change(unused("o")) for _ in range(3))
    async with feeding(gateway) as url:
        async with listening(url) as events:
            await opened(events)
            await publish(gateway, first)
            _, last = await next_change(events)
        await publish(gateway, missed)
        async with listening(url, last=last) as events:
            assert (await next_change(events))[0] == missed
    async with feeding(gateway) as url, listening(url, last=last) as events:
        assert (await next_change(events))[0] == missed
        await publish(gateway, later)
        assert (await next_change(events))[0] == later


async def test_a_stream_that_told_nothing_can_be_gone_on_with(gateway: Gateway, unused: Callable[[str], str]) -> None:
    async with feeding(gateway) as url:
        async with listening(url, order_id="none") as events:
            await opened(events)
            await publish(gateway, told := change(unused("o")))
            last = (await anext(events))["id"]
        async with listening(url, last=last) as events:
            assert (await next_change(events))[0] == told


async def test_who_was_away_for_too_long_is_told_so(gateway: Gateway, unused: Callable[[str], str]) -> None:
    async with feeding(gateway) as url, listening(url) as events:
        last = await opened(events)
    await publish(gateway, *(change(unused("o")) for _ in range(40)))
    async with feeding(gateway, max_kept=3) as url, listening(url, last=last) as events:
        told = [await anext(events), await anext(events)]
    assert told[1]["event"] == "gap"


async def test_changes_are_filtered_by_order_and_channel(gateway: Gateway, unused: Callable[[str], str]) -> None:
    mine, other = change(unused("o"), "till"), change(unused("o"), "web")
    async with (
        feeding(gateway) as url,
        listening(url, order_id=mine.order_id) as by_order,
        listening(url, channel="till") as by_channel,
        listening(url, "till") as by_key,
    ):
        for events in (by_order, by_channel, by_key):
            await opened(events)
        await publish(gateway, other, mine)
        for events in (by_order, by_channel, by_key):
            assert (await next_change(events))[0] == mine


async def test_a_silent_stream_has_heartbeats_and_ends(gateway: Gateway) -> None:
    async with feeding(gateway, stream_seconds=0.5) as url, listening(url, order_id="none") as events:
        told = [event async for event in events]
    assert told[0] == {"retry": "1000"}
    assert [event[""] for event in told[1:]].count("still here") >= 2


async def test_only_so_many_streams_are_open(gateway: Gateway) -> None:
    async with feeding(gateway, max_streams=2, max_streams_each=1) as url:
        async with listening(url) as first, listening(url, "viewer") as second, httpx.AsyncClient(trust_env=False) as client:
            await opened(first)
            await opened(second)
            for name in ("operator", "admin"):
                refused = await client.get(url, headers={"authorization": f"Bearer {name}"})
                assert (refused.status_code, refused.json()["title"]) == (503, "there are too many streams")
        async with listening(url, "admin") as events:  # those that left have made room
            await opened(events)


@pytest.mark.parametrize(
    ("name", "asked", "headers", "status"),
    [
        ("nothing", "", {}, 403),
        ("shop", "?channel=till", {}, 403),
        ("operator", "?colour=red", {}, 422),
        ("operator", "", {"last-event-id": "yesterday"}, 422),
        (None, "", {}, 401),
    ],
)
async def test_a_stream_that_may_not_be_is_refused(
    gateway: Gateway, name: str | None, asked: str, headers: dict[str, str], status: int
) -> None:
    async with gateway.client(name) as client:
        response = await client.get(f"/status{asked}", headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_client_that_is_too_slow_is_left_behind() -> None:
    stream = Stream(Filter(), {}, max_waiting=2)
    for offset in range(3):
        stream.put(Change(0, offset, "o", "web", f"0:{offset + 1}", "{}"))
    assert stream.too_slow
    assert [each.offset for each in await stream.take(0)] == [0, 1]


def test_an_id_is_read_strictly() -> None:
    assert offsets_of(None) is None
    assert offsets_of("0:5,11:900") == {0: 5, 11: 900}
    for wrong in ("0", "0:", "a:1", "0:1,", "0:1;1:2", "0:" + "9" * 19, ",".join(["0:1"] * 2_000)):
        with pytest.raises(Invalid):
            offsets_of(wrong)
