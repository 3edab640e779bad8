"""Sealing and erasure beside capture's decisions, on a real PostgreSQL."""

import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
import pytest_asyncio
from msgspec.structs import replace
from oms_adapters.decisions import Arrived
from oms_capture.commands import PlaceOrder, TakeWebhook
from oms_capture.customers import MAX_WORDS, TOPIC, Customers, concerns, disclose, personal_data_of
from oms_capture.policies import on_order_placed
from oms_contracts.channel import OrderPlaced
from oms_contracts.customers import CustomerErased, CustomerKeyErased, CustomerKeyIssued, EraseCustomer
from oms_contracts.message import decode, encode, type_of
from oms_contracts.orders import OrderAccepted
from oms_contracts.samples import example_order, sample
from oms_runtime.customer_keys import open_sealed, word_hashes
from oms_runtime.database import Connection, connect, migrate, open_database
from oms_runtime.errors import WrongInstallationKey
from oms_runtime.model import Cause, CausedCommands
from oms_runtime.sealing import KEY_BYTES, Sealer
from oms_runtime.store import insert_events
from oms_runtime.unit_of_work import UnitOfWork

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CAUSE = Cause("c", "c")
SEALER = Sealer(bytes(KEY_BYTES))


class Servers(Protocol):
    async def create_database(self, name: str) -> str: ...


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def url(servers: Servers) -> str:
    url = await servers.create_database("customers")
    database = await open_database(url)
    await migrate(database)
    await database.close()
    return url


@pytest_asyncio.fixture(loop_scope="session")
async def connection(url: str) -> AsyncIterator[Connection]:
    """A transaction that is rolled back."""
    connection = await connect(url)
    async with connection.transaction():
        await connection.execute("truncate customer_keys, events, dead_letters")
        yield connection
    connection.terminate()


@pytest.fixture
def customers() -> Customers:
    return Customers(SEALER, secrets.token_bytes)


def order(reference: str, customer_id: str = "ada", email: str | None = "ada@example.com") -> OrderPlaced:
    placed = replace(example_order(), channel_reference=reference)
    return replace(placed, customer=replace(placed.customer, id=customer_id, email=email))


def placing(*orders: OrderPlaced) -> CausedCommands:
    return [(command, CAUSE) for placed in orders for command in on_order_placed(placed)]


def unit(base: int = 0) -> UnitOfWork:
    return UnitOfWork(None, {}, dict.fromkeys((TOPIC, "oms.orders"), 10**6), base=base, now=NOON, cached={})


async def accept(connection: Connection, customers: Customers, *orders: OrderPlaced, base: int = 0) -> tuple[UnitOfWork, list[PlaceOrder]]:
    """What the transaction that accepts `orders` does: the unit of work, and the commands as they were decided."""
    prepared = await customers.prepare(connection, placing(*orders))
    work, commands = unit(base), [command for command, _ in prepared]
    for command in commands:
        work.append(replace(sample(OrderAccepted), order_id=command.order_id), command.order_id, 1, "oms.orders", CAUSE)
    await customers.conclude(connection, work, prepared)
    await insert_events(connection, work.events)
    return work, commands


async def erase(connection: Connection, customers: Customers, work: UnitOfWork, **wanted: str) -> list[Any]:
    """The events of an erasure."""
    before = len(work.events)
    await customers.conclude(connection, work, [(EraseCustomer(reason="asked to", **{"request_id": "r", **wanted}), CAUSE)])
    return [decode(event.type, event.data.encode()) for event in work.events[before:]]


def keys_of(work: UnitOfWork) -> list[str]:
    issued = [decode(event.type, event.data.encode()) for event in work.events if event.topic == TOPIC]
    return [event.key_id for event in issued if isinstance(event, CustomerKeyIssued)]


async def test_orders_of_a_new_customer_get_one_key_that_opens_them(connection: Connection, customers: Customers) -> None:
    one, other = order("1"), order("2")
    work, commands = await accept(connection, customers, one, other)
    assert len(keys_of(work)) == 1
    sealed = {command.order_id: command.sealed for command in commands if command.sealed}
    opened = await open_sealed(connection, SEALER, sealed)
    assert opened == {command.order_id: encode(personal_data_of(command.placed)) for command in commands}
    assert len({each.data for each in sealed.values()}) == 2


async def test_an_order_in_a_webhook_is_sealed_like_any_other(connection: Connection, customers: Customers) -> None:
    ((place, _),) = placing(order("1"))
    assert isinstance(place, PlaceOrder)
    webhook = TakeWebhook(
        order_id=place.order_id, channel="web", platform="shopify", topic="orders/create", arrived=Arrived(webhook_id="w"), place=place
    )
    none = replace(webhook, place=None)
    prepared = await customers.prepare(connection, [(none, CAUSE), (webhook, CAUSE)])
    assert prepared[0] == (none, CAUSE)
    sealed = prepared[1][0].place
    work = unit()
    work.append(replace(sample(OrderAccepted), order_id=place.order_id), place.order_id, 1, "oms.orders", CAUSE)
    await customers.conclude(connection, work, prepared)
    assert len(keys_of(work)) == 1
    opened = await open_sealed(connection, SEALER, {place.order_id: sealed.sealed})
    assert opened == {place.order_id: encode(personal_data_of(place.placed))}


def named(reference: str, customer: str, **other: str) -> OrderPlaced:
    placed = order(reference)
    assert placed.ship_to is not None
    return replace(placed, customer=replace(placed.customer, name=customer, company=None), ship_to=replace(placed.ship_to, **other))


async def words_told(connection: Connection, work: UnitOfWork) -> list[tuple[str, ...]]:
    """The words of each CustomerKeyIssued, as oms.customer-keys has them."""
    issued = [event for event in work.events if event.type == type_of(CustomerKeyIssued).name]
    told = await disclose(connection, issued)
    return [decode(event.type, told[event.position].encode()).words for event in issued]


def hashed(*words: str) -> tuple[str, ...]:
    return tuple(word_hashes(SEALER, words))


async def test_a_customer_is_found_by_the_words_of_the_names_in_any_order(connection: Connection, customers: Customers) -> None:
    home = {"name": "Ada Müller", "company": "Müller & Co."}
    first, _ = await accept(connection, customers, named("1", "Ada", **home), named("2", "A. MULLER", **home))
    assert await words_told(connection, first) == [hashed("ada", "muller", "co", "a")]
    same, _ = await accept(connection, customers, named("3", "Ada", **home), base=first.head)
    assert await words_told(connection, same) == []
    more, (place, *_) = await accept(connection, customers, named("4", "Ada", **home | {"name": "Bob"}), named("5", "Eve"), base=same.head)
    (words,) = await words_told(connection, more)
    assert words[:5] == (*hashed("ada", "muller", "co", "a"), *hashed("bob"))
    assert hashed("eve")[0] in words
    assert place.sealed is not None
    assert keys_of(more) == [place.sealed.key_id]
    assert [event.version for event in more.events if event.topic == TOPIC] == [2]
    await erase(connection, customers, more, email="ada@example.com")
    assert await connection.fetchval("select count(*) from customer_keys where words <> '{}'") == 0


async def test_the_words_of_a_customer_are_bounded(connection: Connection, customers: Customers) -> None:
    work, _ = await accept(connection, customers, named("1", " ".join(f"name{number}" for number in range(MAX_WORDS - 1))))
    names = {"name": "one two three", "company": "four"}
    more, _ = await accept(connection, customers, named("2", "n", **names), base=work.head)
    full, _ = await accept(connection, customers, named("3", "further"), base=more.head)
    assert [len(words) for words in await words_told(connection, more)] in ([MAX_WORDS], [])
    assert await words_told(connection, full) == []
    assert await connection.fetchval("select cardinality(words) from customer_keys") == MAX_WORDS


async def test_a_known_customer_keeps_the_key(connection: Connection, customers: Customers) -> None:
    first, _ = await accept(connection, customers, order("1"))
    again, (command,) = await accept(connection, Customers(SEALER, secrets.token_bytes), order("2"), base=len(first.events))
    assert keys_of(again) == []
    assert command.sealed is not None
    assert command.sealed.key_id == keys_of(first)[0]


@pytest.mark.parametrize("other", [order("2", "bob"), order("2", email="new@example.com"), order("2", email=None)])
async def test_another_customer_gets_another_key(connection: Connection, customers: Customers, other: OrderPlaced) -> None:
    work, _ = await accept(connection, customers, order("1"), other)
    assert len(set(keys_of(work))) == 2


async def test_an_order_that_is_not_accepted_leaves_no_key(connection: Connection, customers: Customers) -> None:
    work = unit()
    await customers.conclude(connection, work, await customers.prepare(connection, placing(order("1"))))
    assert work.events == []
    assert await connection.fetchval("select count(*) from customer_keys") == 0


async def test_the_key_is_in_no_event_and_on_the_topic_that_discloses_it(connection: Connection, customers: Customers) -> None:
    work, _ = await accept(connection, customers, order("1"))
    (issued,) = [event for event in work.events if event.topic == TOPIC]
    wrapped = await connection.fetchval("select wrapped_key from customer_keys")
    assert wrapped not in issued.data
    told = decode(issued.type, (await disclose(connection, [issued]))[issued.position].encode())
    assert told.wrapped_key == wrapped
    assert "ada" not in encode(told).decode()


@pytest.mark.parametrize(
    ("wanted", "erased"),
    [
        ({"channel": "web", "customer_id": "ada"}, {"1", "2"}),
        ({"email": "ADA@example.com "}, {"1", "2"}),
        ({"email": "new@example.com"}, {"1", "2"}),
        ({"channel": "web", "customer_id": "bob"}, {"3"}),
        ({"channel": "till", "customer_id": "ada"}, set[str]()),
        ({"customer_id": "ada"}, set[str]()),
        ({"email": "nobody@example.com"}, set[str]()),
        ({}, set[str]()),
    ],
)
async def test_an_erasure_deletes_the_keys_of_who_is_meant_and_no_others(
    connection: Connection, customers: Customers, wanted: dict[str, str], erased: set[str]
) -> None:
    orders = {"1": order("1"), "2": order("2", email="new@example.com"), "3": order("3", "bob", "bob@example.com")}
    work, commands = await accept(connection, customers, *orders.values())
    events = await erase(connection, customers, work, **wanted)
    opened = await open_sealed(connection, SEALER, {command.order_id: command.sealed for command in commands if command.sealed})
    assert {command.placed.channel_reference for command in commands if command.order_id not in opened} == erased
    key_ids = [event.key_id for event in events if isinstance(event, CustomerKeyErased)]
    assert events[-1] == CustomerErased(request_id="r", keys=tuple(key_ids), reason="asked to", at=NOON)
    assert len(key_ids) == len(erased)


async def test_an_erasure_happens_once_and_the_customer_may_come_back(connection: Connection, customers: Customers) -> None:
    work, _ = await accept(connection, customers, order("1"))
    assert len(await erase(connection, customers, work, email="ada@example.com")) == 2
    assert await erase(connection, customers, work, email="ada@example.com") == []
    await insert_events(connection, work.events[-2:])
    later = unit(work.head)
    assert await erase(connection, customers, later, email="ada@example.com") == []
    back, _ = await accept(connection, customers, order("2"), base=work.head)
    assert len(keys_of(back)) == 1


async def test_nothing_is_sealed_under_a_second_installation_key(connection: Connection, customers: Customers) -> None:
    await accept(connection, customers, order("1"))
    with pytest.raises(WrongInstallationKey, match="OMS_PERSONAL_DATA_KEY"):
        await Customers(Sealer(b"x" * KEY_BYTES), secrets.token_bytes).prepare(connection, placing(order("2", "bob")))


async def test_an_erasure_forgets_what_was_set_aside(connection: Connection, customers: Customers) -> None:
    for name, content in (("hers", {"channel": "web", "customer": {"id": "ada"}}), ("his", {"channel": "web", "customer": {"id": "bob"}})):
        await connection.execute(
            """insert into dead_letters
               (letter_id, source_topic, source_partition, source_offset, source_key, headers, value, reason, attempts, parked, at)
               values ($1, 'oms.channel.orders', 0, 0, 'k', '[]', $2, 'no', 1, false, $3)""",
            name,
            json.dumps(content).encode(),
            NOON,
        )
    await erase(connection, customers, unit(), channel="web", customer_id="ada")
    rows = await connection.fetch("select letter_id, value, reason from dead_letters order by 1")
    assert [(row["letter_id"], bool(row["value"])) for row in rows] == [("hers", False), ("his", True)]
    assert rows[0]["reason"] == "no; its value is no longer kept"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"channel": "web", "customer": {"id": "ada"}}', True),
        (b'{"channel": "web", "customer": {"id": "ada", "surplus": [1]}, "colour": "blue"}', True),
        (b'{"channel": "till", "customer": {"id": "ada"}}', False),
        (b'{"channel": "web", "customer": {"id": "bob"}}', False),
        (b'{"contact": {"mail": "Ada@Example.com"}}', True),
        (b'{"channel": "web", "body": "{\\"customer\\": {\\"id\\": \\"ada\\"}}"}', True),
        (b'{"channel": "web", "body": "{not JSON"}', False),
        (b'{"note": "write to ada@example.com"}', False),
        (b'{"channel": ["web"], "customer": "ada"}', False),
        (b"\xff\x00", False),
        (b"", False),
        (b"[" * 5_000, False),
    ],
)
def test_whom_a_record_that_was_set_aside_concerns(value: bytes, expected: bool) -> None:
    asked = EraseCustomer(request_id="r", reason="asked to", channel="web", customer_id="ada", email="ada@example.com")
    assert concerns(value, asked) == expected
