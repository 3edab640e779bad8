"""A person is erased: nothing that may stay holds their data any more, and everything else goes on.

What may stay is every record on a topic that keeps records for ever, every table of every service, and every log. The topics that keep
records for 30 days are left out: they are what a person's data is allowed to be in for as long.
"""

import asyncio
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable
from functools import partial
from typing import Any

import httpx
from aiokafka import TopicPartition
from msgspec.structs import replace
from oms_client.publisher import Publisher, record_of
from oms_client.queries import QueryClient, poll
from oms_contracts.catalogue import ALL_SERVICES, SERVICES, TOPICS, party_topics
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import header
from oms_contracts.fulfillments import FulfillmentPlanned
from oms_contracts.message import decode, key_of
from oms_contracts.order_parts import Contact, Gift, Pickup, Risk
from oms_contracts.samples import example_order
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_demo.responses import responses_by_user
from oms_demo.simulators import make_app
from oms_kafka.clients import make_producer, partition_of
from oms_kafka.settings import settings_of
from oms_local.ports import LOOPBACK
from oms_local.stack import Stack
from oms_projection.tables import READ_MODELS_VERSION
from oms_projection.versions import schema_of
from oms_runtime.clock import utc_now
from oms_runtime.database import connect

from tests.command_line import oms
from tests.topics import PARTITIONS, reading

TIMEOUT_SECONDS = 60
EMAIL = "zebulon.quagmire@example.net"
PERSON = ("Zebulon Quagmire", EMAIL, "+49 30 7716253", "Quagmire & Sons", "DE811907980", "Sumpfweg 88b", "Hinterhof links")
NOTE, WISHES, ADDRESS = "the bell is broken, whistle", "from uncle Zeb", "198.51.100.77"
NEEDLES = (*PERSON, NOTE, WISHES, ADDRESS)
WEB = "channel:web"
OF_WEB = [TopicPartition(topic.name, number) for topic in party_topics("channel", "web") for number in range(topic.partitions)]
FOR_EVER = frozenset(topic.name for topic in TOPICS if topic.keeps_for_ever)


def order(reference: str, customer_id: str, email: str, *, marked: bool = False) -> OrderPlaced:
    """An order of two mugs; `marked` with everything by which the person to erase can be told."""
    placed = replace(example_order(), channel_reference=reference)
    placed = replace(placed, customer=replace(placed.customer, id=customer_id, email=email))
    if not marked:
        return placed
    name, _, phone, company, tax_id, street, line2 = PERSON
    assert placed.ship_to is not None
    home = replace(placed.ship_to, name=name, street=street, line2=line2, phone=phone, company=company)
    return replace(
        placed,
        customer=replace(placed.customer, name=name, phone=phone, company=company, tax_id=tax_id),
        ship_to=home,
        bill_to=home,
        pickup=Pickup(contact=Contact(name=name, phone=phone, email=email)),
        note=NOTE,
        gift=Gift(message=WISHES),
        risk=Risk(source_ip=ADDRESS, user_agent="Quagbrowser/1.0"),
    )


def spellings(needle: str) -> Iterable[bytes]:
    """How a text may lie in bytes: as it is, as JSON escapes it, in base64 at any alignment, in hexadecimal."""
    raw = needle.encode()
    yield raw
    yield json.dumps(needle)[1:-1].encode()
    yield raw.hex().encode()
    for shift in range(3):
        text = b64encode(bytes(shift) + raw).rstrip(b"=")
        yield text[4 if shift else 0 : -1 if len(raw + bytes(shift)) % 3 else None]


SPELLINGS = tuple(spelling for needle in NEEDLES for spelling in spellings(needle))


def named_in(content: bytes) -> list[bytes]:
    return [spelling for spelling in SPELLINGS if spelling in content]


async def found_on_topics(stack: Stack) -> set[str]:
    """The topics that have a record with the person's data in its key, value or headers, decompressed as a reader gets it."""
    found: set[str] = set()
    async with reading(stack) as reader:
        everything = (*PARTITIONS, *OF_WEB)
        reader.assign(everything)
        begins = await reader.beginning_offsets(everything)
        ends = {tp: end for tp, end in (await reader.end_offsets(everything)).items() if end > begins[tp]}
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                for record in records:
                    headers = b" ".join(value or b"" for _, value in record.headers)
                    if named_in((record.key or b"") + b" " + (record.value or b"") + b" " + headers):
                        found.add(tp.topic)
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
    return found


async def found_in_tables(stack: Stack) -> set[str]:
    """The tables of any service's database with a row that has the person's data."""
    found: set[str] = set()
    for service in ALL_SERVICES:
        connection = await connect(stack.database_url(service))
        try:
            tables = await connection.fetch(
                "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
            )
            for schema, table in tables:
                rows = await connection.fetch(f'select t::text as row from "{schema}"."{table}" t')  # noqa: S608  # the catalogue's names
                if any(named_in(row["row"].encode()) for row in rows):
                    found.add(f"{service}.{table}")
        finally:
            connection.terminate()
    return found


def found_in_logs(stack: Stack) -> set[str]:
    return {path.name for path in (stack.settings.data / "log").iterdir() if named_in(path.read_bytes())}


async def wait_for_status(query: QueryClient, placed: OrderPlaced, *statuses: str) -> Any:
    async def reached() -> Any:
        order = await query.find(f"/orders/{key_of(placed)}")
        return order if order and order["status"] in statuses else None

    found = await poll(reached, TIMEOUT_SECONDS)
    assert found is not None, await query.find(f"/orders/{key_of(placed)}")
    return found


async def publish(stack: Stack, user: str, *messages: object) -> None:
    async with Publisher(settings_of(stack.kafka(user)), f"/test/{user.replace(':', '/')}", utc_now) as publisher:
        await publisher.publish(messages)


async def publish_garbage(stack: Stack, placed: OrderPlaced) -> None:
    """The same order with a field that no order has: capture sets it aside."""
    key, value, headers = record_of(placed, source="/test/channel", event_id="garbage", now=utc_now())
    garbage = json.dumps(json.loads(value) | {"colour": "blue"}).encode()
    producer = make_producer(settings_of(stack.kafka(WEB)), "garbage")
    await producer.start()
    try:
        topic = "oms.channel.orders.web"
        partition = partition_of(key, len(await producer.partitions_for(topic)))
        await producer.send_and_wait(topic, key=key, value=garbage, headers=headers, partition=partition)
    finally:
        await producer.stop()


async def test_an_erased_person_is_nowhere_that_may_stay_and_all_else_goes_on(stack: Stack, query: QueryClient) -> None:
    placed, other = order("ERASE-1", "zeb", EMAIL, marked=True), order("ERASE-2", "ada", "ada@example.com")
    corrected = order("ERASE-3", "zeb", EMAIL, marked=True)
    goods = tuple(StockLine(sku=line.sku, location="BER-1", quantity=100) for line in placed.lines)
    await publish(stack, "warehouse:BER-1", ReceiveStock(receipt_id="ERASE", lines=goods))
    assert await poll(lambda: query.find(f"/stock/{placed.lines[0].sku}"), TIMEOUT_SECONDS)
    async with make_app(lambda user: settings_of(stack.kafka(user)), responses_by_user(["BER-1"])):
        await publish_garbage(stack, corrected)
        await publish(stack, WEB, placed, other)
        await wait_for_status(query, other, "completed")
        await wait_for_status(query, placed, "completed")
        assert await poll(partial(returns_until, query, placed), TIMEOUT_SECONDS)  # the last that is to happen to it
    before = await query.order(key_of(placed))
    assert before["customer_name"] == "Zebulon Quagmire"
    assert before["ship_to"]["street"] == "Sumpfweg 88b"
    for wanted in ({"name": "quagmire zebulon"}, {"email": EMAIL.upper()}):
        assert await searched(query, **wanted) == {key_of(placed)}

    # It is where it may be for 30 days, and what looks for it finds it there. A warehouse was told whom it ships to.
    assert await found_on_topics(stack) == {"oms.channel.orders.web", "oms.fulfillment-orders"}
    assert await found_in_tables(stack) == {"capture.dead_letters"}
    told = (await plans_for_warehouses(stack))[key_of(placed)].personal
    assert told is not None
    assert (told.ship_to, told.note, told.bill_to, told.risk) == (placed.ship_to, NOTE, None, None)
    letter = json.loads(await oms(stack, "dead-letters", "list", "--json"))["dead_letters"][0]["letter_id"]
    assert "colour" in await oms(stack, "dead-letters", "show", "capture", letter)
    exported = json.loads(await oms(stack, "customer", "export", "--channel", "web", "--id", "zeb"))
    assert [each["reference"] for each in exported["orders"]] == ["ERASE-1"]
    assert exported["orders"][0]["note"] == NOTE

    await oms(stack, "customer", "erase", "--email", EMAIL.upper(), "--reason", "asked to", "--request-id", "R-1", "--yes")

    async def erased() -> Any:
        order = await query.order(key_of(placed))
        return order if order["customer_erased"] else None

    after = await poll(erased, TIMEOUT_SECONDS)
    assert after is not None
    assert json.dumps(after).find("Quagmire") < 0
    gone = ("customer_id", "customer_email", "customer_name", "customer_phone", "ship_to", "bill_to", "pickup", "note", "gift")
    assert after == before | dict.fromkeys(gone) | {"customer_erased": True}
    assert (await query.order(key_of(other)))["customer_email"] == "ada@example.com"
    assert FOR_EVER & await found_on_topics(stack) == set()
    assert await found_in_tables(stack) == set()
    assert found_in_logs(stack) == set()
    assert json.loads(await oms(stack, "customer", "find", "--email", EMAIL, "--json"))["customers"] == []
    await oms(stack, "customer", "export", "--channel", "web", "--id", "zeb", code=1)
    for wanted in ({"name": "Zebulon Quagmire"}, {"email": EMAIL}, {"q": "Quagmire"}):
        assert await searched(query, **wanted) == set()

    # The keys and the hashes are gone from every store, and the newest record of each key says so.
    assert await wrapped_keys_left(stack, key_count=1) == {"capture": 1, "fulfillment": 1, "projection": 1}
    # The same request again changes nothing; another finds nothing.
    await oms(stack, "customer", "erase", "--email", EMAIL, "--reason", "again", "--request-id", "R-2", "--yes", code=1)

    await check_audits(stack)

    # The person may come back, as somebody new.
    again = order("ERASE-4", "zeb", EMAIL, marked=True)
    await publish(stack, WEB, again)
    back = await poll(partial(query.find, f"/orders/{key_of(again)}"), TIMEOUT_SECONDS)
    assert back is not None
    assert await poll(partial(named, query, again), TIMEOUT_SECONDS) == "Zebulon Quagmire"
    assert (await query.order(key_of(placed)))["customer_erased"]


async def check_audits(stack: Stack) -> None:
    """States and read models are what their events fold to."""
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        for service in SERVICES:
            audit = (await client.get(f"http://{LOOPBACK}:{stack.settings.operations_port_of(service)}/audit")).json()
            assert audit["ok"], audit
    verified = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "oms_projection", "read-models", "verify"],
        env=stack.environment("projection") | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def returns_until(query: QueryClient, placed: OrderPlaced) -> str | None:
    return (await query.order(key_of(placed)))["returns_until"]


async def searched(query: QueryClient, **wanted: str) -> set[str]:
    """The orders that a search finds."""
    return {hit["order_id"] for hit in (await query.post("/search", wanted))["items"]}


async def named(query: QueryClient, placed: OrderPlaced) -> str | None:
    return (await query.order(key_of(placed)))["customer_name"]


async def plans_for_warehouses(stack: Stack) -> dict[str, FulfillmentPlanned]:
    """What oms.fulfillment-orders tells warehouses, by order."""
    found: dict[str, FulfillmentPlanned] = {}
    own = [tp for tp in PARTITIONS if tp.topic == "oms.fulfillment-orders"]
    async with reading(stack) as reader:
        reader.assign(own)
        ends = {tp: end for tp, end in (await reader.end_offsets(own)).items() if end}
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                for record in records:
                    plan = decode(header(record.headers, "ce_type") or "", record.value or b"")
                    found[plan.order_id] = plan
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
    return found


async def wrapped_keys_left(stack: Stack, *, key_count: int) -> dict[str, int]:
    """How many keys each store still has, with the hashes of words, once that is `key_count` in all of them."""
    tables = {
        "capture": "customer_keys",
        "fulfillment": "customer_keys",
        "projection": f"{schema_of(READ_MODELS_VERSION)}.customers",
    }
    left = "select count(*) from {} where (wrapped_key <> '' and words <> '{{}}') or customer <> '' or email <> '' or words <> '{{}}'"
    queries = {service: left.format(table) for service, table in tables.items()}

    async def counted() -> dict[str, int] | None:
        counts: dict[str, int] = {}
        for service, text in queries.items():
            connection = await connect(stack.database_url(service))
            try:
                counts[service] = await connection.fetchval(text)
            finally:
                connection.terminate()
        return counts if set(counts.values()) == {key_count} else None

    found = await poll(counted, TIMEOUT_SECONDS)
    assert found is not None
    return found


async def test_a_restored_store_has_the_keys_again_that_it_lost_and_not_those_that_were_erased(stack: Stack, query: QueryClient) -> None:
    early, late = order("KEYS-1", "early", "early@example.com"), order("KEYS-2", "late", "late@example.com")
    await publish(stack, WEB, early)
    assert await poll(partial(named_or_none, query, early), TIMEOUT_SECONDS)
    await asyncio.to_thread(stack.stop_part, "capture")
    await administer(stack, "create database capture_backup template oms_capture owner oms_capture")
    await asyncio.to_thread(stack.start_part, "capture")
    await publish(stack, WEB, late)
    assert await poll(partial(named_or_none, query, late), TIMEOUT_SECONDS)
    await oms(stack, "customer", "erase", "--channel", "web", "--id", "early", "--reason", "asked to", "--yes")
    await asyncio.to_thread(stack.stop_part, "capture")
    await administer(stack, "drop database oms_capture with (force)", "alter database capture_backup rename to oms_capture")
    report = json.loads(await oms(stack, "store", "recover", "capture", "--json"))
    assert report["events_recovered"] > 0
    await asyncio.to_thread(stack.start_part, "capture")
    connection = await connect(stack.database_url("capture"))
    try:
        assert await connection.fetchval("select count(*) from customer_keys where wrapped_key = ''") >= 1
    finally:
        connection.terminate()
    # Its next order is sealed with the key that it had, and the erased customer gets a new one.
    for reference, customer in (("KEYS-3", "late"), ("KEYS-4", "early")):
        placed = order(reference, customer, f"{customer}@example.com")
        await publish(stack, WEB, placed)
        assert await poll(partial(named_or_none, query, placed), TIMEOUT_SECONDS)
    found = {
        name: json.loads(await oms(stack, "customer", "find", "--channel", "web", "--id", name, "--json")) for name in ("early", "late")
    }
    assert [each["orders"] for each in found["late"]["customers"]] == [2]
    assert [each["orders"] for each in found["early"]["customers"]] == [1]


async def named_or_none(query: QueryClient, placed: OrderPlaced) -> str | None:
    order = await query.find(f"/orders/{key_of(placed)}")
    return order and order["customer_id"]


async def administer(stack: Stack, *statements: str) -> None:
    connection = await connect(stack.database_url("admin"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        connection.terminate()
