"""The week's orders as shops send them: signed, and the same orders once they are mapped."""

import json
from collections import Counter
from typing import Any

import pytest
from oms_adapters.parts import map_payload
from oms_adapters.platforms import adapter_of_platform
from oms_adapters.results import Mapped
from oms_adapters.webhooks import Webhook, is_signed, webhook_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import key_of
from oms_demo.baskets import read_baskets
from oms_demo.shops import CANCELED, CREATED, UPDATED, Delivery, deliveries_of, is_of_a_shop, shopify, woocommerce

SEED = 1
SHOPS: dict[str, dict[str, Any]] = {
    "web": {"platform": "shopify", "source": "demo.myshopify.com", "secrets": ["a-secret-of-the-web"]},
    "marketplace": {"platform": "woocommerce", "source": "https://demo.example", "secrets": ["a-secret-of-the-market"]},
}
ORDERS = [order for order in read_baskets(SEED) if is_of_a_shop(order, SHOPS)]


def mapped(order: OrderPlaced, body: bytes) -> Mapped:
    result = map_payload(adapter_of_platform(SHOPS[order.channel]["platform"]), body, channel=order.channel)
    assert isinstance(result, Mapped), result.reasons
    return result


def test_every_order_can_be_mapped_and_is_what_it_was() -> None:
    for order in ORDERS:
        for delivery in deliveries_of(order, SHOPS[order.channel], SEED):
            result = mapped(order, delivery.body)
            placed = result.order
            assert (key_of(placed), placed.total, placed.currency, placed.number) == (key_of(order), order.total, "USD", order.number)
            assert [(line.sku, line.quantity, line.total, line.title) for line in placed.lines] == [
                (line.sku, line.quantity, line.total, line.title) for line in order.lines
            ]
            assert taxes_of(placed) == taxes_of(order)
            assert placed.ship_to == order.ship_to
            assert sum(line.total for line in placed.shipping_lines) == sum(line.total for line in order.shipping_lines)
            assert result.standing.salt
            assert result.unmapped_fields == ()


def taxes_of(order: OrderPlaced) -> list[tuple[str, str | None, int]]:
    return [(tax.title, tax.rate, tax.amount) for part in (*order.lines, *order.shipping_lines) for tax in part.taxes]


def test_every_delivery_is_signed_and_the_same_seed_makes_the_same_ones() -> None:
    for order in ORDERS[:100]:
        shop = SHOPS[order.channel]
        sent = list(deliveries_of(order, shop, SEED))
        assert sent == list(deliveries_of(order, shop, SEED))
        for delivery in sent:
            assert is_signed(shop["platform"], delivery.body, delivery.headers, shop["secrets"])
            assert isinstance(webhook_of(shop["platform"], delivery.headers), Webhook)


def test_a_few_come_twice_out_of_order_changed_or_canceled() -> None:
    stories = Counter(tuple(map(kind_of, deliveries_of(order, SHOPS[order.channel], SEED))) for order in ORDERS)
    assert {*stories} == {(CREATED,), (CREATED, CREATED), (UPDATED, CREATED), (CREATED, UPDATED), (CREATED, CANCELED)}
    assert stories[(CREATED,)] > len(ORDERS) // 2


def kind_of(delivery: Delivery) -> str:
    [name] = [name for name in delivery.headers if name.lower() in {"x-shopify-webhook-id", "x-wc-webhook-delivery-id"}]
    return delivery.headers[name].rpartition("-")[2]


@pytest.mark.parametrize("made", [shopify, woocommerce])
def test_what_was_canceled_says_so_and_what_was_changed_is_newer(made: Any) -> None:
    platform = made.__name__
    order = ORDERS[0]
    created, updated, canceled = (
        map_payload(adapter_of_platform(platform), body(made(order, what, "t" * 32, is_paid=True)), channel="web")
        for what in (CREATED, UPDATED, CANCELED)
    )
    assert created.standing is not None
    assert updated.standing is not None
    assert canceled.standing is not None
    assert created.standing.canceled is updated.standing.canceled is None
    assert canceled.standing.canceled
    assert created.standing.updated_at is not None
    assert updated.standing.updated_at is not None
    assert created.standing.updated_at < updated.standing.updated_at


def body(payload: Any) -> bytes:
    return json.dumps(payload).encode()
