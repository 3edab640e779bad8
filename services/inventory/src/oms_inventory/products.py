"""The catalogue of products, by SKU, and which orders wait for one of them to be defined.

A product does not decide about an order: `reservations` does, once `unknown_skus` has said which SKUs have no active product. A product
that is defined resumes the orders that wait for it, some in each decision, until none waits.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.products import (
    DeactivateProduct,
    DefineProduct,
    ProductCommandRefused,
    ProductDeactivated,
    ProductDefined,
    objections_to,
)
from oms_contracts.stock import StockReleased, StockReservationPostponed, WaitingOrdersResumed
from oms_contracts.values import bounded_reasons

from oms_inventory.commands import Event, ProductCommand, ResumeWaitingOrders

KIND = "product"
"""How the key of a product begins, before the `/`."""
MAX_WAITING = 1_000
"""Orders that wait for one SKU. It keeps the state small; a further order is rejected, because it could not continue by itself."""
MAX_RESUMED = 100
"""Orders that one decision resumes. The next decision, which is due at once, resumes the next."""


class Product(Struct, frozen=True, kw_only=True):
    """One SKU of the catalogue.

    `definition` is the newest one, None where there was none, and `since` is its time. `waiting` are the orders whose postponed reservation
    waits for the SKU, longest first. `refused` are the reasons of the latest refusal.
    """

    definition: DefineProduct | None = None
    since: datetime | None = None
    waiting: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether orders may name it."""
        return self.definition is not None and self.definition.active


def key_of(sku: str) -> str:
    """The key of a SKU's product."""
    return f"{KIND}/{sku}"


def keys_of(skus: Iterable[str]) -> dict[str, None]:
    """The keys of the products of `skus`, each once, in their order."""
    return dict.fromkeys(map(key_of, skus))


def unknown_skus(products: Mapping[str, Product]) -> dict[str, Product]:
    """Of products by SKU those that no order may name: not defined, or not active."""
    return {sku: product for sku, product in products.items() if not product.active}


def decide(command: ProductCommand, product: Product, now: datetime) -> list[Event]:
    """Change the catalogue, unless it is so already; refuse what is not valid, once for the same reasons; resume orders that wait."""
    match command:
        case ResumeWaitingOrders(sku=sku, orders=orders):
            resumed = tuple(order_id for order_id in orders if order_id in product.waiting) if product.active else ()
            return [WaitingOrdersResumed(sku=sku, orders=resumed, at=now)] if resumed else []
        case DefineProduct():
            if command == product.definition:
                return []
            event = ProductDefined(
                sku=command.sku,
                title=command.title,
                barcode=command.barcode,
                unit=command.unit,
                weight_grams=command.weight_grams,
                requires_shipping=command.requires_shipping,
                active=command.active,
                at=now,
            )
        case DeactivateProduct(sku=sku):
            if product.definition is not None and not product.active:
                return []
            event = ProductDeactivated(sku=sku, at=now)
    reasons = bounded_reasons(_objections(command, product))
    if not reasons:
        return [event]
    name = type_of(command).name
    return [] if reasons == product.refused else [ProductCommandRefused(sku=command.sku, command=name, reasons=reasons, at=now)]


def evolve(product: Product, event: Event) -> Product:
    """The product after an event."""
    match event:
        case ProductDefined():
            definition = DefineProduct(
                sku=event.sku,
                title=event.title,
                barcode=event.barcode,
                unit=event.unit,
                weight_grams=event.weight_grams,
                requires_shipping=event.requires_shipping,
                active=event.active,
            )
            return Product(definition=definition, since=event.at, waiting=product.waiting)
        case ProductDeactivated(at=at):
            definition = product.definition and replace(product.definition, active=False)
            return Product(definition=definition, since=at, waiting=product.waiting)
        case ProductCommandRefused(reasons=reasons):
            return replace(product, refused=reasons)
        case StockReservationPostponed(order_id=order_id):
            return replace(product, waiting=(*product.waiting, order_id))
        case StockReleased(order_id=order_id):
            return replace(product, waiting=tuple(waiting for waiting in product.waiting if waiting != order_id))
        case WaitingOrdersResumed(orders=orders):
            return replace(product, waiting=tuple(waiting for waiting in product.waiting if waiting not in orders))
        case _:
            return product


def due(key: str, product: Product) -> tuple[datetime, ResumeWaitingOrders] | None:
    """A product that is defined and active resumes the orders that wait for it at once."""
    if not product.waiting or not product.active or product.since is None:
        return None
    return product.since, ResumeWaitingOrders(sku=key.removeprefix(f"{KIND}/"), orders=product.waiting[:MAX_RESUMED])


def _objections(command: DefineProduct | DeactivateProduct, product: Product) -> Iterable[str]:
    if isinstance(command, DefineProduct):
        return objections_to(command)
    return () if product.definition is not None else ("sku: is not in the catalogue",)
