"""Dead letters: what every service says of records it set aside, and what an operator can ask."""

from datetime import datetime
from typing import Annotated

from annotated_types import MaxLen

from oms_contracts.customers import CustomerErased, CustomerKeyErased, CustomerKeyIssued
from oms_contracts.message import Value, message, type_of


@message("oms.operations.RecordSetAside.v1", key="source_key")
class RecordSetAside(Value, frozen=True, kw_only=True):
    """A record could not be applied.

    `value` is the original in base64; `parked` means it waits only because an earlier one of its key does. A value is left out
    that is too large to be published, or comes from a topic that keeps records for a bounded time, because it may hold personal data: then
    `value_bytes` and `value_sha256` say what it is, and it is to be read where it came from.
    """

    letter_id: str
    service: str
    source_topic: str
    source_partition: int
    source_offset: int
    source_key: str
    source_type: str
    reason: str
    stack: str
    value: str
    headers: dict[str, str]
    attempts: int
    parked: bool
    at: datetime
    value_bytes: int | None = None
    value_sha256: str | None = None


@message("oms.operations.RecordRedriven.v1", key="source_key")
class RecordRedriven(Value, frozen=True, kw_only=True):
    """A record that was set aside has now been applied, or `discarded` at an operator's word.

    Where an operator had replaced its value, `value_before` and `value_after` are both, in base64; one too large to be published is
    `sha256:` and its hash.
    """

    letter_id: str
    service: str
    source_key: str
    discarded: bool
    at: datetime
    value_before: str | None = None
    value_after: str | None = None


@message("oms.operations.RedriveRefused.v1", key="source_key")
class RedriveRefused(Value, frozen=True, kw_only=True):
    """A redrive asked for what cannot be done; `reason` says why. Nothing was applied, replaced or discarded."""

    letter_id: str
    service: str
    source_key: str
    reason: str
    at: datetime


@message("oms.operations.RedriveDeadLetters.v1", key="source_key")
class RedriveDeadLetters(Value, frozen=True, kw_only=True):
    """Apply the records set aside under `source_key` again, in their order.

    `letter_id` with `value` (JSON text) replaces that record's value first: an operator's mend. With `discard` that record is dropped
    instead of applied, which opens the way for those behind it.
    """

    source_key: str
    letter_id: str | None = None
    value: Annotated[str, MaxLen(500_000)] | None = None
    discard: bool = False


def concerns_dead_letters(type_name: str) -> bool:
    """Whether a published type is about a service itself, not of its streams: such events are stored and published, but never folded."""
    return type_name.startswith("oms.operations.")


def is_folded(type_name: str) -> bool:
    """Whether an event of a published type is folded into states: those about records set aside and about customers' keys are not."""
    return not concerns_dead_letters(type_name) and type_name not in _ABOUT_CUSTOMERS


_ABOUT_CUSTOMERS = frozenset(type_of(cls).name for cls in (CustomerKeyIssued, CustomerKeyErased, CustomerErased))
