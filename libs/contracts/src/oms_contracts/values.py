"""Values that several messages share. Amounts are integer minor units of the order's currency (ISO 4217); quantities are whole units."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated
from uuid import UUID, uuid5

from annotated_types import MaxLen

from oms_contracts.message import Value
from oms_contracts.strict import MAX_REASONS

Code = Annotated[str, MaxLen(100)]
"""A SKU or a location. Shorter than other text, because ids are made of it."""
Prose = Annotated[str, MaxLen(2_000)]
"""Text of a person, or a token that only its issuer understands. `validate` checks these limits, `decode` does not."""

MAX_REASON_CHARACTERS = 500
MAX_REASONS_CHARACTERS = 2_000
"""Of one reason, and of all reasons of one event together. Each character takes at most four bytes."""

ORDER_NAMESPACE = UUID("6f1b2c9e-0d0f-5b6e-9a51-7a2f7f3f6c11")

ORDER_ID_SEPARATOR = "\x1f"
"""Between channel and reference: the control character UNIT SEPARATOR."""


@lru_cache(maxsize=1_024)  # one order is asked for several times in a row
def order_id_of(channel: str, channel_reference: str) -> str:
    """The id of an order: a UUIDv5 (RFC 9562) of channel and reference, so the same order is the same stream wherever it enters."""
    return str(uuid5(ORDER_NAMESPACE, f"{channel}{ORDER_ID_SEPARATOR}{channel_reference}"))


def bounded_reasons(reasons: Iterable[str]) -> tuple[str, ...]:
    """The first reasons, and how many more there are: an event about external input must stay small enough to be published.

    They are at most MAX_REASONS, each has at most MAX_REASON_CHARACTERS, and all together have about MAX_REASONS_CHARACTERS at most.
    """
    named: list[str] = []
    left, others = MAX_REASONS_CHARACTERS, 0
    for reason in reasons:
        text = shortened(reason, MAX_REASON_CHARACTERS)
        if others or len(named) == MAX_REASONS or len(text) > left:
            others += 1
        else:
            named.append(text)
            left -= len(text)
    return (*named, f"and {others} more") if others else tuple(named)


def shortened(text: str, max_characters: int) -> str:
    """The text, cut to so many characters; three dots at its end show that it was cut."""
    return text if len(text) <= max_characters else f"{text[: max_characters - 3]}..."


def quoted(text: str) -> str:
    """External text as a reason quotes it: cut to 50 characters, and without characters that do something to a terminal."""
    return repr(shortened(text, 50))


class Address(Value, frozen=True, kw_only=True):
    """Where a parcel or a bill goes. `country` is ISO 3166-1 alpha-2; `postal_code` is empty where a country has none."""

    name: str
    street: str
    postal_code: str
    city: str
    country: str
    region: str | None = None
    company: str | None = None
    line2: str | None = None
    phone: str | None = None


class Customer(Value, frozen=True, kw_only=True):
    id: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    company: str | None = None
    tax_id: str | None = None


class PaymentMethod(Value, frozen=True, kw_only=True):
    """How the customer pays. `token` is the provider's reference to it, never the card itself."""

    kind: str
    token: Prose


class OrderLine(Value, frozen=True, kw_only=True):
    """One line as sold: `quantity * unit_price - discount == total`."""

    line_id: str
    sku: Code
    quantity: int
    unit_price: int
    total: int
    discount: int = 0


class WantedLine(Value, frozen=True, kw_only=True):
    """What an order line needs, from any location."""

    line_id: str
    sku: Code
    quantity: int


class AllocatedLine(Value, frozen=True, kw_only=True):
    """A quantity of one order line and the location it comes from; one order line may be split over several."""

    line_id: str
    sku: Code
    location: Code
    quantity: int


class Shortage(Value, frozen=True, kw_only=True):
    """What an order asked of a SKU, summed over its lines, and what was available to promise (ATP)."""

    sku: Code
    requested: int
    available: int


class StockLine(Value, frozen=True, kw_only=True):
    """A quantity of a SKU at a location. Signed in adjustments, positive elsewhere."""

    sku: Code
    location: Code
    quantity: int


class GoodsLine(Value, frozen=True, kw_only=True):
    """A quantity of a SKU, where the location is that of the whole message."""

    sku: Code
    quantity: int


class CountLine(Value, frozen=True, kw_only=True):
    """How many units of a SKU are at a location, as they were counted: those that are promised or in quarantine are among them."""

    sku: Code
    location: Code
    counted: int


class CountedLine(Value, frozen=True, kw_only=True):
    """What a count found: `expected` were on hand, and `difference` (counted - expected) is booked."""

    sku: Code
    location: Code
    counted: int
    expected: int
    difference: int


class Package(Value, frozen=True, kw_only=True):
    """One parcel: `package_id` is its SSCC (GS1, 18 digits), `lines` what is in it."""

    package_id: str
    carrier: str
    tracking_number: str
    lines: tuple[AllocatedLine, ...]


class ReturnLine(Value, frozen=True, kw_only=True):
    """A quantity of one order line that comes back, and why."""

    line_id: str
    quantity: int
    reason: Prose = "unwanted"


class InspectedLine(Value, frozen=True, kw_only=True):
    """What inspection found: `disposition` is restock, quarantine or write-off; `accepted`, whether the customer is refunded for it."""

    line_id: str
    sku: Code
    quantity: int
    disposition: str
    accepted: bool = True
