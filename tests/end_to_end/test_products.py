"""On the real stack: an order waits for its products or for stock, and goes on by itself; or it is rejected, and is accepted corrected."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from oms_client.publisher import publish_message
from oms_client.queries import QueryClient, poll
from oms_contracts.catalogue import ALL_SERVICES
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import key_of
from oms_contracts.orders import CancelOrder, ExtendWait
from oms_contracts.products import DeactivateProduct, DefineProduct
from oms_contracts.samples import example_order
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackSettings
from oms_runtime.clock import utc_now

TIMEOUT_SECONDS = 60
MUG, POT = (DefineProduct(sku=sku, title=sku) for sku in ("MUG", "POT"))
Send = Callable[..., Awaitable[None]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services but inventory; a test starts it under the setting that it is about."""
    stack = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack")))
    stack.up(services=[service for service in ALL_SERVICES if service != "inventory"])
    yield stack
    stack.down()


@pytest.fixture
def send(stack: Stack) -> Send:
    """Publishes messages as the operator."""

    async def publish(*messages: Any) -> None:
        for message in messages:
            await publish_message(settings_of(stack.kafka("operator")), message, source="/test", now=utc_now())

    return publish


@pytest.fixture
def inventory(stack: Stack) -> Iterator[Callable[[str], None]]:
    """`inventory(setting)` starts inventory under OMS_UNKNOWN_SKU."""

    def start(unknown_sku: str) -> None:
        stack.up(services=["inventory"], environment={"OMS_UNKNOWN_SKU": unknown_sku})

    yield start
    stack.stop_part("inventory")


def order(reference: str, *skus: str) -> OrderPlaced:
    """An order of one unit of each SKU, that costs nothing."""
    example = example_order()
    (line,) = example.lines
    lines = tuple(replace(line, line_id=sku, sku=sku, quantity=1, unit_price=0, total=0, discounts=(), taxes=()) for sku in skus)
    payments = tuple(replace(payment, amount=0) for payment in example.payments)
    return replace(
        example, channel_reference=reference, lines=lines, shipping_lines=(), discounts=(), total=0, payments=payments, location=None
    )


def receipt(receipt_id: str, *skus: str) -> ReceiveStock:
    return ReceiveStock(receipt_id=receipt_id, lines=tuple(StockLine(sku=sku, location="BER-1", quantity=5) for sku in skus))


async def reaches(query: QueryClient, placed: OrderPlaced, *statuses: str) -> dict[str, Any]:
    """The order once it has one of the statuses."""

    async def ask() -> dict[str, Any] | None:
        found = await query.find(f"/orders/{key_of(placed)}")
        return found if found and found["status"] in statuses else None

    found = await poll(ask, TIMEOUT_SECONDS)
    assert found is not None, await query.find(f"/orders/{key_of(placed)}")
    return found


async def is_known(query: QueryClient, sku: str, *, active: bool) -> bool | None:
    product = await query.find(f"/products/{sku}")
    return True if product is not None and product["active"] == active else None


async def test_a_held_order_goes_on_by_itself_once_its_products_are_defined(
    inventory: Callable[[str], None], query: QueryClient, send: Send
) -> None:
    inventory("hold")
    held, ended = order("HELD", "MUG", "POT"), order("ENDED", "POT")
    await send(receipt("R-1", "MUG", "POT"), held, ended)
    waiting = await reaches(query, held, "awaiting_product")
    assert (waiting["action"], waiting["action_reason"]) == ("define_product", "the catalogue lacks 'MUG', 'POT'")
    assert (waiting["stock"]["status"], waiting["stock"]["unknown_skus"]) == ("postponed", ["MUG", "POT"])
    await reaches(query, ended, "awaiting_product")
    await send(CancelOrder(order_id=key_of(ended), reason="changed my mind"))
    await reaches(query, ended, "canceled")

    await send(MUG)
    assert await poll(partial(is_known, query, "MUG", active=True), TIMEOUT_SECONDS)
    assert (await reaches(query, held, "awaiting_product"))["deadline"] == waiting["deadline"]
    await send(POT)
    released = await reaches(query, held, "released")
    assert released["stock"]["unknown_skus"] is None
    assert (await reaches(query, ended, "canceled"))["stock"]["reserved"] == 0
    positions = {item["sku"]: item["allocated"] for item in (await query.get("/stock"))["items"]}
    assert positions == {"MUG": 1, "POT": 1}


async def test_an_order_with_an_unknown_sku_is_rejected_and_a_corrected_one_is_accepted(
    inventory: Callable[[str], None], query: QueryClient, send: Send
) -> None:
    inventory("reject")
    catalogue = (DefineProduct(sku="CUP", title="Cup"), DefineProduct(sku="OLD", title="Old"), DeactivateProduct(sku="OLD"))
    await send(receipt("R-2", "CUP"), *catalogue)
    assert await poll(partial(is_known, query, "CUP", active=True), TIMEOUT_SECONDS)
    assert await poll(partial(is_known, query, "OLD", active=False), TIMEOUT_SECONDS)
    wrong, corrected = order("CORRECTED", "CUP", "OLD", "NEW"), order("CORRECTED", "CUP")
    await send(wrong)
    rejected = await reaches(query, wrong, "rejected")
    assert rejected["ended_because"] == "lines.sku: 'OLD' is not in the catalogue, or not active (and 1 more)"
    await send(corrected)
    released = await reaches(query, corrected, "released")
    assert [line["sku"] for line in released["lines"]] == ["CUP"]
    assert released["attempt"] == 2
    changes = [entry["data"]["status"] for entry in await query.timeline(key_of(wrong)) if entry["topic"] == "oms.order-status-changes"]
    assert changes[:4] == ["accepted", "rejected", "accepted", "confirmed"]


async def test_received_stock_serves_a_waiting_order(inventory: Callable[[str], None], query: QueryClient, send: Send) -> None:
    inventory("accept")
    first, second = order("FIRST", "LAMP"), order("SECOND", "LAMP")
    await send(first)
    waiting = await reaches(query, first, "awaiting_stock")
    assert (waiting["action"], waiting["action_reason"]) == ("resolve_stock", "LAMP: 1 wanted, 0 available")
    await send(second)
    await reaches(query, second, "awaiting_stock")
    until = datetime.fromisoformat(waiting["deadline"]) + timedelta(days=7)

    async def waits_longer() -> bool | None:
        return datetime.fromisoformat((await reaches(query, second, "awaiting_stock"))["deadline"]) == until or None

    async def public_statuses() -> list[str] | None:
        entries = await query.timeline(key_of(first))
        changes = [entry["data"]["status"] for entry in entries if entry["topic"] == "oms.order-status-changes"]
        return changes if "in_fulfillment" in changes else None

    await send(ExtendWait(order_id=key_of(second), until=until))
    assert await poll(waits_longer, TIMEOUT_SECONDS), await query.timeline(key_of(second))

    await send(ReceiveStock(receipt_id="R-3", lines=(StockLine(sku="LAMP", location="BER-1", quantity=1),)))
    await reaches(query, first, "released")
    assert await poll(public_statuses, TIMEOUT_SECONDS) == ["accepted", "awaiting_stock", "confirmed", "in_fulfillment"]
    await reaches(query, second, "awaiting_stock")
    await send(ReceiveStock(receipt_id="R-4", lines=(StockLine(sku="LAMP", location="BER-1", quantity=1),)))
    await reaches(query, second, "released")
