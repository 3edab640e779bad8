"""The platforms whose orders can be mapped, by name."""

from collections.abc import Callable

from oms_adapters.mapping import SHIPPED, shipped_mapping
from oms_adapters.parts import Adapter
from oms_adapters.shopify import SHOPIFY
from oms_adapters.woocommerce import WOOCOMMERCE


def _shipped(name: str) -> Callable[[], Adapter]:
    return lambda: shipped_mapping(name)


_ADAPTERS: dict[str, Callable[[], Adapter]] = {
    "shopify": lambda: SHOPIFY,
    "woocommerce": lambda: WOOCOMMERCE,
    **{name: _shipped(name) for name in SHIPPED},
}
PLATFORMS = tuple(sorted(_ADAPTERS))


def adapter_of_platform(name: str) -> Adapter:
    """The adapter of one of PLATFORMS. Raises KeyError for another name."""
    return _ADAPTERS[name]()
