"""The catalogue of products, owned by inventory, on oms.products; and the commands inventory takes for it. A product is one SKU."""

import re
from collections.abc import Iterator
from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.sscc import check_digit
from oms_contracts.values import Code

MAX_GRAMS = 10**9
GTIN_DIGITS = frozenset({8, 12, 13, 14})
_UNIT = re.compile(r"[A-Z0-9]{1,3}")


@message("oms.inventory.ProductDefined.v1", key="sku")
class ProductDefined(Value, frozen=True, kw_only=True):
    """A product is in the catalogue as stated here; all of an earlier definition is replaced.

    `barcode` is a GTIN of 8, 12, 13 or 14 digits (GS1), or a code of the merchant's own. `unit` is a code of UN/CEFACT Recommendation 20,
    as in an order's lines; `weight_grams` is of one unit. `requires_shipping` is false for what is delivered digitally. A product that is
    not `active` counts as unknown to new orders.
    """

    sku: Code
    title: str
    barcode: Code | None
    unit: str
    weight_grams: int | None
    requires_shipping: bool
    active: bool
    at: datetime


@message("oms.inventory.ProductDeactivated.v1", key="sku")
class ProductDeactivated(Value, frozen=True, kw_only=True):
    """The product is no longer sold: its SKU counts as unknown to new orders. Orders whose stock was reserved go on."""

    sku: Code
    at: datetime


@message("oms.inventory.ProductCommandRefused.v1", key="sku")
class ProductCommandRefused(Value, frozen=True, kw_only=True):
    """A command about a product is not sound, and the catalogue is as it was; `reasons` names every field at fault and why.

    `command` is the published type of the command.
    """

    sku: Code
    command: str
    reasons: tuple[str, ...]
    at: datetime


@message("oms.inventory.DefineProduct.v1", key="sku")
class DefineProduct(Value, frozen=True, kw_only=True):
    """Put a product into the catalogue, or replace its definition; the fields are those of ProductDefined.

    A definition that equals the current one has no effect. A barcode of 8, 12, 13 or 14 digits must end in its check digit.
    """

    sku: Code
    title: str
    barcode: Code | None = None
    unit: str = "EA"
    weight_grams: int | None = None
    requires_shipping: bool = True
    active: bool = True


@message("oms.inventory.DeactivateProduct.v1", key="sku")
class DeactivateProduct(Value, frozen=True, kw_only=True):
    """Take a product out of sale. A definition that is active brings it back."""

    sku: Code


def objections_to(definition: DefineProduct) -> Iterator[str]:
    """Everything for which inventory refuses a definition; each objection names its field and the reason."""
    for name in ("sku", "title", "barcode"):
        text = getattr(definition, name)
        if text is not None and not (text.strip() and text.isprintable()):
            yield f"{name}: must be printable, and not empty"
    barcode = definition.barcode or ""
    if barcode.isascii() and barcode.isdigit() and len(barcode) in GTIN_DIGITS:
        expected = check_digit(barcode[:-1])
        if int(barcode[-1]) != expected:
            yield f"barcode: a GTIN of these digits ends in {expected}, this ends in {barcode[-1]}"
    if not _UNIT.fullmatch(definition.unit):
        yield "unit: must be a code of UN/CEFACT Recommendation 20, such as EA or KGM"
    if definition.weight_grams is not None and not 0 <= definition.weight_grams <= MAX_GRAMS:
        yield f"weight_grams: must be 0 to {MAX_GRAMS}"
