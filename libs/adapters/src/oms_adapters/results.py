"""What an adapter makes of a payload. A payload that cannot be mapped is a result too, never an exception."""

from dataclasses import dataclass, field
from datetime import datetime

from oms_contracts.channel import OrderPlaced


@dataclass(frozen=True, slots=True)
class Reason:
    """A field, as the source names it, and what is to be said of it."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Which order a payload is about, and how the shop has it. It is read apart from the content: a cancellation never fails on that.

    `updated_at` is None where the payload has no time. `canceled` is why the shop canceled the order, None where it did not. `salt` is a
    text that nobody can guess and that the shop sends with every content of the order; None where the payload has none.
    """

    reference: str
    updated_at: datetime | None = None
    canceled: str | None = None
    salt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The order. `remarks` say what was fitted or filled in, `unmapped_fields` what the payload has beyond what the adapter knows."""

    order: OrderPlaced
    standing: Standing
    remarks: tuple[Reason, ...] = ()
    unmapped_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Why there is no order. `is_order` is false where the payload is something else, which is no mistake: a refund, an unpaid cart.

    `raw` is the payload byte for byte: to be kept, looked at, and mapped again. `standing` is None where not even the order is known.
    """

    reasons: tuple[Reason, ...]
    raw: bytes
    is_order: bool = True
    standing: Standing | None = None


Result = Mapped | Unmapped
