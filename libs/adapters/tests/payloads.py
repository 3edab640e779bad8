"""Orders of our own, made by hand after the platforms' documentation: they have every field that the adapters know, and add up."""

import copy
import json
from typing import Any


def raw(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def both(shop: str, customer: str, currency: str) -> dict[str, Any]:
    return {
        "shop_money": {"amount": shop, "currency_code": "EUR"},
        "presentment_money": {"amount": customer, "currency_code": currency},
    }


_SHOPIFY_ADDRESS = {
    "name": "Ada Byron",
    "first_name": "Ada",
    "last_name": "Byron",
    "company": "Engines Ltd",
    "address1": "5 High Street",
    "address2": "Floor 2",
    "zip": "N1 9GU",
    "city": "London",
    "province": "England",
    "province_code": "ENG",
    "country": "United Kingdom",
    "country_code": "GB",
    "phone": "+44 20 7946 0001",
}

SHOPIFY: dict[str, Any] = {
    "id": 9001,
    "admin_graphql_api_id": "gid://shopify/Order/9001",
    "name": "#1001",
    "created_at": "2026-03-01T10:00:00+01:00",
    "processed_at": "2026-03-01T10:00:01+01:00",
    "updated_at": "2026-03-01T10:00:02+01:00",
    "cancelled_at": None,
    "cancel_reason": None,
    "currency": "EUR",
    "presentment_currency": "EUR",
    "taxes_included": False,
    "total_price": "63.21",
    "current_total_price": "63.21",
    "total_tax": "7.71",
    "total_discounts": "6.00",
    "total_tip_received": "2.00",
    "original_total_additional_fees_set": both("1.50", "1.50", "EUR"),
    "financial_status": "paid",
    "payment_gateway_names": ["shopify_payments", "gift_card"],
    "transactions": [
        {"id": 1, "kind": "authorization", "status": "success", "gateway": "shopify_payments", "amount": "43.21", "currency": "EUR"},
        {
            "id": 2,
            "parent_id": 1,
            "kind": "capture",
            "status": "success",
            "gateway": "shopify_payments",
            "amount": "43.21",
            "currency": "EUR",
            "authorization": "pi_1",
        },
        {"id": 3, "kind": "sale", "status": "success", "gateway": "gift_card", "amount": "20.00", "currency": "EUR"},
        {"id": 4, "kind": "sale", "status": "failure", "gateway": "shopify_payments", "amount": "63.21", "currency": "EUR"},
    ],
    "customer": {"id": 77, "email": "ada@example.com", "phone": None, "first_name": "Ada", "last_name": "Byron"},
    "email": "ada@example.com",
    "phone": "+44 20 7946 0000",
    "billing_address": _SHOPIFY_ADDRESS,
    "shipping_address": _SHOPIFY_ADDRESS,
    "note": "Ring twice",
    "note_attributes": [{"name": "engraving", "value": "A. B."}],
    "tags": "vip, spring",
    "customer_locale": "en-GB",
    "po_number": "PO-7",
    "browser_ip": "203.0.113.7",
    "client_details": {"user_agent": "Mozilla/5.0"},
    "discount_codes": [{"code": "SPRING", "amount": "5.00", "type": "fixed_amount"}],
    "discount_applications": [
        {"type": "discount_code", "code": "SPRING", "target_type": "line_item"},
        {"type": "automatic", "title": "Free gift", "target_type": "line_item"},
    ],
    "tax_lines": [{"title": "VAT", "price": "7.71", "rate": 0.19}],
    "line_items": [
        {
            "id": 1,
            "sku": "MUG",
            "variant_id": 11,
            "product_id": 12,
            "name": "Mug - blue",
            "title": "Mug",
            "quantity": 3,
            "current_quantity": 3,
            "price": "10.00",
            "requires_shipping": True,
            "gift_card": False,
            "total_discount": "0.00",
            "discount_allocations": [{"amount": "3.75", "discount_application_index": 0}],
            "tax_lines": [{"title": "VAT", "price": "4.99", "rate": 0.19}],
            "properties": [{"name": "colour", "value": "blue"}],
            "duties": [{"shop_money": {"amount": "1.00"}, "tax_lines": [{"title": "VAT", "price": "0.20", "rate": 0.2}]}],
        },
        {
            "id": 2,
            "sku": "",
            "variant_id": 21,
            "product_id": 22,
            "name": "Plate",
            "title": "Plate",
            "quantity": 1,
            "price": "10.00",
            "requires_shipping": True,
            "gift_card": False,
            "discount_allocations": [
                {"amount": "1.25", "discount_application_index": 0},
                {"amount": "1.00", "discount_application_index": 1},
            ],
            "tax_lines": [{"title": "VAT", "price": "1.47", "rate": 0.19}],
        },
    ],
    "shipping_lines": [
        {
            "id": 31,
            "title": "Standard",
            "code": "STD",
            "carrier_identifier": "DHL",
            "price": "7.00",
            "discounted_price": "7.00",
            "discount_allocations": [],
            "tax_lines": [{"title": "VAT", "price": "1.05", "rate": 0.19}],
        }
    ],
}
"""Lines 30.00 - 3.75 and 10.00 - 2.25, shipping 7.00, tip 2.00, fees 1.50, a duty 1.00, taxes 7.71 on top of it all: 53.21."""
SHOPIFY["total_price"] = SHOPIFY["current_total_price"] = "53.21"
SHOPIFY["transactions"][0]["amount"] = SHOPIFY["transactions"][1]["amount"] = "33.21"

SHOPIFY_OLD: dict[str, Any] = {
    "id": 9002,
    "created_at": "2026-03-01T10:00:00Z",
    "updated_at": "2026-03-01T10:00:00Z",
    "currency": "JPY",
    "taxes_included": True,
    "total_price": "2001",
    "total_tax": "182",
    "total_discounts": "100",
    "financial_status": "partially_paid",
    "total_outstanding": "501",
    "gateway": "cash",
    "contact_email": "ada@example.com",
    "cancelled_at": "2026-03-01T11:00:00Z",
    "cancel_reason": "customer",
    "test": True,
    "location_id": 5,
    "discount_codes": [{"code": "HUNDRED", "amount": "100", "type": "fixed_amount"}],
    "tax_lines": [{"title": "Tax", "price": "182", "rate": 0.1}],
    "line_items": [
        {"id": 1, "sku": "A", "title": "A", "quantity": 1, "price": "1000", "total_discount": "0", "requires_shipping": True},
        {"id": 2, "sku": "B", "title": "B", "quantity": 1, "price": "1101", "total_discount": "0", "requires_shipping": False},
    ],
}
"""As an old API version sends it: neither discounts nor taxes are allocated to lines."""


def _money_set(name: str, shop: str, customer: str) -> dict[str, Any]:
    return {name: shop, f"{name}_set": both(shop, customer, "USD")}


SHOPIFY_CONVERTED: dict[str, Any] = {
    "id": 9003,
    "created_at": "2026-03-01T10:00:00Z",
    "currency": "EUR",
    "presentment_currency": "USD",
    "taxes_included": True,
    **_money_set("total_price", "18.00", "20.60"),
    **_money_set("current_total_price", "18.00", "20.60"),
    **_money_set("total_tax", "3.00", "3.40"),
    **_money_set("total_discounts", "2.00", "2.40"),
    **_money_set("total_tip_received", "0.00", "0.00"),
    "duties_included": True,
    "financial_status": "authorized",
    "payment_gateway_names": ["shopify_payments"],
    "shipping_address": _SHOPIFY_ADDRESS,
    "billing_address": None,
    "discount_applications": [{"type": "manual", "description": "Sorry"}],
    "tax_lines": [{"title": "VAT", "rate": "0.2", **_money_set("price", "3.00", "3.40")}],
    "line_items": [
        {
            "id": 1,
            "sku": "A",
            "name": "A",
            "quantity": 2,
            "discount_allocations": [{"discount_application_index": 0, **_money_set("amount", "1.00", "1.20")}],
            "tax_lines": [{"title": "VAT", "rate": "0.2", **_money_set("price", "2.00", "2.30")}],
            "duties": [{"presentment_money": {"amount": "1.00"}, "tax_lines": [{"title": "VAT", **_money_set("price", "0", "0")}]}],
            **_money_set("price", "7.50", "8.60"),
            **_money_set("total_discount", "0.00", "0.00"),
        }
    ],
    "shipping_lines": [
        {
            "id": 1,
            "title": "Express",
            "delivery_category": None,
            "is_removed": False,
            "discount_allocations": [{"discount_application_index": 0, **_money_set("amount", "1.00", "1.20")}],
            "tax_lines": [{"title": "VAT", "rate": "0.2", **_money_set("price", "1.00", "1.10")}],
            **_money_set("price", "5.00", "5.80"),
            **_money_set("discounted_price", "4.00", "4.60"),
        }
    ],
}
"""The customer pays in dollars, the shop counts in euros."""

_WOO_ADDRESS = {
    "first_name": "Ada",
    "last_name": "Byron",
    "company": "Engines Ltd",
    "address_1": "5 High Street",
    "address_2": "Floor 2",
    "postcode": "94103",
    "city": "San Francisco",
    "state": "CA",
    "country": "US",
    "phone": "+1 415 555 0100",
}

WOOCOMMERCE: dict[str, Any] = {
    "id": 727,
    "number": "W-727",
    "status": "processing",
    "currency": "USD",
    "date_created": "2026-03-01T09:00:00",
    "date_created_gmt": "2026-03-01T17:00:00",
    "date_modified": "2026-03-01T09:00:05",
    "date_modified_gmt": "2026-03-01T17:00:05",
    "total": "34.41",
    "total_tax": "2.41",
    "customer_id": 5,
    "customer_ip_address": "203.0.113.7",
    "customer_user_agent": "Mozilla/5.0",
    "customer_note": "Ring twice",
    "billing": {**_WOO_ADDRESS, "email": "ada@example.com"},
    "shipping": _WOO_ADDRESS,
    "payment_method": "stripe",
    "transaction_id": "pi_1",
    "date_paid": "2026-03-01T09:00:05",
    "date_paid_gmt": "2026-03-01T17:00:05",
    "meta_data": [
        {"id": 1, "key": "engraving", "value": "A. B."},
        {"id": 2, "key": "_internal", "value": "x"},
        {"id": 3, "key": "_billing_vat_number", "value": "DE123456789"},
        {"id": 4, "key": "_purchase_order_number", "value": "PO-7"},
        {"id": 5, "key": "options", "value": {"box": True}},
    ],
    "gift_cards": [{"id": 8, "code": "SECRET", "amount": "5.00"}],
    "refunds": [{"id": 9, "reason": "", "total": "-1.00"}],
    "line_items": [
        {
            "id": 1,
            "name": "Mug &ndash; blue",
            "sku": "",
            "variation_id": 0,
            "product_id": 93,
            "quantity": 3,
            "subtotal": "20.00",
            "total": "17.00",
            "total_tax": "1.24",
            "taxes": [{"id": 75, "total": "0.8266666"}, {"id": 76, "total": "0.4133333"}],
            "meta_data": [{"id": 1, "key": "colour", "value": "blue"}],
        },
        {
            "id": 2,
            "name": "Plate",
            "sku": "PLATE",
            "variation_id": 23,
            "product_id": 22,
            "quantity": 1,
            "subtotal": "12.00",
            "total": "10.00",
            "total_tax": "0.73",
            "taxes": [{"id": 75, "total": "0.73"}],
            "meta_data": [],
        },
    ],
    "tax_lines": [
        {"id": 1, "rate_id": 75, "label": "State Tax", "rate_code": "US-CA", "rate_percent": 7.25},
        {"id": 2, "rate_id": 76, "label": "City Tax", "rate_code": "US-CA-SF", "rate_percent": 1.25},
    ],
    "shipping_lines": [
        {
            "id": 3,
            "method_title": "Flat Rate",
            "method_id": "flat_rate",
            "total": "10.00",
            "total_tax": "0.44",
            "taxes": [{"id": 75, "total": "0.44"}],
        }
    ],
    "fee_lines": [
        {"id": 4, "name": "Wrapping", "total": "1.00", "total_tax": "0.00", "taxes": [{"id": 75, "total": "0"}]},
        {"id": 5, "name": "Loyalty", "total": "-1.00", "total_tax": "0.00", "taxes": []},
    ],
    "coupon_lines": [{"id": 6, "code": "spring", "discount": "3.00"}, {"id": 7, "code": "summer", "discount": "2.00"}],
}
"""Lines 17.00 and 10.00 less 1.00, shipping 10.00, a fee 1.00, taxes 2.41: 39.41, of which a gift card paid 5.00 before `total`."""

SALEOR: dict[str, Any] = {
    "id": "T3JkZXI6MQ==",
    "number": "1001",
    "status": "UNFULFILLED",
    "languageCodeEnum": "EN_GB",
    "created": "2026-03-01T10:00:00+00:00",
    "updatedAt": "2026-03-01T10:00:05+00:00",
    "customerNote": "Ring twice",
    "voucherCode": None,
    "shippingMethodName": "Standard",
    "userEmail": "ada@example.com",
    "metadata": [{"key": "engraving", "value": "A. B."}],
    "user": {"id": "VXNlcjox", "email": "ada@example.com", "firstName": "Ada", "lastName": "Byron"},
    "billingAddress": {
        "firstName": "Ada",
        "lastName": "Byron",
        "companyName": "Engines Ltd",
        "streetAddress1": "5 High Street",
        "streetAddress2": "Floor 2",
        "city": "London",
        "cityArea": "",
        "postalCode": "N1 9GU",
        "countryArea": "",
        "country": {"code": "GB", "country": "United Kingdom"},
        "phone": "+44 20 7946 0001",
    },
    "lines": [
        {
            "id": "T3JkZXJMaW5lOjE=",
            "productName": "Mug",
            "variantName": "blue",
            "productSku": "MUG",
            "quantity": 3,
            "isShippingRequired": True,
            "unitDiscountReason": "Spring sale",
            "metadata": [],
            "undiscountedUnitPrice": {"gross": {"currency": "EUR", "amount": 10.1}},
            "unitPrice": {"gross": {"currency": "EUR", "amount": 9.1}},
            "totalPrice": {"gross": {"currency": "EUR", "amount": 27.3}, "tax": {"currency": "EUR", "amount": 4.36}},
        }
    ],
    "shippingPrice": {"gross": {"amount": 4.7, "currency": "EUR"}, "tax": {"amount": 0.75, "currency": "EUR"}},
    "total": {"gross": {"amount": 32, "currency": "EUR"}},
    "transactions": [
        {
            "id": "VHJhbnNhY3Rpb246MQ==",
            "pspReference": "pi_1",
            "chargedAmount": {"amount": 0, "currency": "EUR"},
            "authorizedAmount": {"amount": 30, "currency": "EUR"},
            "paymentMethodDetails": {"name": "Credit card", "brand": "visa"},
        }
    ],
}
SALEOR["shippingAddress"] = copy.deepcopy(SALEOR["billingAddress"])

AMAZON: dict[str, Any] = {
    "order": {
        "orderId": "202-0000001-0000001",
        "createdTime": "2026-03-01T10:00:00Z",
        "lastUpdatedTime": "2026-03-01T10:05:00Z",
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": "A1F83G8C2ARO7P"},
        "buyer": {"buyerName": "Ada Byron", "buyerEmail": "x@marketplace.example"},
        "recipient": {
            "deliveryAddress": {
                "name": "Ada Byron",
                "addressLine1": "5 High Street",
                "city": "London",
                "postalCode": "N1 9GU",
                "countryCode": "GB",
            }
        },
        "proceeds": {"grandTotal": {"amount": "33.00", "currencyCode": "GBP"}},
        "fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "MERCHANT", "fulfillmentServiceLevel": "STANDARD"},
        "orderItems": [
            {
                "orderItemId": "1",
                "quantityOrdered": 3,
                "product": {"asin": "B000000001", "sellerSku": "MUG", "title": "Mug", "price": {"unitPrice": {"amount": "8.33"}}},
                "proceeds": {
                    "breakdowns": [
                        {"type": "ITEM", "subtotal": {"amount": "25.00"}},
                        {"type": "SHIPPING", "subtotal": {"amount": "4.00"}},
                        {"type": "GIFT_WRAP", "subtotal": {"amount": "2.00"}},
                        {
                            "type": "DISCOUNT",
                            "subtotal": {"amount": "-3.00"},
                            "detailedBreakdowns": [
                                {"subtype": "ITEM", "value": {"amount": "-2.00"}},
                                {"subtype": "SHIPPING", "value": {"amount": "-1.00"}},
                            ],
                        },
                        {
                            "type": "TAX",
                            "subtotal": {"amount": "5.00"},
                            "detailedBreakdowns": [
                                {"subtype": "ITEM", "value": {"amount": "4.00"}},
                                {"subtype": "SHIPPING", "value": {"amount": "0.60"}},
                                {"subtype": "GIFT_WRAP", "value": {"amount": "0.40"}},
                            ],
                        },
                    ]
                },
            }
        ],
    }
}
"""25.00 - 2.00 + 4.00 - 1.00 + 2.00, and taxes 5.00. Three times 8.33 is a cent less than 25.00."""

BY_PLATFORM: dict[str, list[dict[str, Any]]] = {
    "shopify": [SHOPIFY, SHOPIFY_OLD, SHOPIFY_CONVERTED],
    "woocommerce": [WOOCOMMERCE],
    "saleor": [SALEOR],
    "amazon": [AMAZON],
}
