"""What warehouses are told of persons, with customers' keys in a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Protocol

import pytest
import pytest_asyncio
from msgspec.structs import replace
from oms_contracts.customers import CustomerKeyErased, CustomerKeyIssued
from oms_contracts.fulfillments import FulfillmentPlanned
from oms_contracts.message import decode, encode, type_of
from oms_contracts.order_parts import PersonalData, SealedData
from oms_contracts.samples import sample
from oms_fulfillment.disclosure import disclose
from oms_runtime.customer_keys import key_in, save_keys
from oms_runtime.database import Connection, connect, migrate, open_database
from oms_runtime.errors import KeyNotArrived, is_retryable
from oms_runtime.model import StoredEvent
from oms_runtime.sealing import KEY_BYTES, NONCE_BYTES, BrokenSeal, Sealer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SEALER = Sealer(bytes(KEY_BYTES))
WRAPPED = SEALER.wrap("k", bytes(KEY_BYTES), bytes(NONCE_BYTES))
ISSUED = CustomerKeyIssued(key_id="k", at=NOON, wrapped_key=WRAPPED, customer="c", email="e")
ERASED = CustomerKeyErased(key_id="k", request_id="r", at=NOON)
PERSONAL: PersonalData = sample(PersonalData)
TOLD = replace(PERSONAL, bill_to=None, risk=None)


class Servers(Protocol):
    async def create_database(self, name: str) -> str: ...


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def url(servers: Servers) -> str:
    url = await servers.create_database("disclosure")
    database = await open_database(url)
    await migrate(database)
    await database.close()
    return url


@pytest_asyncio.fixture(loop_scope="session")
async def connection(url: str) -> AsyncIterator[Connection]:
    connection = await connect(url)
    await connection.execute("truncate customer_keys")
    yield connection
    connection.terminate()


def planned(order_id: str, *, personal: PersonalData | None = None, sealed_for: str | None = None) -> FulfillmentPlanned:
    sealed = None
    if sealed_for is not None:
        data = SEALER.seal(SEALER.unwrap("k", WRAPPED), encode(PERSONAL), bytes(NONCE_BYTES), sealed_for)
        sealed = SealedData(key_id="k", data=data)
    return replace(sample(FulfillmentPlanned), order_id=order_id, personal=personal, sealed=sealed)


def stored(plan: FulfillmentPlanned, position: int = 1) -> StoredEvent:
    kind = type_of(plan).name
    return StoredEvent(position, plan.order_id, 1, kind, "oms.fulfillments", plan.order_id, "", "", "", NOON, encode(plan).decode())


async def told(connection: Connection, *plans: FulfillmentPlanned) -> list[FulfillmentPlanned]:
    events = [stored(plan, position) for position, plan in enumerate(plans, 1)]
    disclosed = await disclose(SEALER, connection, events)
    return [decode(event.type, disclosed[event.position].encode()) for event in events]


async def test_a_warehouse_is_told_what_it_needs_and_no_more(connection: Connection) -> None:
    await save_keys(connection, [key_in(ISSUED)])
    plan = planned("o", sealed_for="o")
    assert await told(connection, plan) == [replace(plan, sealed=None, personal=TOLD)]


async def test_of_an_erased_customer_nothing_is_told(connection: Connection) -> None:
    await save_keys(connection, [key_in(ISSUED)])
    await save_keys(connection, [key_in(ERASED)])
    await save_keys(connection, [key_in(ISSUED)])  # the first record again, as after a restore
    [plan] = await told(connection, planned("o", sealed_for="o"))
    assert (plan.personal, plan.sealed) == (None, None)


async def test_what_was_never_sealed_is_told_as_it_is(connection: Connection) -> None:
    assert [plan.personal for plan in await told(connection, planned("o", personal=PERSONAL), planned("p"))] == [TOLD, None]


async def test_a_key_that_is_under_way_is_waited_for(connection: Connection) -> None:
    with pytest.raises(KeyNotArrived, match=r"oms\.customer-keys") as raised:
        await told(connection, planned("o", sealed_for="o"))
    assert is_retryable(raised.value)


async def test_one_orders_data_does_not_open_as_anothers(connection: Connection) -> None:
    await save_keys(connection, [key_in(ISSUED)])
    with pytest.raises(BrokenSeal):
        await told(connection, planned("o", sealed_for="p"))
