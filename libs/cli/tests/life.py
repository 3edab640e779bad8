"""An order that is on its way, as the query API has it."""

from typing import Any

from libs.cli.tests.fakes import ORDER_ID, order_detail

LINE = {"line_id": "1", "sku": "mug", "location": "BER", "quantity": 2}


def fulfillment(status: str, location: str = "BER") -> dict[str, Any]:
    """A fulfillment of two mugs."""
    return {
        "fulfillment_id": f"{ORDER_ID}/{location}",
        "location": location,
        "delivery": "pickup",
        "status": status,
        "planned_at": "2026-11-24T12:00:00Z",
        "at": "2026-11-24T12:00:00Z",
        "shipped_at": None,
        "lines": [LINE | {"location": location}],
    }


def package(units: int = 1, package_id: str = "340", location: str = "BER", packed_at: str = "2026-11-24T12:00:00Z") -> dict[str, Any]:
    """A package that has shipped."""
    return {
        "package_id": package_id,
        "fulfillment_id": f"{ORDER_ID}/{location}",
        "carrier": "DHL",
        "tracking_number": f"T-{package_id}",
        "packed_at": packed_at,
        "shipped_at": "2026-11-24T13:00:00Z",
        "status": "in_transit",
        "status_at": "2026-11-24T13:00:00Z",
        "trouble": None,
        "late_scans": 0,
        "lines": [LINE | {"location": location, "quantity": units}],
    }


def returned(status: str = "approved", received: int = 0, return_id: str = "RMA-1", **other: Any) -> dict[str, Any]:
    """A return of one mug."""
    return {
        "return_id": return_id,
        "status": status,
        "at": "2026-11-25T12:00:00Z",
        "requested_at": "2026-11-25T12:00:00Z",
        "expires_at": None,
        "location": None,
        "reason": None,
        "received": received,
        "refund_requested": None,
        "refunded": None,
        "outcome": None,
        "action": None,
        "deadline": None,
        "lines": [{"line_id": "1", "quantity": 1, "reason": "damaged"}],
        "inspected": None,
    } | other


def fulfilling(status: str = "packed", **other: Any) -> dict[str, Any]:
    """An order with a fulfillment, a package and a return, whatever the order of an order's life is."""
    parts = {"fulfillments": [fulfillment(status)], "packages": [package()], "returns": [returned()], "returns_until": None}
    return order_detail("released", **parts | other)
