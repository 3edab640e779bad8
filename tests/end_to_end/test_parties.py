"""Parties outside on the real stack: what the credentials of a channel, a warehouse and a carrier can do, and what they cannot."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from oms_client.errors import ClientError, NotAllowed
from oms_client.publisher import Publisher
from oms_client.queries import poll
from oms_contracts.catalogue import ALL_SERVICES, party_topics
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import AcceptFulfillment, PackPackage, PickItems, ShipFulfillment
from oms_contracts.message import key_of
from oms_contracts.orders import CancelOrder
from oms_contracts.samples import example_order
from oms_contracts.sscc import check_digit
from oms_contracts.stock import ReceiveStock
from oms_contracts.tracking import RecordScan
from oms_contracts.values import AllocatedLine, StockLine
from oms_kafka.clients import make_producer, partition_of
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackSettings
from oms_runtime.clock import utc_now
from oms_runtime.database import connect

TIMEOUT_SECONDS = 90
SERVED_SECONDS = 30
"""For the services to read the topics of a party that came while they ran."""
PACKAGE = f"{340123450000000017:017}"[:17]
SSCC = f"{PACKAGE}{check_digit(PACKAGE)}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack")))
    made.up(services=ALL_SERVICES, owner=os.getpid())
    yield made
    made.abandon()


def oms(stack: Stack, *words: str, code: int = 0, given: str | None = None) -> Any:
    """Run `oms` on the stack with `--json`; the document, or the text of the error."""
    named = {"OMS_STACK_DATA": str(stack.settings.data), "OMS_STACK_KAFKA_PORT": str(stack.settings.kafka_port)}
    named |= {"OMS_STACK_POSTGRES_PORT": str(stack.settings.postgres_port), "OMS_STACK_HTTP_PORT": str(stack.settings.http_port)}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OMS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "oms_cli", *words, "--json"],
        env=others | named,
        input=given,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if not code else done.stderr


def credentials(made: dict[str, Any], password: str | None = None) -> dict[str, str]:
    return {"bootstrap_servers": made["bootstrap_servers"], "username": made["user"], "password": password or made["password"]}


Party = Callable[[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def party(stack: Stack) -> Party:
    """The credentials of a party, as `oms` shows them when it is added, while the services run."""
    known: dict[str, dict[str, str]] = {}

    def add(kind: str, name: str) -> dict[str, str]:
        if (user := f"{kind}:{name}") not in known:
            known[user] = credentials(oms(stack, kind, "add", name))
        return known[user]

    return add


async def publish(kafka: dict[str, str], *messages: Any, topic: str | None = None) -> None:
    async with Publisher(settings_of(kafka), "/test", utc_now) as publisher:
        await publisher.publish(messages, topic=topic)


async def garbage(kafka: dict[str, str], topic: str, key: str) -> None:
    producer = make_producer(settings_of(kafka), "garbage")
    await producer.start()
    try:
        partition = partition_of(key.encode(), len(await producer.partitions_for(topic)))
        await producer.send_and_wait(topic, key=key.encode(), value=b"{garbage", headers=[], partition=partition)
    finally:
        await producer.stop()


async def found(stack: Stack, service: str, query: str, *arguments: object, seconds: float = TIMEOUT_SECONDS) -> list[Any]:
    """The rows of a query on a service's store, as soon as there are any."""
    connection = await connect(stack.database_url(service))

    async def ask() -> list[Any] | None:
        return [tuple(row) for row in await connection.fetch(query, *arguments)] or None

    try:
        rows = await poll(ask, seconds)
        assert rows is not None, (service, query, arguments)
        return rows
    finally:
        connection.terminate()


def event(stack: Stack, service: str, name: str, key: str, *, seconds: float = TIMEOUT_SECONDS) -> Awaitable[list[Any]]:
    """The actors of the events of a type under a key."""
    return found(stack, service, "select actor from events where type like $1 and key = $2", f"%.{name}.v%", key, seconds=seconds)


def reasons(stack: Stack, service: str, topic: str, key: str) -> Awaitable[list[Any]]:
    query = "select reason from dead_letters where source_topic = $1 and source_key = $2"
    return found(stack, service, query, topic, key)


def order(channel: str, reference: str) -> OrderPlaced:
    return replace(example_order(), channel=channel, channel_reference=reference)


async def test_a_channel_places_its_own_orders_and_no_others(stack: Stack, party: Party) -> None:
    web, till = party("channel", "web"), party("channel", "till")
    mine, theirs = order("web", "P-1"), order("till", "P-2")
    await publish(web, mine)
    await publish(web, theirs, topic="oms.channel.orders.web")

    assert await event(stack, "capture", "OrderAccepted", key_of(mine), seconds=SERVED_SECONDS) == [("channel:web",)]
    [(reason,)] = await reasons(stack, "capture", "oms.channel.orders.web", key_of(theirs))
    assert reason == "UnreadableMessage: channel: is 'till', and this is the topic of channel 'web'"
    for topic in ("oms.channel.orders", "oms.channel.orders.till", "oms.capture.commands"):
        with pytest.raises(NotAllowed):
            await publish(web, mine, topic=topic)

    # What somebody else sent under the order's id delays it not.
    await publish(till, theirs)
    assert await event(stack, "capture", "OrderAccepted", key_of(theirs)) == [("channel:till",)]


async def test_a_channel_cancels_its_own_order_and_nobody_else_can_cancel_or_delay_it(stack: Stack, party: Party) -> None:
    web, till = party("channel", "web"), party("channel", "till")
    mine = order("web", "P-3")
    key = key_of(mine)
    await garbage(till, "oms.channel.orders.till", key)
    await reasons(stack, "capture", "oms.channel.orders.till", key)
    await publish(web, mine)
    await event(stack, "capture", "OrderAccepted", key)
    other = order("web", "P-4")
    await publish(web, other)
    await event(stack, "capture", "OrderAccepted", key_of(other))
    await publish(till, CancelOrder(order_id=key_of(other), reason="not mine"))
    assert await event(stack, "capture", "OrderCommandRefused", key_of(other)) == [("channel:till",)]

    await publish(web, CancelOrder(order_id=key, reason="changed my mind"), CancelOrder(order_id=key_of(other), reason="both"))
    assert await event(stack, "capture", "OrderCanceled", key) == [("channel:web",)]
    assert await event(stack, "capture", "OrderCanceled", key_of(other)) == [("channel:web",)]


async def test_a_warehouse_and_a_carrier_speak_of_what_is_theirs(stack: Stack, party: Party) -> None:
    here, there = party("warehouse", "BER-1"), party("warehouse", "HAM-2")
    placed = order("web", "P-5")
    order_id, [line] = key_of(placed), placed.lines
    goods = StockLine(sku=line.sku, location="BER-1", quantity=10)
    await publish(there, ReceiveStock(receipt_id="THEIRS", lines=(goods,)))
    await publish(here, ReceiveStock(receipt_id="OURS", lines=(goods,)))
    assert await event(stack, "inventory", "StockReceived", "OURS", seconds=SERVED_SECONDS) == [("warehouse:BER-1",)]
    [(reason,)] = await reasons(stack, "inventory", "oms.inventory.commands.HAM-2", "THEIRS")
    assert reason == "UnreadableMessage: lines.0.location: is 'BER-1', and this is the topic of warehouse 'HAM-2'"

    await publish(party("channel", "web"), placed)
    await event(stack, "fulfillment", "FulfillmentPlanned", order_id)
    ids = {"order_id": order_id, "fulfillment_id": f"{order_id}/BER-1"}
    await publish(there, AcceptFulfillment(**ids))
    assert await event(stack, "fulfillment", "FulfillmentCommandRefused", order_id) == [("warehouse:HAM-2",)]
    packed = (AllocatedLine(line_id=line.line_id, sku=line.sku, location="BER-1", quantity=line.quantity),)
    await publish(
        here,
        AcceptFulfillment(**ids),
        PickItems(**ids),
        PackPackage(**ids, package_id=SSCC, lines=packed),
        ShipFulfillment(**ids, carrier="DHL", tracking_numbers=("N-1",)),
    )
    assert await event(stack, "fulfillment", "FulfillmentShipped", order_id) == [("warehouse:BER-1",)]

    await event(stack, "tracking", "LabelCreated", order_id)
    scan = RecordScan(order_id=order_id, package_id=SSCC, scan_id="S-1", status="delivered", at=utc_now())
    await publish(party("carrier", "UPS"), scan)
    assert await event(stack, "tracking", "TrackingCommandRefused", order_id, seconds=SERVED_SECONDS) == [("carrier:UPS",)]
    await publish(party("carrier", "DHL"), scan)
    assert await event(stack, "tracking", "PackageDelivered", order_id, seconds=SERVED_SECONDS) == [("carrier:DHL",)]


async def test_a_party_is_listed_gets_a_new_password_and_is_removed(stack: Stack, party: Party) -> None:
    old = party("channel", "app")
    topics = [topic.name for topic in party_topics("channel", "app")]
    assert "password" not in oms(stack, "channel", "add", "app")
    new = credentials(oms(stack, "channel", "add", "app", "--new-password"))
    await publish(new, order("app", "P-6"))
    assert await event(stack, "capture", "OrderAccepted", key_of(order("app", "P-6")), seconds=SERVED_SECONDS) == [("channel:app",)]
    with pytest.raises(ClientError):
        await publish(old, order("app", "P-7"))
    chosen = "a-password-of-their-own"
    made = oms(stack, "channel", "add", "app", "--password-from-stdin", given=f"{chosen}\n")
    assert "password" not in made
    theirs = credentials(made, chosen)
    await publish(theirs, order("app", "P-8"))

    stack.up(services=())  # the installation is provisioned again
    await publish(theirs, order("app", "P-9"))
    async with Publisher(settings_of(theirs), "/test", utc_now) as connected:
        await connected.publish([order("app", "P-10")])
        removed = oms(stack, "channel", "remove", "app")
        assert (removed["has_user"], removed["topics"]) == (False, topics)
        with pytest.raises(NotAllowed):  # a connection that is open may do nothing any more
            await connected.publish([order("app", "P-11")])
    with pytest.raises(ClientError):
        await publish(theirs, order("app", "P-12"))
    for reference in ("P-8", "P-10"):  # what it sent before is taken
        assert await event(stack, "capture", "OrderAccepted", key_of(order("app", reference))) == [("channel:app",)]

    listed = {found["name"]: found["has_user"] for found in oms(stack, "channel", "list")}
    assert listed["app"] is False
    assert "there is no user of channel app" in oms(stack, "channel", "remove", "app", code=1)


def test_a_name_that_topics_cannot_bear_is_refused(stack: Stack) -> None:
    assert "Kafka's topics cannot bear" in oms(stack, "warehouse", "add", "Köln 1", code=2)
    oms(stack, "carrier", "add", "a.b")
    assert "does not tell dots from _" in oms(stack, "carrier", "add", "a_b", code=2)
