"""What several tests ask of a payload."""

import copy
from typing import Any

from oms_adapters.parts import map_payload
from oms_adapters.platforms import adapter_of_platform
from oms_adapters.results import Mapped, Unmapped
from oms_contracts.channel import OrderPlaced

from libs.adapters.tests.payloads import raw


def changed(payload: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A copy of a payload with other members."""
    return copy.deepcopy(payload) | members


def mapped(platform: str, payload: Any) -> Mapped:
    """The result for a payload that can be mapped."""
    result = map_payload(adapter_of_platform(platform), raw(payload), channel=platform)
    assert isinstance(result, Mapped), result.reasons
    return result


def order_of(platform: str, payload: Any) -> OrderPlaced:
    return mapped(platform, payload).order


def unmapped(platform: str, payload: Any) -> Unmapped:
    """The result for a payload that cannot be mapped."""
    result = map_payload(adapter_of_platform(platform), raw(payload), channel=platform)
    assert isinstance(result, Unmapped)
    assert result.raw == raw(payload)
    return result


def fields_of(result: Unmapped) -> set[str]:
    return {reason.field for reason in result.reasons}


def places(value: Any) -> Any:
    """Every place of a payload: what holds it, and its name or position there."""
    names: Any = [*value] if isinstance(value, dict) else range(len(value))
    for name in names:
        yield value, name
        if isinstance(value[name], (dict, list)):
            yield from places(value[name])
