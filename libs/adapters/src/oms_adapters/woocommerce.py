"""WooCommerce: the order of the webhooks order.created, order.updated and order.deleted (REST API v3). README: `woocommerce.md`."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import NamedTuple

from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import Contact, DiscountShare, Fee, LineItem, OrderPayment, Pickup, Risk, ShippingLine, Tax
from oms_contracts.values import Address, Customer

from oms_adapters.money import NotAnAmount, allocate, decimal_of
from oms_adapters.parts import ROUNDING, Adapter, Discounts, address_of, country_of, currency_of, joined, unit_price_of
from oms_adapters.reading import MAX_CODE_CHARACTERS, MAX_SHARED, Source, attributes_of
from oms_adapters.results import Reason, Standing

CONSUMED = {
    "id": "channel_reference",
    "number": "number",
    "status": "payments.status",
    "currency": "currency",
    "date_created": "placed_at",
    "date_created_gmt": "placed_at",
    "date_modified": "-",
    "date_modified_gmt": "-",
    "order_key": "-",
    "total": "total",
    "total_tax": "lines.taxes",
    "customer_id": "customer.id",
    "customer_ip_address": "risk.source_ip",
    "customer_user_agent": "risk.user_agent",
    "customer_note": "note",
    "billing.first_name": "bill_to.name",
    "billing.last_name": "bill_to.name",
    "billing.company": "bill_to.company",
    "billing.address_1": "bill_to.street",
    "billing.address_2": "bill_to.line2",
    "billing.postcode": "bill_to.postal_code",
    "billing.city": "bill_to.city",
    "billing.state": "bill_to.region",
    "billing.country": "bill_to.country",
    "billing.email": "customer.email",
    "billing.phone": "customer.phone",
    "shipping.first_name": "ship_to.name",
    "shipping.last_name": "ship_to.name",
    "shipping.company": "ship_to.company",
    "shipping.address_1": "ship_to.street",
    "shipping.address_2": "ship_to.line2",
    "shipping.postcode": "ship_to.postal_code",
    "shipping.city": "ship_to.city",
    "shipping.state": "ship_to.region",
    "shipping.country": "ship_to.country",
    "shipping.phone": "ship_to.phone",
    "payment_method": "payments.kind",
    "transaction_id": "payments.token",
    "date_paid": "payments.status",
    "date_paid_gmt": "payments.status",
    "meta_data[].key": "attributes",
    "meta_data[].value": "attributes",
    "gift_cards[].id": "payments.id",
    "gift_cards[].amount": "payments.amount",
    "refunds[].total": "-",
    "line_items[].id": "lines.line_id",
    "line_items[].name": "lines.title",
    "line_items[].sku": "lines.sku",
    "line_items[].variation_id": "lines.sku",
    "line_items[].product_id": "lines.sku",
    "line_items[].quantity": "lines.quantity",
    "line_items[].subtotal": "lines.unit_price",
    "line_items[].total": "lines.total",
    "line_items[].total_tax": "lines.taxes.amount",
    "line_items[].taxes[].id": "lines.taxes.title",
    "line_items[].taxes[].total": "lines.taxes.amount",
    "line_items[].meta_data[].key": "lines.attributes",
    "line_items[].meta_data[].value": "lines.attributes",
    "tax_lines[].rate_id": "lines.taxes.title",
    "tax_lines[].label": "lines.taxes.title",
    "tax_lines[].rate_code": "lines.taxes.jurisdiction",
    "tax_lines[].rate_percent": "lines.taxes.rate",
    "shipping_lines[].id": "shipping_lines.id",
    "shipping_lines[].method_title": "shipping_lines.title",
    "shipping_lines[].method_id": "shipping_lines.code",
    "shipping_lines[].total": "shipping_lines.price",
    "shipping_lines[].total_tax": "shipping_lines.taxes.amount",
    "shipping_lines[].taxes[].id": "shipping_lines.taxes.title",
    "shipping_lines[].taxes[].total": "shipping_lines.taxes.amount",
    "fee_lines[].id": "discounts.id",
    "fee_lines[].name": "fees.title",
    "fee_lines[].total": "fees.amount",
    "fee_lines[].total_tax": "fees.taxes.amount",
    "fee_lines[].taxes[].id": "fees.taxes.title",
    "fee_lines[].taxes[].total": "fees.taxes.amount",
    "coupon_lines[].code": "discounts.code",
    "coupon_lines[].discount": "lines.discounts.amount",
}
"""Paths of the payload, and the field of ours that they become; - where they decide what a webhook means."""

_SUM, _SHOP, _PLUGIN = (
    "a sum of what is mapped",
    "about the shop's page or session, not about the order",
    "plugins' notes on a sum or a rule",
)
IGNORED = {
    "parent_id": "the order's place in the shop's tables",
    "created_via": _SHOP,
    "version": _SHOP,
    "cart_hash": _SHOP,
    "payment_url": _SHOP,
    "is_editable": _SHOP,
    "needs_payment": "`status` and `date_paid` say it",
    "needs_processing": "`status` says it",
    "currency_symbol": "`currency` names it",
    "payment_method_title": "`payment_method` names it",
    "prices_include_tax": "how the shop enters prices; the amounts of an order are without taxes either way",
    "discount_total": _SUM,
    "discount_tax": "taxes are of what is paid, after discounts",
    "shipping_total": _SUM,
    "shipping_tax": _SUM,
    "cart_tax": _SUM,
    "date_completed": "about what the shop shipped",
    "date_completed_gmt": "about what the shop shipped",
    "_links": _SHOP,
    "meta_data[].id": _SHOP,
    "gift_cards[].code": "what it is worth is money; the code stays in the shop",
    "refunds[].id": "a refund has its own payload",
    "refunds[].reason": "a refund has its own payload",
    "refunds[].refund": "a refund has its own payload",
    "line_items[].price": "`total` by `quantity`, not rounded to the currency",
    "line_items[].subtotal_tax": "taxes are of what is paid, after discounts",
    "line_items[].taxes[].subtotal": "taxes are of what is paid, after discounts",
    "line_items[].tax_class": "taxes are as the shop says",
    "line_items[].parent_name": "part of `name`",
    "line_items[].image": "about the product, as it is in the catalogue",
    "line_items[].global_unique_id": "about the product, as it is in the catalogue",
    "line_items[].meta_data[].id": _SHOP,
    "line_items[].meta_data[].display_key": "another way to write `key`",
    "line_items[].meta_data[].display_value": "another way to write `value`",
    "tax_lines[].id": _SHOP,
    "tax_lines[].compound": "taxes are as the shop says",
    "tax_lines[].tax_total": _SUM,
    "tax_lines[].shipping_tax_total": _SUM,
    "tax_lines[].meta_data": _PLUGIN,
    "shipping_lines[].instance_id": "`method_id` names the method",
    "shipping_lines[].meta_data": "what is in the parcel, as the method counted it",
    "shipping_lines[].tax_status": "taxes are as the shop says",
    "shipping_lines[].taxes[].subtotal": "taxes are of what is paid, after discounts",
    "fee_lines[].amount": "`total` is what is paid",
    "fee_lines[].tax_class": "taxes are as the shop says",
    "fee_lines[].tax_status": "taxes are as the shop says",
    "fee_lines[].taxes[].subtotal": "taxes are of what is paid, after discounts",
    "fee_lines[].meta_data": _PLUGIN,
    "coupon_lines[].id": _SHOP,
    "coupon_lines[].discount_tax": "taxes are of what is paid, after discounts",
    "coupon_lines[].discount_type": "how the discount was computed; the amounts are in the lines",
    "coupon_lines[].nominal_amount": "how the discount was computed; the amounts are in the lines",
    "coupon_lines[].free_shipping": "the shipping line's price has it",
    "coupon_lines[].meta_data": _PLUGIN,
}
"""Paths that are left out with what lies below them, and why."""

_CANCELED = {"cancelled": "canceled in the shop", "refunded": "refunded in full in the shop", "trash": "moved to the trash in the shop"}
_UNPAID = {"pending", "failed", "checkout-draft", "auto-draft"}
_LATER = {"cod", "bacs", "cheque", "invoice"}
"""Methods of payment that are collected later and elsewhere."""
_PURCHASE_ORDER = {
    "purchase_order",
    "_purchase_order",
    "po_number",
    "_po_number",
    "_purchase_order_number",
    "_billing_purchase_order_number",
}
_TAX_ID = {"vat_number", "_vat_number", "billing_vat_number", "_billing_vat_number"}


def _standing(root: Source) -> Standing | None:
    reference = root["id"].identifier()
    if reference is None or _is_refund(root):
        return None
    if set(root.value) == {"id"}:
        return Standing(reference, None, "it was deleted in the shop")
    updated_at = root["date_modified_gmt"].moment(zone=UTC) or root["date_modified"].moment(zone=UTC)
    return Standing(reference, updated_at, _CANCELED.get(root["status"].text() or ""), root["order_key"].text())


def _is_refund(root: Source) -> bool:
    return "refunded_by" in root or "refunded_payment" in root


def _refusal(root: Source) -> Reason | None:
    if _is_refund(root):
        return Reason("refunded_payment", "marks a refund: it changes an order that was placed, and is none itself")
    if set(root.value) == {"id"}:
        return Reason("id", "is all there is: the order was deleted in the shop")
    if "line_items" not in root and "total" not in root:
        return Reason("line_items", "is missing, and `total` too: this is not an order")
    status, method = root["status"].text(), root["payment_method"].text()
    is_draft = status in {"checkout-draft", "auto-draft"}
    if status in _UNPAID and not _is_paid(root) and (is_draft or method not in _LATER) and not _is_free(root):
        return Reason("status", f"is {status}: the customer has not paid yet; the shop sends the order again once that is done")
    return None


def _is_paid(root: Source) -> bool:
    return bool(root["date_paid_gmt"].value or root["date_paid"].value)


def _is_free(root: Source) -> bool:
    try:
        return not decimal_of(root["total"].value)
    except NotAnAmount:
        return False


class _Rate(NamedTuple):
    title: str
    rate: str | None
    jurisdiction: str | None


@dataclass(slots=True)
class _Line:
    source: Source
    line_id: str
    sku: str
    quantity: int
    gross: int
    total: int
    shares: list[DiscountShare]
    taxes: tuple[Tax, ...]


def _build(root: Source, channel: str) -> OrderPlaced | None:
    currency = currency_of(root["currency"])
    reference = root["id"].required(root["id"].identifier())
    created = root["date_created_gmt"] if root["date_created_gmt"].value else root["date_created"]
    placed_at = created.required(created.moment(zone=UTC))
    total = root["total"].required(root["total"].amount())
    if currency is None or reference is None or placed_at is None or total is None:
        return None
    if created.path == "date_created":
        created.remark("has no offset, and `date_created_gmt` is missing: it is taken for UTC")
    rates = dict(_rates(root))
    discounts = Discounts()
    lines = [line for entry in root["line_items"].entries() if (line := _line(entry, rates))]
    if not lines:
        root["line_items"].refuse("has no line with a quantity")
    _share_coupons(root, discounts, lines)
    fees = list(_fees(root, rates, discounts, lines))
    shipping_lines = tuple(_shipping(entry, index, rates) for index, entry in enumerate(root["shipping_lines"].entries()))
    gift_cards = tuple(_gift_cards(root))
    total += sum(card.amount for card in gift_cards)
    _round(root, total, discounts, lines=lines, shipping=shipping_lines, fees=fees)
    refunded = [entry for entry in root["refunds"].entries() if entry["total"].amount()]
    if refunded:
        root["refunds"].remark("was refunded in the shop before the order was placed here; the order is as it was sold")
    is_pickup = any((line.code or "").startswith(("local_pickup", "pickup_location")) for line in shipping_lines)
    bill_to = _address(root["billing"], is_required=False)
    ship_to = None if is_pickup else _ship_to(root)
    meta = [(entry, entry["key"].text(), entry["value"]) for entry in root["meta_data"].entries()]
    customer = _customer(root, reference, next((value.text() for _, key, value in meta if key in _TAX_ID), None))
    return OrderPlaced(
        channel=channel,
        channel_reference=reference,
        placed_at=placed_at,
        customer=customer,
        currency=currency,
        lines=tuple(_built(line, discounts) for line in lines),
        total=total,
        payments=(*gift_cards, *_payments(root, total - sum(card.amount for card in gift_cards))),
        taxes_included=False,
        shipping_lines=shipping_lines,
        fees=tuple(fees),
        discounts=discounts.all(),
        delivery="pickup" if is_pickup else "ship",
        ship_to=ship_to,
        bill_to=bill_to,
        pickup=Pickup(contact=Contact(name=customer.name, phone=customer.phone, email=customer.email) if customer.name else None)
        if is_pickup
        else None,
        number=root["number"].text(),
        purchase_order=next((value.text() for _, key, value in meta if key in _PURCHASE_ORDER), None),
        note=root["customer_note"].prose(),
        attributes=attributes_of(pair for pair in meta if _is_public(pair[1])),
        risk=_risk(root),
    )


def _is_public(key: str | None) -> bool:
    """A key with an underscore is the shop's or a plugin's own; the ones that we know are fields."""
    return key is not None and not key.startswith("_") and key not in _PURCHASE_ORDER | _TAX_ID


def _rates(root: Source) -> Iterator[tuple[str, _Rate]]:
    for entry in root["tax_lines"].entries(MAX_SHARED):
        rate_id, code, percent = entry["rate_id"].identifier(), entry["rate_code"].text(), entry["rate_percent"].decimal()
        rate = None if percent is None else f"{(percent / 100).normalize():f}"
        if rate_id is not None:
            yield rate_id, _Rate(entry["label"].text() or code or "Tax", rate, code)


def _taxes(source: Source, rates: dict[str, _Rate]) -> tuple[Tax, ...]:
    """`total_tax`, shared over its rates in proportion to what each one's exact amount is: those have more digits than the currency."""
    amount = source["total_tax"].amount() or 0
    exact = [(entry["id"].identifier() or "", entry["total"].decimal() or Decimal(0)) for entry in source["taxes"].entries(MAX_SHARED)]
    if not amount:
        return ()
    if any(weight < 0 for _, weight in exact) or amount < 0:
        source["total_tax"].refuse("must not be negative")
        return ()
    if not exact:
        return (Tax(title="Tax", amount=amount),)
    shares = allocate(amount, [weight for _, weight in exact])
    named = [(rates.get(rate_id, _Rate("Tax", None, None)), share) for (rate_id, _), share in zip(exact, shares, strict=True)]
    return tuple(Tax(title=rate.title, amount=share, rate=rate.rate, jurisdiction=rate.jurisdiction) for rate, share in named if share)


def _line(entry: Source, rates: dict[str, _Rate]) -> _Line | None:
    line_id = entry["id"].required(entry["id"].identifier())
    quantity = entry["quantity"].required(entry["quantity"].quantity())
    gross = entry["subtotal"].required(entry["subtotal"].amount())
    total = entry["total"].required(entry["total"].amount())
    if line_id is None or quantity is None or gross is None or total is None:
        return None
    if quantity == 0:
        if total:
            entry["quantity"].refuse("is 0, but the line costs something")
        entry["quantity"].remark("is 0; the line was left out")
        return None
    if total < 0 or gross < 0:
        entry["total"].refuse("must not be negative")
    # A line that the shop made dearer by hand has a subtotal below its total.
    return _Line(entry, line_id, _sku(entry), quantity, max(gross, total), total, [], _taxes(entry, rates))


def _sku(entry: Source) -> str:
    sku = entry["sku"].identifier(MAX_CODE_CHARACTERS)
    if sku is not None:
        return sku
    for name in ("variation_id", "product_id"):
        found = entry[name].identifier(MAX_CODE_CHARACTERS - 10)
        if found not in {None, "0"}:
            entry["sku"].remark(f"is empty; the line has the SKU {name[:-3]}-{found}")
            return f"{name[:-3]}-{found}"
    entry["sku"].refuse("is empty, and there is neither variation_id nor product_id")
    return ""


def _share_coupons(root: Source, discounts: Discounts, lines: Sequence[_Line]) -> None:
    """The shop says what each line lost and what each coupon gave, not which coupon gave what to which line."""
    left = [line.gross - line.total for line in lines]
    for number, entry in enumerate(root["coupon_lines"].entries(MAX_SHARED)):
        code, amount = entry["code"].text(), entry["discount"].amount() or 0
        if amount < 0:
            entry["discount"].refuse("must not be negative")
            return
        if amount > sum(left):
            entry["discount"].remark("is more than what the lines lost to it; what they lost counts")
        name = discounts.add(f"coupon-{number}", code or "Coupon", "code", code)
        for index, share in enumerate(allocate(min(amount, sum(left)), left)):
            lines[index].shares += discounts.share(name, share)
            left[index] -= share
    if any(left):
        is_rounding = bool(lines) and sum(left) <= len(lines)
        name = discounts.add(ROUNDING, "Rounding", ROUNDING) if is_rounding else discounts.add("shop", "Price set in the shop", "manual")
        for line, share in zip(lines, left, strict=True):
            line.shares += discounts.share(name, share)


def _fees(root: Source, rates: dict[str, _Rate], discounts: Discounts, lines: Sequence[_Line]) -> Iterator[Fee]:
    """A fee below 0 is a discount of the lines."""
    for number, entry in enumerate(root["fee_lines"].entries(MAX_SHARED)):
        amount, title = entry["total"].required(entry["total"].amount()) or 0, _title(entry["name"]) or "Fee"
        if amount >= 0:
            yield Fee(kind="other", title=title, amount=amount, taxes=_taxes(entry, rates))
            continue
        if entry["total_tax"].amount():
            entry["total_tax"].refuse("is of a fee below 0: which lines' taxes it takes off is not said")
        elif -amount > sum(line.total for line in lines):
            entry["total"].refuse("takes off more than the lines cost")
        else:
            name = discounts.add(f"fee-{entry['id'].identifier() or number}", title, "other")
            for line, share in zip(lines, allocate(-amount, [line.total for line in lines]), strict=True):
                line.shares += discounts.share(name, share)
                line.total -= share


def _shipping(entry: Source, index: int, rates: dict[str, _Rate]) -> ShippingLine:
    price = entry["total"].required(entry["total"].amount()) or 0
    return ShippingLine(
        id=entry["id"].identifier() or str(index + 1),
        title=_title(entry["method_title"]) or "Shipping",
        price=price,
        total=price,
        code=entry["method_id"].text() or "",
        taxes=_taxes(entry, rates),
    )


def _round(
    root: Source, total: int, discounts: Discounts, *, lines: Sequence[_Line], shipping: Sequence[ShippingLine], fees: list[Fee]
) -> None:
    """A shop that rounds taxes by order has lines that differ from its total by less than a minor unit each: that is said, not hidden."""
    taxed = [*(line.taxes for line in lines), *(line.taxes for line in shipping), *(fee.taxes for fee in fees)]
    taxes = sum(tax.amount for each in taxed for tax in each)
    goods = sum(line.total for line in lines) + sum(line.total for line in shipping) + sum(fee.amount for fee in fees)
    rest = total - goods - taxes
    said = root["total_tax"].amount()
    if not rest or said is None or said - taxes != rest or abs(rest) > sum(1 for each in taxed if each):
        return
    root["total_tax"].remark("differs from the lines' taxes by rounding, which has an entry of its own")
    if rest > 0:
        fees.append(Fee(kind="other", title="Rounding", amount=rest))
        return
    largest = max(lines, key=lambda line: line.total, default=None)
    if largest is not None and largest.total >= -rest:
        largest.shares += discounts.rounding(-rest)
        largest.total += rest


def _built(line: _Line, discounts: Discounts) -> LineItem:
    unit_price, rounding = unit_price_of(line.gross, line.quantity)
    rounded = discounts.rounding(rounding)
    merged = _merged((*line.shares, *rounded))
    meta = ((entry, entry["key"].text(), entry["value"]) for entry in line.source["meta_data"].entries())
    return LineItem(
        line_id=line.line_id,
        sku=line.sku,
        quantity=line.quantity,
        unit_price=unit_price,
        total=line.total,
        title=_title(line.source["name"]) or "",
        taxes=line.taxes,
        discounts=merged,
        attributes=attributes_of(pair for pair in meta if _is_public(pair[1])),
    )


def _merged(shares: Sequence[DiscountShare]) -> tuple[DiscountShare, ...]:
    """One share of each discount."""
    amounts: dict[str, int] = {}
    for share in shares:
        amounts[share.discount_id] = amounts.get(share.discount_id, 0) + share.amount
    return tuple(DiscountShare(discount_id=name, amount=amount) for name, amount in amounts.items())


def _title(source: Source) -> str | None:
    """A title as the customer reads it: the shop sends HTML entities."""
    text = source.text()
    return html.unescape(text).replace("\x00", "") if text else None


def _customer(root: Source, reference: str, tax_id: str | None) -> Customer:
    billing = root["billing"]
    id = root["customer_id"].identifier()
    email, phone = billing["email"].text(), billing["phone"].text()
    return Customer(
        id=(id if id != "0" else None) or email or phone or f"guest-{reference}",
        email=email,
        phone=phone,
        name=joined(billing["first_name"].text(), billing["last_name"].text()),
        company=billing["company"].text(),
        tax_id=tax_id,
    )


def _ship_to(root: Source) -> Address | None:
    """The shipping address; where that is empty, the shop ships to the billing address."""
    shipping = root["shipping"]
    if any(shipping[name].value for name in ("address_1", "city", "postcode")):
        return _address(shipping, is_required=True)
    if root["billing"].object():
        shipping.remark("is empty: the order goes to the billing address")
        return _address(root["billing"], is_required=True)
    shipping.refuse("is empty, and there is no billing address")
    return None


def _address(source: Source, *, is_required: bool) -> Address | None:
    if not source.object():
        return None
    return address_of(
        source,
        name=joined(source["first_name"].text(), source["last_name"].text()),
        street=source["address_1"],
        line2=source["address_2"],
        postal_code=source["postcode"],
        city=source["city"],
        region=source["state"].text(),
        country=country_of(source["country"]),
        company=source["company"],
        phone=source["phone"].text(),
        is_required=is_required,
    )


def _risk(root: Source) -> Risk | None:
    source_ip, user_agent = root["customer_ip_address"].text(), root["customer_user_agent"].prose()
    return Risk(source_ip=source_ip, user_agent=user_agent) if source_ip or user_agent else None


def _gift_cards(root: Source) -> Iterator[OrderPayment]:
    for index, entry in enumerate(root["gift_cards"].entries()):
        amount = entry["amount"].required(entry["amount"].amount())
        if amount:
            yield OrderPayment(id=f"gift-{entry['id'].identifier() or index + 1}", kind="gift_card", amount=amount, status="captured")


def _payments(root: Source, amount: int) -> Iterator[OrderPayment]:
    if amount == 0:
        return
    method, token = root["payment_method"].text() or "unknown", root["transaction_id"].prose() or ""
    if _is_paid(root):
        status = "captured"
    elif method in _LATER:
        status = "due"
    elif root["status"].text() == "on-hold" and token:
        status = "authorized"
    else:
        status, token = "authorize", token or f"order-{root['id'].identifier()}"
    yield OrderPayment(id="1", kind=method, amount=amount, token=token, status=status)


WOOCOMMERCE = Adapter(
    name="woocommerce",
    consumed=CONSUMED,
    ignored=IGNORED,
    body=lambda document: document,
    standing=_standing,
    refusal=_refusal,
    build=_build,
)
