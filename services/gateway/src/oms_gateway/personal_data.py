"""What is about persons in the query API's answers, for those who may not see it. Pure."""

from typing import Any, cast

PERSONAL = frozenset({"customer", "personal", "sealed", "ship_to", "bill_to", "note", "gift", "contact", "source_ip", "user_agent"})
"""Fields that are about persons, wherever they are; and those whose names begin with `customer_`."""
_ABOUT_ERASURE = "customer_erased"


def without_personal_data(content: Any) -> Any:
    """The same JSON with null in place of what is about persons."""
    match content:
        case dict():
            members = cast(dict[str, Any], content).items()
            return {name: None if _is_personal(name) else without_personal_data(part) for name, part in members}
        case list() | tuple():
            return [without_personal_data(part) for part in cast(list[Any], content)]
        case _:
            return content


def _is_personal(name: str) -> bool:
    return name in PERSONAL or (name.startswith("customer_") and name != _ABOUT_ERASURE)
