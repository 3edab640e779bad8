"""What warehouses are told of persons: on oms.fulfillment-orders, which keeps it for 30 days, in the clear."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace
from oms_contracts.fulfillments import FulfillmentPlanned
from oms_contracts.message import decode, encode, type_of
from oms_contracts.order_parts import PersonalData
from oms_runtime.customer_keys import open_sealed
from oms_runtime.database import Connection
from oms_runtime.model import StoredEvent
from oms_runtime.sealing import Sealer

_PLANNED = type_of(FulfillmentPlanned).name


async def disclose(sealer: Sealer, connection: Connection, events: Sequence[StoredEvent]) -> Mapping[int, str]:
    """FulfillmentPlanned with what its warehouse needs of the order's personal data; with nothing where the customer was erased.

    Raises KeyNotArrived while a customer's key is still under way.
    """
    plans: dict[int, FulfillmentPlanned] = {
        event.position: decode(event.type, event.data.encode()) for event in events if event.type == _PLANNED
    }
    opened = await open_sealed(connection, sealer, {plan.order_id: plan.sealed for plan in plans.values() if plan.sealed is not None})
    told: dict[int, str] = {}
    for position, plan in plans.items():
        data = opened.get(plan.order_id)
        personal = plan.personal if data is None else msgspec.json.decode(data, type=PersonalData)
        told[position] = encode(replace(plan, personal=needed(personal), sealed=None)).decode()
    return told


def needed(personal: PersonalData | None) -> PersonalData | None:
    """What a warehouse needs: to whom the goods go or who collects them, the note and the gift. Nothing of bills and risks."""
    return None if personal is None else replace(personal, bill_to=None, risk=None)
