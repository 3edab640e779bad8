"""Shopify: the order of the webhooks orders/create, orders/updated and orders/cancelled (REST Admin API). README: `shopify.md`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import Contact, DiscountShare, Fee, LineItem, OrderPayment, Pickup, Risk, ShippingLine, Tax
from oms_contracts.values import Address, Customer

from oms_adapters.money import allocate
from oms_adapters.parts import Adapter, Discounts, address_of, country_of, currency_of, joined, part_of
from oms_adapters.reading import MAX_CODE_CHARACTERS, MAX_SHARED, Source, attributes_of
from oms_adapters.results import Reason, Standing

CONSUMED = {
    "id": "channel_reference",
    "admin_graphql_api_id": "payments.token",
    "name": "number",
    "created_at": "placed_at",
    "processed_at": "placed_at",
    "updated_at": "-",
    "cancelled_at": "-",
    "cancel_reason": "-",
    "token": "-",
    "test": "tags",
    "currency": "currency",
    "presentment_currency": "currency",
    "taxes_included": "taxes_included",
    "total_price": "total",
    "total_price_set": "total",
    "current_total_price": "total",
    "current_total_price_set": "total",
    "total_outstanding": "payments",
    "total_tax": "lines.taxes",
    "total_tax_set": "lines.taxes",
    "total_discounts": "lines.discounts",
    "total_discounts_set": "lines.discounts",
    "total_tip_received": "fees",
    "total_tip_received_set": "fees",
    "original_total_additional_fees_set": "fees",
    "duties_included": "fees",
    "financial_status": "payments.status",
    "gateway": "payments.kind",
    "payment_gateway_names": "payments.kind",
    "transactions[].id": "payments.id",
    "transactions[].kind": "payments.status",
    "transactions[].status": "payments.status",
    "transactions[].gateway": "payments.kind",
    "transactions[].amount": "payments.amount",
    "transactions[].currency": "payments.amount",
    "transactions[].authorization": "payments.token",
    "transactions[].parent_id": "payments.status",
    "customer.id": "customer.id",
    "customer.email": "customer.email",
    "customer.phone": "customer.phone",
    "customer.first_name": "customer.name",
    "customer.last_name": "customer.name",
    "email": "customer.email",
    "contact_email": "customer.email",
    "phone": "customer.phone",
    "billing_address.name": "bill_to.name",
    "billing_address.first_name": "bill_to.name",
    "billing_address.last_name": "bill_to.name",
    "billing_address.company": "bill_to.company",
    "billing_address.address1": "bill_to.street",
    "billing_address.address2": "bill_to.line2",
    "billing_address.zip": "bill_to.postal_code",
    "billing_address.city": "bill_to.city",
    "billing_address.province": "bill_to.region",
    "billing_address.province_code": "bill_to.region",
    "billing_address.country": "bill_to.country",
    "billing_address.country_code": "bill_to.country",
    "billing_address.phone": "bill_to.phone",
    "shipping_address.name": "ship_to.name",
    "shipping_address.first_name": "ship_to.name",
    "shipping_address.last_name": "ship_to.name",
    "shipping_address.company": "ship_to.company",
    "shipping_address.address1": "ship_to.street",
    "shipping_address.address2": "ship_to.line2",
    "shipping_address.zip": "ship_to.postal_code",
    "shipping_address.city": "ship_to.city",
    "shipping_address.province": "ship_to.region",
    "shipping_address.province_code": "ship_to.region",
    "shipping_address.country": "ship_to.country",
    "shipping_address.country_code": "ship_to.country",
    "shipping_address.phone": "ship_to.phone",
    "location_id": "pickup.location",
    "note": "note",
    "note_attributes[].name": "attributes",
    "note_attributes[].value": "attributes",
    "tags": "tags",
    "customer_locale": "locale",
    "po_number": "purchase_order",
    "browser_ip": "risk.source_ip",
    "client_details.user_agent": "risk.user_agent",
    "discount_codes[].code": "discounts.code",
    "discount_codes[].amount": "lines.discounts.amount",
    "discount_codes[].type": "lines.discounts.amount",
    "discount_applications[].type": "discounts.kind",
    "discount_applications[].title": "discounts.title",
    "discount_applications[].description": "discounts.title",
    "discount_applications[].code": "discounts.code",
    "tax_lines[].title": "lines.taxes.title",
    "tax_lines[].price": "lines.taxes.amount",
    "tax_lines[].price_set": "lines.taxes.amount",
    "tax_lines[].rate": "lines.taxes.rate",
    "line_items[].id": "lines.line_id",
    "line_items[].sku": "lines.sku",
    "line_items[].variant_id": "lines.sku",
    "line_items[].product_id": "lines.sku",
    "line_items[].name": "lines.title",
    "line_items[].title": "lines.title",
    "line_items[].quantity": "lines.quantity",
    "line_items[].current_quantity": "lines.quantity",
    "line_items[].price": "lines.unit_price",
    "line_items[].price_set": "lines.unit_price",
    "line_items[].requires_shipping": "lines.requires_shipping",
    "line_items[].gift_card": "lines.gift_card",
    "line_items[].total_discount": "lines.discounts.amount",
    "line_items[].total_discount_set": "lines.discounts.amount",
    "line_items[].discount_allocations[].amount": "lines.discounts.amount",
    "line_items[].discount_allocations[].amount_set": "lines.discounts.amount",
    "line_items[].discount_allocations[].discount_application_index": "lines.discounts.discount_id",
    "line_items[].tax_lines[].title": "lines.taxes.title",
    "line_items[].tax_lines[].price": "lines.taxes.amount",
    "line_items[].tax_lines[].price_set": "lines.taxes.amount",
    "line_items[].tax_lines[].rate": "lines.taxes.rate",
    "line_items[].properties[].name": "lines.attributes",
    "line_items[].properties[].value": "lines.attributes",
    "line_items[].duties[].shop_money": "fees.amount",
    "line_items[].duties[].presentment_money": "fees.amount",
    "line_items[].duties[].tax_lines[].title": "fees.taxes.title",
    "line_items[].duties[].tax_lines[].price": "fees.taxes.amount",
    "line_items[].duties[].tax_lines[].price_set": "fees.taxes.amount",
    "line_items[].duties[].tax_lines[].rate": "fees.taxes.rate",
    "shipping_lines[].id": "shipping_lines.id",
    "shipping_lines[].title": "shipping_lines.title",
    "shipping_lines[].code": "shipping_lines.code",
    "shipping_lines[].carrier_identifier": "shipping_lines.carrier",
    "shipping_lines[].delivery_category": "delivery",
    "shipping_lines[].is_removed": "-",
    "shipping_lines[].price": "shipping_lines.price",
    "shipping_lines[].price_set": "shipping_lines.price",
    "shipping_lines[].discounted_price": "shipping_lines.total",
    "shipping_lines[].discounted_price_set": "shipping_lines.total",
    "shipping_lines[].discount_allocations[].amount": "shipping_lines.discounts.amount",
    "shipping_lines[].discount_allocations[].amount_set": "shipping_lines.discounts.amount",
    "shipping_lines[].discount_allocations[].discount_application_index": "shipping_lines.discounts.discount_id",
    "shipping_lines[].tax_lines[].title": "shipping_lines.taxes.title",
    "shipping_lines[].tax_lines[].price": "shipping_lines.taxes.amount",
    "shipping_lines[].tax_lines[].price_set": "shipping_lines.taxes.amount",
    "shipping_lines[].tax_lines[].rate": "shipping_lines.taxes.rate",
}
"""Paths of the payload, and the field of ours that they become; - where they decide what a webhook means."""

_SUM, _SHOP, _SHIPPED = "a sum of what is mapped", "about the shop's own page or session, not about the order", "about what Shopify shipped"
_ACCOUNT = "about the customer's account, not about this order"
_RECEIPT = "receipts and card digits stay with the payment provider"
_RULE = "how the discount was computed; the amounts are in the allocations"
IGNORED = {
    "subtotal_price": _SUM,
    "subtotal_price_set": _SUM,
    "total_line_items_price": _SUM,
    "total_line_items_price_set": _SUM,
    "total_shipping_price_set": _SUM,
    "total_price_usd": _SUM,
    "total_weight": _SUM,
    "original_total_duties_set": _SUM,
    "current_subtotal_price": _SUM,
    "current_subtotal_price_set": _SUM,
    "current_total_tax": _SUM,
    "current_total_tax_set": _SUM,
    "current_total_discounts": _SUM,
    "current_total_discounts_set": _SUM,
    "current_total_duties_set": _SUM,
    "current_total_additional_fees_set": _SUM,
    "current_shipping_price_set": _SUM,
    "line_items[].pre_tax_price": _SUM,
    "line_items[].pre_tax_price_set": _SUM,
    "shipping_lines[].current_discounted_price_set": _SUM,
    "total_cash_rounding_payment_adjustment_set": "rounding of cash at a till, outside of the total",
    "total_cash_rounding_refund_adjustment_set": "rounding of cash at a till, outside of the total",
    "number": "the number without its prefix; `name` has both",
    "order_number": "the number without its prefix; `name` has both",
    "confirmation_number": "another name for the order",
    "cart_token": _SHOP,
    "checkout_id": _SHOP,
    "checkout_token": _SHOP,
    "reference": _SHOP,
    "referring_site": _SHOP,
    "landing_site": _SHOP,
    "landing_site_ref": _SHOP,
    "order_status_url": _SHOP,
    "source_name": _SHOP,
    "source_identifier": _SHOP,
    "source_url": _SHOP,
    "app_id": _SHOP,
    "user_id": _SHOP,
    "device_id": _SHOP,
    "merchant_business_entity_id": _SHOP,
    "merchant_of_record_app_id": _SHOP,
    "buyer_accepts_marketing": "marketing, not the order",
    "client_details.accept_language": _SHOP,
    "client_details.browser_height": _SHOP,
    "client_details.browser_ip": _SHOP,
    "client_details.browser_width": _SHOP,
    "client_details.session_hash": _SHOP,
    "confirmed": "true of every order that is sent",
    "closed_at": _SHIPPED,
    "fulfillment_status": _SHIPPED,
    "fulfillments": _SHIPPED,
    "processing_method": "`payment_gateway_names` says how it is paid",
    "estimated_taxes": "taxes are as Shopify says, estimated or not",
    "tax_exempt": "taxes are as Shopify says",
    "payment_terms": "`financial_status` says what is due; the dates are Shopify's to watch",
    "refunds": "the amounts and quantities that remain are in `current_total_price` and `current_quantity`",
    "returns": "returns after the order",
    "company": "ids of Shopify alone; the name is in the addresses",
    "transactions[].admin_graphql_api_id": _RECEIPT,
    "transactions[].order_id": _RECEIPT,
    "transactions[].message": _RECEIPT,
    "transactions[].created_at": _RECEIPT,
    "transactions[].processed_at": _RECEIPT,
    "transactions[].test": _RECEIPT,
    "transactions[].location_id": _RECEIPT,
    "transactions[].user_id": _RECEIPT,
    "transactions[].device_id": _RECEIPT,
    "transactions[].receipt": _RECEIPT,
    "transactions[].error_code": _RECEIPT,
    "transactions[].source_name": _RECEIPT,
    "transactions[].payment_details": _RECEIPT,
    "transactions[].payment_id": _RECEIPT,
    "transactions[].total_unsettled_set": _RECEIPT,
    "transactions[].manual_payment_gateway": _RECEIPT,
    "transactions[].amount_rounding": _RECEIPT,
    "customer.accepts_marketing": _ACCOUNT,
    "customer.accepts_marketing_updated_at": _ACCOUNT,
    "customer.addresses": _ACCOUNT,
    "customer.admin_graphql_api_id": _ACCOUNT,
    "customer.created_at": _ACCOUNT,
    "customer.currency": _ACCOUNT,
    "customer.default_address": _ACCOUNT,
    "customer.email_marketing_consent": _ACCOUNT,
    "customer.last_order_id": _ACCOUNT,
    "customer.last_order_name": _ACCOUNT,
    "customer.marketing_opt_in_level": _ACCOUNT,
    "customer.multipass_identifier": _ACCOUNT,
    "customer.note": _ACCOUNT,
    "customer.orders_count": _ACCOUNT,
    "customer.sms_marketing_consent": _ACCOUNT,
    "customer.state": _ACCOUNT,
    "customer.tags": _ACCOUNT,
    "customer.tax_exempt": _ACCOUNT,
    "customer.tax_exemptions": _ACCOUNT,
    "customer.total_spent": _ACCOUNT,
    "customer.updated_at": _ACCOUNT,
    "customer.verified_email": _ACCOUNT,
    "billing_address.latitude": "coordinates",
    "billing_address.longitude": "coordinates",
    "billing_address.id": _ACCOUNT,
    "shipping_address.latitude": "coordinates",
    "shipping_address.longitude": "coordinates",
    "shipping_address.id": _ACCOUNT,
    "discount_applications[].allocation_method": _RULE,
    "discount_applications[].target_selection": _RULE,
    "discount_applications[].target_type": _RULE,
    "discount_applications[].value": _RULE,
    "discount_applications[].value_type": _RULE,
    "tax_lines[].channel_liable": "who remits the tax",
    "line_items[].admin_graphql_api_id": "another name for `id`",
    "line_items[].attributed_staffs": _SHOP,
    "line_items[].fulfillable_quantity": _SHIPPED,
    "line_items[].fulfillment_service": _SHIPPED,
    "line_items[].fulfillment_status": _SHIPPED,
    "line_items[].grams": "about the product, as it is in the catalogue",
    "line_items[].product_exists": "about the product, as it is in the catalogue",
    "line_items[].taxable": "taxes are as Shopify says",
    "line_items[].tax_lines[].channel_liable": "who remits the tax",
    "line_items[].variant_title": "part of `name`",
    "line_items[].variant_inventory_management": "about the product, as it is in the catalogue",
    "line_items[].vendor": "about the product, as it is in the catalogue",
    "line_items[].duties[].tax_lines[].channel_liable": "who remits the tax",
    "line_items[].duties[].id": "what customs asks is with the product",
    "line_items[].duties[].harmonized_system_code": "what customs asks is with the product",
    "line_items[].duties[].country_code_of_origin": "what customs asks is with the product",
    "line_items[].duties[].admin_graphql_api_id": "what customs asks is with the product",
    "shipping_lines[].source": "`carrier_identifier` and `code` name the service",
    "shipping_lines[].phone": "the address has it",
    "shipping_lines[].requested_fulfillment_service_id": _SHIPPED,
    "shipping_lines[].tax_lines[].channel_liable": "who remits the tax",
}
"""Paths that are left out with what lies below them, and why."""

_CANCELED_BY = {
    "customer": "the customer canceled it",
    "fraud": "the shop suspects fraud",
    "inventory": "the shop has not the goods",
    "declined": "the payment was declined",
    "staff": "it was a mistake of the shop's staff",
}
_KINDS = {"discount_code": "code", "automatic": "automatic", "script": "automatic", "manual": "manual"}
_STATUSES = {
    "paid": "captured",
    "refunded": "captured",
    "partially_refunded": "captured",
    "authorized": "authorized",
    "pending": "due",
}


def _body(document: Any) -> object:
    """The order: the payload itself, or in an envelope of the REST API."""
    members = cast(dict[str, Any], document) if isinstance(document, dict) else {}
    order: object = members.get("order")
    return cast(object, order if isinstance(order, dict) else document)


def _standing(root: Source) -> Standing | None:
    reference = root["id"].identifier()
    if reference is None:
        return None
    if "line_items" not in root and "total_price" not in root:
        return Standing(reference, None, "it was deleted in the shop") if set(root.value) == {"id"} else None
    canceled = None
    if root["cancelled_at"].value is not None:
        reason = root["cancel_reason"].text()
        canceled = f"canceled in the shop: {_CANCELED_BY.get(reason or '', reason or 'no reason is given')}"
    return Standing(reference, root["updated_at"].moment(), canceled, root["token"].text())


def _refusal(root: Source) -> Reason | None:
    if "fulfillment_order" in root or "fulfillmentOrder" in root or "fulfillmentOrders" in root:
        name = next(name for name in ("fulfillment_order", "fulfillmentOrder", "fulfillmentOrders") if name in root)
        missing = "its lines have no price, title or SKU, and it has no currency, total, customer or payment; its order's webhook has"
        return Reason(name, f"is what Shopify asks a location to ship of an order, not the order: {missing}")
    if set(root.value) == {"id"}:
        return Reason("id", "is all there is: the order was deleted in the shop")
    if "line_items" not in root and "total_price" not in root:
        return Reason("line_items", "is missing, and `total_price` too: this is not an order")
    return None


@dataclass(slots=True)
class _Money:
    """Amounts in the currency that the customer pays in. `is_converted`: it is not the shop's, so amounts are in the `_set` fields."""

    is_converted: bool

    def of(self, source: Source, name: str) -> int | None:
        return source[f"{name}_set"]["presentment_money"]["amount"].amount() if self.is_converted else source[name].amount()

    def required(self, source: Source, name: str) -> int:
        found = self.of(source, name)
        place = source[f"{name}_set"]["presentment_money"]["amount"] if self.is_converted else source[name]
        return place.required(found) or 0

    def of_set(self, source: Source) -> int | None:
        return source["presentment_money" if self.is_converted else "shop_money"]["amount"].amount()

    def taxes(self, source: Source) -> Iterator[Tax]:
        """The tax lines of a line, but for those of no amount."""
        for tax in source["tax_lines"].entries(MAX_SHARED):
            amount = self.required(tax, "price")
            rate = tax["rate"].decimal()
            found = Tax(title=tax["title"].text() or "Tax", amount=amount, rate=None if rate is None else f"{rate:f}")
            if amount:
                yield found


@dataclass(slots=True)
class _Part:
    """A line or shipping line on the way: what it costs before discounts, and its shares."""

    gross: int
    shares: list[DiscountShare]
    taxes: list[Tax]

    @property
    def total(self) -> int:
        return self.gross - sum(share.amount for share in self.shares)


@dataclass(slots=True)
class _Line:
    part: _Part
    source: Source
    line_id: str
    sku: str
    unit_price: int
    quantity: int
    ordered: int
    requires_shipping: bool


@dataclass(slots=True)
class _Shipping:
    part: _Part
    source: Source
    id: str
    is_pickup: bool


def _build(root: Source, channel: str) -> OrderPlaced | None:
    currency = currency_of(root["presentment_currency"] if root["presentment_currency"].value else root["currency"])
    shop_currency = root["currency"].text()
    reference = root["id"].required(root["id"].identifier())
    placed_at = root["processed_at"].moment() or root["created_at"].required(root["created_at"].moment())
    if currency is None or reference is None or placed_at is None:
        return None
    money = _Money(is_converted=shop_currency is not None and shop_currency.upper() != currency)
    discounts = Discounts()
    applications = list(_applications(root, discounts))
    lines = [line for entry in root["line_items"].entries() if (line := _line(entry, money, discounts, applications))]
    if not lines:
        root["line_items"].refuse("has no line with a quantity")
    shipping = [_shipping(entry, index, money, discounts, applications) for index, entry in _kept(root["shipping_lines"])]
    is_reduced = any(line.quantity < line.ordered for line in lines) or _has_removed(root)
    _share_order_discounts(root, money, discounts, lines, shipping)
    taxes_included = bool(root["taxes_included"].flag())
    _share_order_taxes(root, money, lines, shipping)
    fees = tuple(_fees(root, money, lines))
    _reduce(lines)
    total = money.required(root, "total_price")
    current = money.of(root, "current_total_price")
    if is_reduced and current is not None:
        total = current
    elif current is not None and current != total:
        root["current_total_price"].remark(
            "differs from total_price: the shop took off or refunded the rest, and no line of the order says it"
        )
    customer = _customer(root, reference)
    ship_to = _address(root["shipping_address"], is_required=True)
    bill_to = _address(root["billing_address"], is_required=False)
    location = root["location_id"].identifier(MAX_CODE_CHARACTERS)
    is_pickup = ship_to is None or any(line.is_pickup for line in shipping)
    is_placed = ship_to is not None or location is not None or any(line.is_pickup for line in shipping)
    if not is_placed and any(line.requires_shipping for line in lines):
        root["shipping_address"].refuse("is missing, lines are to be shipped, and no location is named where they are collected")
    tags = [tag.strip() for tag in (root["tags"].text(5_000) or "").split(",") if tag.strip()]
    if root["test"].flag():
        tags.append("test")
        root["test"].remark("this is an order of the shop's test mode; it has the tag `test`")
    built_lines = tuple(_built_line(line) for line in lines)
    return OrderPlaced(
        channel=channel,
        channel_reference=reference,
        placed_at=placed_at,
        customer=customer,
        currency=currency,
        lines=built_lines,
        total=total,
        payments=_payments(root, money, total, currency, reference),
        taxes_included=taxes_included,
        shipping_lines=tuple(_built_shipping(line) for line in shipping),
        fees=fees,
        discounts=discounts.all(),
        delivery="pickup" if is_pickup else "ship",
        ship_to=None if is_pickup else ship_to,
        bill_to=bill_to,
        pickup=Pickup(location=location, contact=_contact(customer, bill_to)) if is_pickup else None,
        number=root["name"].text(),
        purchase_order=root["po_number"].text(),
        note=root["note"].prose(),
        locale=root["customer_locale"].text(),
        tags=tuple(dict.fromkeys(tags)),
        attributes=attributes_of((entry, entry["name"].text(), entry["value"]) for entry in root["note_attributes"].entries()),
        risk=_risk(root),
    )


def _applications(root: Source, discounts: Discounts) -> Iterator[str]:
    """Names the discounts by their position, as allocations refer to them."""
    for index, entry in enumerate(root["discount_applications"].entries()):
        kind = _KINDS.get(entry["type"].text() or "", "other")
        code = entry["code"].text()
        title = entry["title"].text() or code or entry["description"].text() or "Discount"
        yield discounts.add(str(index), title, kind, code)


def _allocations(source: Source, money: _Money, discounts: Discounts, applications: list[str]) -> Iterator[DiscountShare]:
    for entry in source["discount_allocations"].entries():
        amount = money.required(entry, "amount")
        index = entry["discount_application_index"].quantity()
        if index is None or index >= len(applications):
            entry["discount_application_index"].refuse("is not a position in `discount_applications`")
            continue
        yield from discounts.share(applications[index], amount)


def _line(entry: Source, money: _Money, discounts: Discounts, applications: list[str]) -> _Line | None:
    line_id = entry["id"].required(entry["id"].identifier())
    ordered = entry["quantity"].required(entry["quantity"].quantity())
    unit_price = money.required(entry, "price")
    if line_id is None or ordered is None:
        return None
    current = entry["current_quantity"].quantity()
    quantity = ordered if current is None else min(current, ordered)
    if quantity < ordered:
        entry["current_quantity"].remark(f"{ordered - quantity} of {ordered} were taken out of the order before it was placed here")
    shares = list(_allocations(entry, money, discounts, applications))
    if not shares:
        shares = (
            list(discounts.share(discounts.add("line", "Discount of the line", "manual"), of_line))
            if (of_line := money.of(entry, "total_discount"))
            else []
        )
    part = _Part(ordered * unit_price, shares, list(money.taxes(entry)))
    requires_shipping = entry["requires_shipping"].flag()
    if quantity == 0:
        return None
    sku = _sku(entry)
    return _Line(part, entry, line_id, sku, unit_price, quantity, ordered, requires_shipping is not False)


def _sku(entry: Source) -> str:
    sku = entry["sku"].identifier(MAX_CODE_CHARACTERS)
    if sku is not None:
        return sku
    for name in ("variant_id", "product_id"):
        found = entry[name].identifier(MAX_CODE_CHARACTERS - 10)
        if found is not None:
            entry["sku"].remark(f"is empty; the line has the SKU {name[:-3]}-{found}")
            return f"{name[:-3]}-{found}"
    entry["sku"].refuse("is empty, and there is neither variant_id nor product_id")
    return ""


def _kept(source: Source) -> Iterator[tuple[int, Source]]:
    """Shipping lines that were not removed, and their positions."""
    for index, entry in enumerate(source.entries()):
        if entry["is_removed"].flag():
            entry["is_removed"].remark("the shipping line was taken out of the order and was left out")
        else:
            yield index, entry


def _has_removed(root: Source) -> bool:
    """Whether a line was removed as a whole."""
    return any(entry["current_quantity"].value == 0 != entry["quantity"].value for entry in root["line_items"].entries())


def _shipping(entry: Source, index: int, money: _Money, discounts: Discounts, applications: list[str]) -> _Shipping:
    price = money.required(entry, "price")
    shares = list(_allocations(entry, money, discounts, applications))
    discounted = money.of(entry, "discounted_price")
    if not shares and discounted is not None and discounted < price:
        shares = list(discounts.share(discounts.add("shipping", "Discount of the shipping", "manual"), price - discounted))
    part = _Part(price, shares, list(money.taxes(entry)))
    is_pickup = entry["delivery_category"].text() == "pickup"
    return _Shipping(part, entry, entry["id"].identifier() or str(index + 1), is_pickup)


def _share_order_discounts(root: Source, money: _Money, discounts: Discounts, lines: list[_Line], shipping: list[_Shipping]) -> None:
    """Share what the order's discounts are beyond the allocations: an order of an old API version has none."""
    parts = [line.part for line in lines]
    said = money.of(root, "total_discounts") or 0
    rest = said - sum(share.amount for part in (*parts, *(line.part for line in shipping)) for share in part.shares)
    codes = [(entry["code"].text(), entry["amount"], entry["type"].text()) for entry in root["discount_codes"].entries(MAX_SHARED)]
    if rest <= 0 or _has_removed(root) or any("discount_allocations" in line.source for line in lines):
        return  # with allocations, the rest belongs to lines that were removed
    for number, (code, amount, kind) in enumerate(codes):
        of_code = rest if money.is_converted else min(amount.amount() or 0, rest)
        rest -= of_code
        name = discounts.add(f"code-{number}", code or "Discount code", "code", code)
        _share(name, of_code, [line.part for line in shipping] if kind == "shipping" else parts, discounts, root["discount_codes"])
    if rest:
        _share(discounts.add("order", "Discount of the order", "manual"), rest, parts, discounts, root["total_discounts"])


def _share(discount: str, amount: int, parts: list[_Part], discounts: Discounts, source: Source) -> None:
    if amount > sum(part.total for part in parts):
        source.refuse("takes off more than there is to pay")
        return
    for part, share in zip(parts, allocate(amount, [part.total for part in parts]), strict=True):
        part.shares += discounts.share(discount, share)


def _share_order_taxes(root: Source, money: _Money, lines: list[_Line], shipping: list[_Shipping]) -> None:
    """Share the order's tax lines where no line has taxes: an order of an old API version."""
    parts = [line.part for line in lines] + [line.part for line in shipping]
    of_order = list(money.taxes(root))
    found = sum(tax.amount for part in parts for tax in part.taxes)
    if not found:
        weights = [max(part.total, 0) for part in parts]
        for tax in of_order:
            if tax.amount < 0:
                root["tax_lines"].refuse("must not be negative")
                return
            for part, amount in zip(parts, allocate(tax.amount, weights), strict=True):
                if amount:
                    part.taxes.append(Tax(title=tax.title, amount=amount, rate=tax.rate))
        found = sum(tax.amount for tax in of_order)
    of_duties = sum(tax.amount for line in lines for duty in line.source["duties"].entries() for tax in money.taxes(duty))
    said = money.of(root, "total_tax")
    if said is not None and said != found + of_duties:
        root["total_tax"].remark("differs from the taxes of lines, shipping and duties, which count")


def _fees(root: Source, money: _Money, lines: list[_Line]) -> Iterator[Fee]:
    tip = money.of(root, "total_tip_received")
    if tip:
        yield Fee(kind="tip", title="Tip", amount=tip)
    additional = money.of_set(root["original_total_additional_fees_set"])
    if additional:
        yield Fee(kind="other", title="Additional fees", amount=additional)
    are_included = root["duties_included"].flag()
    for line in lines:
        for duty in line.source["duties"].entries():
            amount, taxes = money.of_set(duty), tuple(money.taxes(duty))
            if amount and not are_included:
                kept = part_of(amount, line.quantity, line.ordered)
                yield Fee(kind="duty", title=f"Duty on {line.sku}", amount=kept, taxes=_kept_taxes(taxes, line))


def _reduce(lines: list[_Line]) -> None:
    """Leave in each line what belongs to the units that are left of it."""
    for line in lines:
        if line.quantity < line.ordered:
            line.part.gross = line.quantity * line.unit_price
            line.part.shares = [
                DiscountShare(discount_id=share.discount_id, amount=amount)
                for share in line.part.shares
                if (amount := part_of(share.amount, line.quantity, line.ordered))
            ]
            line.part.taxes = list(_kept_taxes(line.part.taxes, line))


def _kept_taxes(taxes: list[Tax] | tuple[Tax, ...], line: _Line) -> tuple[Tax, ...]:
    return tuple(Tax(title=tax.title, amount=part_of(tax.amount, line.quantity, line.ordered), rate=tax.rate) for tax in taxes)


def _built_line(line: _Line) -> LineItem:
    source = line.source
    return LineItem(
        line_id=line.line_id,
        sku=line.sku,
        quantity=line.quantity,
        unit_price=line.unit_price,
        total=line.part.total,
        title=source["name"].text() or source["title"].text() or "",
        requires_shipping=line.requires_shipping,
        gift_card=bool(source["gift_card"].flag()),
        taxes=tuple(line.part.taxes),
        discounts=tuple(line.part.shares),
        attributes=attributes_of((entry, entry["name"].text(), entry["value"]) for entry in source["properties"].entries()),
    )


def _built_shipping(line: _Shipping) -> ShippingLine:
    source = line.source
    return ShippingLine(
        id=line.id,
        title=source["title"].text() or "Shipping",
        price=line.part.gross,
        total=line.part.total,
        code=source["code"].text() or "",
        carrier=source["carrier_identifier"].text(),
        taxes=tuple(line.part.taxes),
        discounts=tuple(line.part.shares),
    )


def _customer(root: Source, reference: str) -> Customer:
    customer = root["customer"]
    email = root["email"].text() or root["contact_email"].text() or customer["email"].text()
    phone = root["phone"].text() or customer["phone"].text()
    name = joined(customer["first_name"].text(), customer["last_name"].text())
    company = root["billing_address"]["company"].text()
    found = customer["id"].identifier() or email or phone or f"guest-{reference}"
    return Customer(id=found, email=email, phone=phone, name=name, company=company)


def _contact(customer: Customer, bill_to: Address | None) -> Contact | None:
    name = customer.name or (bill_to.name if bill_to else None)
    return Contact(name=name, phone=customer.phone, email=customer.email) if name else None


def _address(source: Source, *, is_required: bool) -> Address | None:
    if not source.object():
        return None
    return address_of(
        source,
        name=source["name"].text() or joined(source["first_name"].text(), source["last_name"].text()),
        street=source["address1"],
        line2=source["address2"],
        postal_code=source["zip"],
        city=source["city"],
        region=source["province_code"].text() or source["province"].text(),
        country=country_of(source["country_code"] if source["country_code"].value else source["country"]),
        company=source["company"],
        phone=source["phone"].text(),
        is_required=is_required,
    )


def _risk(root: Source) -> Risk | None:
    source_ip, user_agent = root["browser_ip"].text(), root["client_details"]["user_agent"].prose()
    return Risk(source_ip=source_ip, user_agent=user_agent) if source_ip or user_agent else None


def _payments(root: Source, money: _Money, total: int, currency: str, reference: str) -> tuple[OrderPayment, ...]:
    """The transactions where they pay the total, otherwise what `financial_status` says of all of it."""
    if total == 0:
        return ()
    from_transactions = _transactions(root, total, currency)
    if from_transactions:
        return from_transactions
    names = [name for each in root["payment_gateway_names"].values() if (name := each.text())]
    kind = next((name for name in names if name != "gift_card"), None) or root["gateway"].text() or next(iter(names), "unknown")
    if len(names) > 1:
        root["payment_gateway_names"].remark(f"has several means of payment, but not what each paid; {kind} stands for all")
    token = root["admin_graphql_api_id"].text() or f"gid://shopify/Order/{reference}"
    status = root["financial_status"].text()
    if status == "partially_paid":
        due = root["total_outstanding"].required(root["total_outstanding"].amount())
        if money.is_converted:
            root["total_outstanding"].refuse("is in the shop's currency, and the customer pays in another one")
        if due is None or not 0 < due <= total:
            root["total_outstanding"].refuse("must be more than 0 and at most the total of an order that is paid in part")
            return ()
        paid = OrderPayment(id="1", kind=kind, amount=total - due, token=token, status="captured")
        return (*((paid,) if paid.amount else ()), OrderPayment(id="2", kind="invoice", amount=due, status="due"))
    ours = _STATUSES.get(status or "", "authorize")
    return (OrderPayment(id="1", kind=kind, amount=total, token="" if ours == "due" else token, status=ours),)


def _transactions(root: Source, total: int, currency: str) -> tuple[OrderPayment, ...]:
    source = root["transactions"]
    found: list[OrderPayment] = []
    succeeded = [entry for entry in source.entries() if entry["status"].text() == "success"]
    parents = {entry["parent_id"].identifier() for entry in succeeded if entry["kind"].text() in {"capture", "void"}}
    for entry in succeeded:
        kind, id = entry["kind"].text(), entry["id"].identifier()
        of_currency = entry["currency"].text()
        if kind not in {"sale", "capture", "authorization"} or (kind == "authorization" and id in parents):
            continue
        if of_currency is not None and of_currency != currency:
            entry["currency"].remark(f"is not {currency}, the order's: `financial_status` counts instead of the transactions")
            return ()
        amount = entry["amount"].amount()
        if amount:
            status = "authorized" if kind == "authorization" else "captured"
            token = entry["authorization"].text() or id or ""
            payment = OrderPayment(
                id=id or str(len(found) + 1), kind=entry["gateway"].text() or "unknown", amount=amount, token=token, status=status
            )
            found.append(payment)
    if found and sum(payment.amount for payment in found) != total:
        source.remark("do not add up to the total: `financial_status` counts instead")
        return ()
    return tuple(found)


SHOPIFY = Adapter(name="shopify", consumed=CONSUMED, ignored=IGNORED, body=_body, standing=_standing, refusal=_refusal, build=_build)
