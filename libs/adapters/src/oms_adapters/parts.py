"""What the adapters build alike: addresses, discounts, payments, and the check of the whole order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pycountry
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_contracts.money import exponent_of
from oms_contracts.order_parts import Discount, DiscountShare
from oms_contracts.strict import Refused, read_strictly
from oms_contracts.values import Address, quoted

from oms_adapters.money import allocate
from oms_adapters.reading import NotReadable, Reading, Source, document_of, unmapped_fields
from oms_adapters.results import Mapped, Reason, Result, Standing, Unmapped
from oms_adapters.sums import discrepancies

ROUNDING = "rounding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A platform. `consumed` paths of its payloads become fields of ours, `ignored` ones are left out for a reason; both with all below.

    `body` finds the order in a document, `standing` which order it is, `refusal` why it is none (None where it is one). `build` makes it of
    the channel's name: what it refuses is in the reading, and then its result does not count.
    """

    name: str
    consumed: Mapping[str, str]
    ignored: Mapping[str, str]
    body: Callable[[object], object]
    standing: Callable[[Source], Standing | None]
    refusal: Callable[[Source], Reason | None]
    build: Callable[[Source, str], OrderPlaced | None]
    single: Collection[str] = frozenset()
    """Paths of `consumed` that are consumed without what lies below."""
    channel: Callable[[Source], str | None] = lambda _root: None
    """The sales channel that the order itself names. Only files of orders count it: a webhook's channel is that of its address."""


def map_payload(adapter: Adapter, raw: bytes, *, channel: str) -> Result:
    """The order in `raw`, as the sales channel `channel`, or why there is none. Never raises for what `raw` contains."""
    try:
        document = adapter.body(document_of(raw))
    except NotReadable as error:
        return Unmapped((Reason("payload", str(error)),), raw)
    if not isinstance(document, dict):
        return Unmapped((Reason("payload", "must be an object"),), raw)
    standing = adapter.standing(Source(Reading(), document))
    reading = Reading()
    root = Source(reading, document)
    refusal = adapter.refusal(root)
    if refusal is not None:
        return Unmapped((refusal,), raw, is_order=False, standing=standing)
    order = adapter.build(root, channel)
    reasons = reading.reasons or objections(order)
    if order is None or reasons or standing is None:
        return Unmapped(tuple(reasons) or (Reason("id", "is required"),), raw, standing=standing)
    unmapped = unmapped_fields(document, {*adapter.consumed, *adapter.ignored} - {*adapter.single}, adapter.single)
    return Mapped(order, standing, tuple(reading.remarks), unmapped)


def standing_of(adapter: Adapter, raw: bytes) -> Standing | None:
    """Which order `raw` is about, None where it names none. Never raises for what `raw` contains."""
    try:
        document = adapter.body(document_of(raw))
    except NotReadable:
        return None
    return adapter.standing(Source(Reading(), document)) if isinstance(document, dict) else None


def objections(order: OrderPlaced | None) -> Sequence[Reason]:
    """Why capture would not read the order, and every sum that does not add up."""
    if order is None:
        return ()
    try:
        read_strictly(OrderPlaced, encode(order))
    except Refused as refused:
        return [Reason(*reason.partition(": ")[::2]) for reason in refused.reasons]
    except OverflowError:
        return [Reason("total", "an amount is too large")]
    return discrepancies(order)


@dataclass(slots=True)
class Discounts:
    """The discounts of an order, by id."""

    found: dict[str, Discount] = field(default_factory=dict[str, Discount])

    def add(self, id: str, title: str, kind: str, code: str | None = None) -> str:
        """Name a discount; the first title of an id counts. Returns its id."""
        self.found.setdefault(id, Discount(id=id, title=title, kind=kind, code=code))
        return id

    def share(self, id: str, amount: int) -> tuple[DiscountShare, ...]:
        """A share, none where the amount is 0."""
        return (DiscountShare(discount_id=id, amount=amount),) if amount else ()

    def rounding(self, amount: int) -> tuple[DiscountShare, ...]:
        """What rounding takes off a line."""
        return self.share(self.add(ROUNDING, "Rounding", ROUNDING), amount) if amount else ()

    def all(self) -> tuple[Discount, ...]:
        return tuple(self.found.values())


def unit_price_of(gross: int, quantity: int) -> tuple[int, int]:
    """The unit price whose multiple is `gross`, rounded up to a whole minor unit, and what is to be taken off as rounding."""
    unit = -(-gross // quantity)
    return unit, unit * quantity - gross


def part_of(amount: int, kept: int, whole: int) -> int:
    """The share of `kept` units of `whole` in an amount, by largest remainder; of negative amounts, too."""
    share = allocate(abs(amount), (kept, whole - kept))[0]
    return share if amount >= 0 else -share


def currency_of(source: Source) -> str | None:
    """A currency of ISO 4217. The amounts that are read from now on are in it."""
    code = source.required(source.text())
    if code is None:
        return None
    exponent = exponent_of(code.upper())
    if exponent is None:
        source.refuse(f"{quoted(code)} is not a currency of ISO 4217")
        return None
    source.reading.exponent = exponent
    return code.upper()


def country_of(source: Source) -> str | None:
    """ISO 3166-1 alpha-2 of a country's code or English name."""
    text = source.text()
    if text is None:
        return None
    code = country_code_of(text)
    if code is None:
        source.refuse(f"{quoted(text)} is not a country of ISO 3166-1")
    return code


def country_code_of(text: str) -> str | None:
    """ISO 3166-1 alpha-2 of a country's code or English name, None where there is no such country."""
    try:
        return pycountry.countries.lookup(text).alpha_2
    except LookupError:
        return None


def address_of(
    place: Source,
    *,
    name: str | None,
    street: Source,
    line2: Source,
    postal_code: Source,
    city: Source,
    region: str | None,
    country: str | None,
    company: Source,
    phone: str | None,
    is_required: bool,
) -> Address | None:
    """An address. Where goods go it needs name, street, city and country; where a bill goes, only the country, or it is left out."""
    company_name = company.text()
    found = Address(
        name=name or company_name or "",
        street=street.text() or "",
        line2=line2.text(),
        postal_code=postal_code.text() or "",
        city=city.text() or "",
        region=region,
        country=country or "",
        company=company_name,
        phone=phone,
    )
    if is_required:
        for field_name in ("name", "street", "city", "country"):
            if not getattr(found, field_name):
                place.refuse(f"has no {field_name}, and goods are to be shipped there")
        return found
    if not found.country:
        if found.street or found.city:
            place.remark("has no country and was left out")
        return None
    return found


def joined(*parts: str | None) -> str | None:
    """Words with blanks between them."""
    return " ".join(part for part in parts if part) or None
