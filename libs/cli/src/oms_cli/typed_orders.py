"""An order that a person types as options of `oms order place`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from oms_adapters.money import NotAnAmount, minor_units
from oms_contracts.channel import OrderPlaced
from oms_contracts.money import exponent_of
from oms_contracts.order_parts import LineItem, OrderPayment, Pickup, ShippingLine
from oms_contracts.values import Address, Customer

from oms_cli.errors import INVALID, CliError

ADDRESS_PARTS = 5
DEFAULT_PAYMENT = "invoice"


@dataclass(frozen=True, slots=True)
class TypedOrder:
    """The options as they were typed; `order` makes an order of them."""

    channel: str | None = None
    reference: str | None = None
    lines: tuple[str, ...] = ()
    currency: str = "EUR"
    shipping: str | None = None
    ship_to: str | None = None
    location: str | None = None
    customer: str = "guest"
    email: str | None = None
    pay: str | None = None

    def order(self, now: datetime) -> OrderPlaced:
        """The order, placed `now`. Raises a CliError that names every option at fault."""
        exponent = exponent_of(self.currency)
        faults = list(self._faults(exponent))
        if faults:
            raise CliError(INVALID, *faults)
        assert self.channel is not None
        assert self.reference is not None
        assert exponent is not None
        lines = tuple(_line(str(number), word, exponent) for number, word in enumerate(self.lines, 1))
        shipping = self._shipping(exponent)
        total = sum(line.total for line in lines) + sum(line.total for line in shipping)
        kind, _, token = (self.pay or DEFAULT_PAYMENT).partition(":")
        status = "authorize" if token else "due"
        return OrderPlaced(
            channel=self.channel,
            channel_reference=self.reference,
            placed_at=now,
            customer=Customer(id=self.customer, email=self.email),
            currency=self.currency,
            lines=lines,
            total=total,
            payments=(OrderPayment(id="1", kind=kind, amount=total, token=token, status=status),) if total else (),
            shipping_lines=shipping,
            delivery="pickup" if self.ship_to is None else "ship",
            ship_to=None if self.ship_to is None else _address(self.ship_to),
            pickup=Pickup(location=self.location) if self.ship_to is None else None,
            location=self.location,
        )

    def _faults(self, exponent: int | None) -> Iterator[str]:
        if not (self.channel or self.reference or self.lines):
            yield "FILE: is not given; name a file, or give --channel, --reference and --line; `oms order example` prints an order"
            return
        for option, value in (("--channel", self.channel), ("--reference", self.reference), ("--line", self.lines)):
            if not value:
                yield f"{option}: is not given; an order without a file needs it"
        if exponent is None:
            yield f"--currency: {self.currency!r} is not a currency of ISO 4217, such as EUR"
            return
        for word in self.lines:
            try:
                _line("1", word, exponent)
            except ValueError as error:
                yield f"--line: {word!r}: {error}"
        try:
            self._shipping(exponent)
        except NotAnAmount as error:
            yield f"--shipping: {error}"
        if self.ship_to is not None:
            try:
                _address(self.ship_to)
            except ValueError as error:
                yield f"--ship-to: {error}"

    def _shipping(self, exponent: int) -> tuple[ShippingLine, ...]:
        price = 0 if self.shipping is None else minor_units(self.shipping, exponent)
        return (ShippingLine(id="1", title="Shipping", price=price, total=price),) if price else ()


def _line(line_id: str, word: str, exponent: int) -> LineItem:
    """The line that `SKU=QUANTITY@PRICE` says. Raises ValueError."""
    goods, at, price = word.rpartition("@")
    sku, equals, quantity = goods.rpartition("=")
    if not (at and equals and sku and quantity.isascii() and quantity.isdigit() and int(quantity)):
        raise ValueError("is not SKU=QUANTITY@PRICE, such as MUG-BLUE=2@19.99")
    each = minor_units(price, exponent)
    return LineItem(line_id=line_id, sku=sku, quantity=int(quantity), unit_price=each, total=each * int(quantity))


def _address(text: str) -> Address:
    """The address that a line says, its parts divided by semicolons. Raises ValueError."""
    parts = [part.strip() for part in text.split(";")]
    if len(parts) != ADDRESS_PARTS:
        raise ValueError(f"has {len(parts)} parts, not {ADDRESS_PARTS}: 'Ada Lovelace; Hauptstr. 5; 10115; Berlin; DE'")
    name, street, postal_code, city, country = parts
    return Address(name=name, street=street, postal_code=postal_code, city=city, country=country)
