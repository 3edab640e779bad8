"""The parts of an order as channels place it. Amounts are integer minor units of the order's currency (ISO 4217)."""

from datetime import datetime
from typing import Annotated

from annotated_types import MaxLen
from msgspec import field

from oms_contracts.message import Value
from oms_contracts.values import Address, Code, Customer, Prose

MAX_SEALED_CHARACTERS = 500_000


class Tax(Value, frozen=True, kw_only=True):
    """A tax as the channel computed it; it is never computed anew. `rate` is a decimal fraction as text: "0.19" is 19 %."""

    title: str
    amount: int
    rate: str | None = None
    jurisdiction: str | None = None


class Discount(Value, frozen=True, kw_only=True):
    """Why something costs less. What it takes off is in the lines' and shipping lines' `discounts`.

    `kind` is code, automatic, manual, loyalty, rounding or other.
    """

    id: str
    title: str
    kind: str = "other"
    code: str | None = None


class DiscountShare(Value, frozen=True, kw_only=True):
    """What the discount `discount_id` of the order takes off this line."""

    discount_id: str
    amount: int


class LineItem(Value, frozen=True, kw_only=True):
    """One line as sold: `total` is `quantity * unit_price` less its `discounts`.

    `total` contains the line's taxes where the order's `taxes_included` is true. `quantity` is whole units of `unit`, a code of UN/CEFACT
    Recommendation 20 (EA is each). `parent_line_id` is the line of the bundle or configuration that this one is part of.
    """

    line_id: str
    sku: Code
    quantity: int
    unit_price: int
    total: int
    title: str = ""
    unit: str = "EA"
    requires_shipping: bool = True
    gift_card: bool = False
    parent_line_id: str | None = None
    taxes: tuple[Tax, ...] = ()
    discounts: tuple[DiscountShare, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict[str, str])


class ShippingLine(Value, frozen=True, kw_only=True):
    """What shipping costs: `total` is `price` less its `discounts`, with its taxes where `taxes_included` is true."""

    id: str
    title: str
    price: int
    total: int
    code: str = ""
    carrier: str | None = None
    service: str | None = None
    taxes: tuple[Tax, ...] = ()
    discounts: tuple[DiscountShare, ...] = ()


class Fee(Value, frozen=True, kw_only=True):
    """A further charge. `kind` is duty, tip, cash_on_delivery, wrap or other."""

    kind: str
    title: str
    amount: int
    taxes: tuple[Tax, ...] = ()


class OrderPayment(Value, frozen=True, kw_only=True):
    """A means of payment and the part of the total that it pays. The payments of an order add up to its total.

    `status` says who takes the money. authorize: we ask the provider to hold `amount` on `token`, and capture what ships. authorized: the
    channel had the provider hold it already, `token` is the provider's id of that authorization, and we capture. captured: the channel has
    the money. due: it is collected later and elsewhere, on delivery or by invoice. `token` is never the card itself.
    """

    id: str
    kind: str
    amount: int
    token: Prose = ""
    status: str = "authorize"


COLLECTED_HERE = frozenset({"authorize", "authorized"})
"""The statuses of a payment whose money we collect."""


class Contact(Value, frozen=True, kw_only=True):
    """Who collects the goods."""

    name: str
    phone: str | None = None
    email: str | None = None


class Pickup(Value, frozen=True, kw_only=True):
    """Where an order is collected (None: anywhere), and by whom."""

    location: Code | None = None
    contact: Contact | None = None


class DeliveryPromise(Value, frozen=True, kw_only=True):
    """What the channel promised its customer."""

    ship_by: datetime | None = None
    deliver_from: datetime | None = None
    deliver_by: datetime | None = None


class Gift(Value, frozen=True, kw_only=True):
    """The order is a present."""

    message: Prose = ""
    hide_prices: bool = True


class Risk(Value, frozen=True, kw_only=True):
    """What the channel knows about the risk of fraud. `score` is 0 (none) to 100; `advice` is accept, investigate or cancel."""

    source_ip: str | None = None
    user_agent: Prose | None = None
    score: int | None = None
    advice: str | None = None


class PersonalData(Value, frozen=True, kw_only=True):
    """Everything about persons that an order carries, together in one part."""

    customer: Customer
    bill_to: Address | None = None
    ship_to: Address | None = None
    pickup: Pickup | None = None
    note: Prose | None = None
    gift: Gift | None = None
    risk: Risk | None = None


def names_in(personal: PersonalData) -> dict[str, str]:
    """The names of people and companies, by where they are: what a search for a name looks at."""
    customer, pickup = personal.customer, personal.pickup
    contact = None if pickup is None else pickup.contact
    addresses = {"ship_to": personal.ship_to, "bill_to": personal.bill_to}
    found = {
        "customer_name": customer.name,
        "customer_company": customer.company,
        **{f"{name}.name": address.name for name, address in addresses.items() if address is not None},
        **{f"{name}.company": address.company for name, address in addresses.items() if address is not None},
        "pickup.contact.name": None if contact is None else contact.name,
    }
    return {name: text for name, text in found.items() if text}


class SealedData(Value, frozen=True, kw_only=True):
    """Personal data, encrypted by a key that is its customer's. Once that key is erased, nobody can read it any more.

    `data` is PersonalData as JSON, sealed by AES-256-GCM, in base64: 12 bytes of nonce, then the ciphertext with its tag. The associated
    data is the order's id. `key_id` names the key: see CustomerKeyIssued.
    """

    key_id: str
    data: Annotated[str, MaxLen(MAX_SEALED_CHARACTERS)]


class ChargedLine(Value, frozen=True, kw_only=True):
    """What an order line costs its customer: `amount` is for all units, after discounts and with taxes."""

    line_id: str
    sku: Code
    quantity: int
    amount: int


def charge_of(part: LineItem | ShippingLine | Fee, taxes_included: bool) -> int:
    """What a part of an order costs its customer, taxes included, in minor units."""
    amount = part.amount if isinstance(part, Fee) else part.total
    return amount if taxes_included else amount + sum(tax.amount for tax in part.taxes)
