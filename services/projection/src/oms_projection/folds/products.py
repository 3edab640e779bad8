"""oms.products: the catalogue."""

from oms_contracts.envelope import Envelope
from oms_contracts.products import ProductDeactivated, ProductDefined

from oms_projection.changes import Changes
from oms_projection.tables import PRODUCTS


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`. A refused command is in the timeline only."""
    match event:
        case ProductDefined():
            changes.set(
                PRODUCTS,
                event.sku,
                title=event.title,
                barcode=event.barcode,
                unit=event.unit,
                weight_grams=event.weight_grams,
                requires_shipping=int(event.requires_shipping),
                active=int(event.active),
                defined_at=event.at,
                updated_at=event.at,
            )
        case ProductDeactivated(sku=sku, at=at):
            changes.set(PRODUCTS, sku, active=0, updated_at=at)
        case _:
            pass
