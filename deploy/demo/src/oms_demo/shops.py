"""Orders as shops send them: signed webhooks of Shopify and WooCommerce, a few of them twice, out of order, changed or canceled.

What a shop sends of an order is drawn from the seed, so the same orders are delivered alike each time.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from oms_adapters.webhooks import signature_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import LineItem, ShippingLine

from oms_demo.gateway import http_client, some_at_a_time

CREATED, UPDATED, CANCELED = "created", "updated", "canceled"
STORIES = (
    *((CREATED,),) * 14,
    *((CREATED, CREATED),) * 2,
    *((UPDATED, CREATED),) * 2,
    (CREATED, UPDATED),
    (CREATED, CANCELED),
)
"""What is delivered of an order, in this order, each as often as it is here. The same webhook twice has the same id."""
TOPICS = {
    "shopify": {CREATED: "orders/create", UPDATED: "orders/updated", CANCELED: "orders/cancelled"},
    "woocommerce": {CREATED: "order.created", UPDATED: "order.updated", CANCELED: "order.updated"},
}
MINUTES = {CREATED: 0, UPDATED: 5, CANCELED: 9}
"""After the order was placed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP request of a shop."""

    channel: str
    body: bytes
    headers: Mapping[str, str]


def is_of_a_shop(order: OrderPlaced, shops: Mapping[str, Any]) -> bool:
    """Whether a shop sells through the order's channel, and would take such an order: no shop sells a quantity of 0."""
    return order.channel in shops and all(line.quantity for line in order.lines)


def deliveries_of(order: OrderPlaced, shop: Mapping[str, Any], seed: int) -> Iterator[Delivery]:
    """What the shop sends of an order. `shop` has platform, source and secrets."""
    platform, random = shop["platform"], Random(f"{seed}/{order.channel_reference}/shop")
    token = f"{random.getrandbits(128):032x}"
    is_paid = random.random() < 0.5
    for what in random.choice(STORIES):
        payload = (shopify if platform == "shopify" else woocommerce)(order, what, token, is_paid=is_paid)
        body = json.dumps(payload).encode()
        webhook_id = f"{order.channel_reference}-{what}"
        signature = signature_of(body, shop["secrets"][0])
        yield Delivery(order.channel, body, _headers(platform, TOPICS[platform][what], webhook_id, shop["source"], signature))


async def deliver(url: str, orders: Sequence[Sequence[Delivery]], on_delivered: Callable[[int], None]) -> None:
    """Deliver each order's webhooks one after the other, those of MAX_AT_A_TIME orders at a time. Raises httpx.HTTPError."""
    async with http_client(url) as client:

        async def deliver_those(deliveries: Sequence[Delivery]) -> None:
            for each in deliveries:
                response = await client.post(f"/webhooks/{each.channel}", content=each.body, headers=dict(each.headers))
                response.raise_for_status()
            on_delivered(1)

        await some_at_a_time(orders, deliver_those)


def shopify(order: OrderPlaced, what: str, token: str, *, is_paid: bool) -> dict[str, Any]:
    """The order in the shape of Shopify's REST Admin API. What is not paid yet is authorized: the money is ours to capture."""
    updated_at = order.placed_at + timedelta(minutes=MINUTES[what])
    payment, address = order.payments[0], _shopify_address(order)
    discount = sum(share.amount for line in order.lines for share in line.discounts)
    return {
        "id": _number(order.channel_reference),
        "admin_graphql_api_id": f"gid://shopify/Order/{order.channel_reference}",
        "token": token,
        "name": order.number,
        "created_at": order.placed_at.isoformat(),
        "processed_at": order.placed_at.isoformat(),
        "updated_at": updated_at.isoformat(),
        "cancelled_at": updated_at.isoformat() if what == CANCELED else None,
        "cancel_reason": "customer" if what == CANCELED else None,
        "currency": order.currency,
        "presentment_currency": order.currency,
        "customer_locale": order.locale,
        "taxes_included": order.taxes_included,
        **_money("total_price", order.total, order.currency),
        **_money("current_total_price", order.total, order.currency),
        **_money("total_tax", sum(tax.amount for part in _taxed(order) for tax in part.taxes), order.currency),
        **_money("total_discounts", discount, order.currency),
        "financial_status": "paid" if is_paid else "authorized",
        "payment_gateway_names": ["shopify_payments"],
        "transactions": [
            {
                "id": 1,
                "kind": "sale" if is_paid else "authorization",
                "status": "success",
                "gateway": payment.kind,
                "amount": _decimal(order.total),
                "currency": order.currency,
                "authorization": f"auth_{order.channel_reference}",
            }
        ]
        if order.total
        else [],
        "customer": {"id": order.customer.id, "first_name": "Household", "last_name": order.customer.id.rpartition("-")[2]},
        "billing_address": address,
        "shipping_address": address,
        "note": "Please ring twice." if what == UPDATED else None,
        "discount_applications": [
            {"type": "automatic", "title": each.title, "target_type": "line_item", "value_type": "fixed_amount"} for each in order.discounts
        ],
        "line_items": [_shopify_line(line, order) for line in order.lines],
        "shipping_lines": [
            {
                "id": int(line.id),
                "title": line.title,
                "code": line.code,
                **_money("price", line.price, order.currency),
                **_money("discounted_price", line.total, order.currency),
                "discount_allocations": [],
                "tax_lines": _shopify_taxes(line, order.currency),
            }
            for line in order.shipping_lines
        ],
    }


def woocommerce(order: OrderPlaced, what: str, token: str, *, is_paid: bool) -> dict[str, Any]:
    """The order in the shape of WooCommerce's REST API v3. What is not paid yet is to be authorized with the customer's card."""
    payment, address = order.payments[0], _woocommerce_address(order)
    placed_at, updated_at = _in_utc(order.placed_at), _in_utc(order.placed_at + timedelta(minutes=MINUTES[what]))
    percents = {tax.rate: tax for part in _taxed(order) for tax in part.taxes if tax.rate is not None}
    rates = {rate: number for number, rate in enumerate(sorted(percents), 1)}
    discount = sum(share.amount for line in order.lines for share in line.discounts)
    return {
        "id": _number(order.channel_reference),
        "order_key": f"wc_order_{token[:13]}",
        "number": order.number,
        "status": "cancelled" if what == CANCELED else "processing",
        "currency": order.currency,
        "date_created_gmt": placed_at,
        "date_modified_gmt": updated_at,
        "date_paid_gmt": placed_at if is_paid else None,
        "prices_include_tax": order.taxes_included,
        "total": _decimal(order.total),
        "total_tax": _decimal(sum(tax.amount for part in _taxed(order) for tax in part.taxes)),
        "customer_id": order.customer.id,
        "customer_note": "Please ring twice." if what == UPDATED else "",
        "billing": address,
        "shipping": address,
        "payment_method": payment.kind,
        "transaction_id": payment.token,
        "line_items": [
            {
                "id": int(line.line_id),
                "name": line.title,
                "sku": line.sku,
                "product_id": int(line.line_id),
                "quantity": line.quantity,
                "subtotal": _decimal(line.quantity * line.unit_price),
                "total": _decimal(line.total),
                **_woocommerce_taxes(line, rates),
            }
            for line in order.lines
        ],
        "tax_lines": [
            {"rate_id": number, "label": percents[rate].title, "rate_code": "VAT", "rate_percent": round(float(rate) * 100, 4)}
            for rate, number in rates.items()
        ],
        "shipping_lines": [
            {
                "id": int(line.id),
                "method_title": line.title,
                "method_id": line.code,
                "total": _decimal(line.total),
                **_woocommerce_taxes(line, rates),
            }
            for line in order.shipping_lines
        ],
        "fee_lines": [],
        "coupon_lines": [{"id": 1, "code": order.discounts[0].id, "discount": _decimal(discount)}] if discount else [],
    }


def _headers(platform: str, topic: str, webhook_id: str, source: str, signature: str) -> dict[str, str]:
    if platform == "shopify":
        return {
            "Content-Type": "application/json",
            "X-Shopify-Topic": topic,
            "X-Shopify-Webhook-Id": webhook_id,
            "X-Shopify-Shop-Domain": source,
            "X-Shopify-Hmac-Sha256": signature,
        }
    return {
        "Content-Type": "application/json",
        "X-WC-Webhook-Topic": topic,
        "X-WC-Webhook-Delivery-ID": webhook_id,
        "X-WC-Webhook-Source": source,
        "X-WC-Webhook-Signature": signature,
    }


def _shopify_line(line: LineItem, order: OrderPlaced) -> dict[str, Any]:
    return {
        "id": int(line.line_id),
        "sku": line.sku,
        "name": line.title,
        "title": line.title,
        "quantity": line.quantity,
        "current_quantity": line.quantity,
        **_money("price", line.unit_price, order.currency),
        "requires_shipping": line.requires_shipping,
        "gift_card": False,
        "discount_allocations": [
            {**_money("amount", share.amount, order.currency), "discount_application_index": index}
            for index, discount in enumerate(order.discounts)
            for share in line.discounts
            if share.discount_id == discount.id
        ],
        "tax_lines": _shopify_taxes(line, order.currency),
    }


def _shopify_taxes(part: LineItem | ShippingLine, currency: str) -> list[dict[str, Any]]:
    return [{"title": tax.title, "rate": float(tax.rate or 0), **_money("price", tax.amount, currency)} for tax in part.taxes]


def _woocommerce_taxes(part: LineItem | ShippingLine, rates: Mapping[str, int]) -> dict[str, Any]:
    taxes = [{"id": rates[tax.rate], "total": _decimal(tax.amount)} for tax in part.taxes if tax.rate is not None]
    return {"total_tax": _decimal(sum(tax.amount for tax in part.taxes)), "taxes": taxes}


def _shopify_address(order: OrderPlaced) -> dict[str, Any]:
    address = order.ship_to
    assert address is not None
    return {
        "name": address.name,
        "address1": address.street,
        "zip": address.postal_code,
        "city": address.city,
        "country_code": address.country,
    }


def _woocommerce_address(order: OrderPlaced) -> dict[str, Any]:
    address = order.ship_to
    assert address is not None
    first, _, last = address.name.partition(" ")
    return {
        "first_name": first,
        "last_name": last,
        "address_1": address.street,
        "postcode": address.postal_code,
        "city": address.city,
        "country": address.country,
    }


def _taxed(order: OrderPlaced) -> tuple[LineItem | ShippingLine, ...]:
    return (*order.lines, *order.shipping_lines)


def _money(name: str, amount: int, currency: str) -> dict[str, Any]:
    money = {"amount": _decimal(amount), "currency_code": currency}
    return {name: _decimal(amount), f"{name}_set": {"shop_money": money, "presentment_money": money}}


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _number(reference: str) -> int | str:
    """A shop's id is a number; those of a further round are not."""
    return int(reference) if reference.isdecimal() else reference


def _in_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
