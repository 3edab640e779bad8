"""What may not change about a published message or topic. Each breach is one sentence that names the place and what to do instead.

Allowed: a new optional field, wider limits, other words, a new message, a new topic. Everything else would break a reader that was written
against the published document, or a record that lies in a topic for ever.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

Document = Mapping[str, Any]

_WORDS = {"$schema", "$id", "title", "description", "examples"}
_CEILINGS = {"maxLength", "maximum", "maxItems"}
_FLOORS = {"minLength", "minimum", "minItems"}
_ABSENT = object()
BOUNDED_SINCE = frozenset({"oms.channel.orders"})
"""Topics that were to keep records for ever and no longer do: what holds personal data in the clear is kept for a bounded time."""
_WALKED = {"properties", "items", "anyOf", "required"}


def schema_breaches(name: str, old: Document, new: Document | None) -> list[str]:
    """Why the schema published as `name` may not become `new`; None says that the message is gone."""
    if new is None:
        return [f"{name}: was removed, but its records stay: keep the class, and let `upcast` turn it into what replaces it"]
    return [f"{name}: {breach}; leave it as it was and publish {_next_version(name)}" for breach in _breaches(old, new, "value")]


def channel_breaches(old: Document, new: Document) -> list[str]:
    """Why the AsyncAPI document `old` may not become `new`, as far as topics are concerned."""
    return [
        f"{name}: {breach}; leave it as it was and publish a new topic"
        for name, channel in old.get("channels", {}).items()
        for breach in _channel_breaches(channel, new["channels"].get(name))
    ]


def _breaches(old: Document, new: Document, place: str) -> Iterator[str]:
    for keyword in sorted({*old, *new} - _WORDS - _WALKED):
        was, now = (_text(schema.get(keyword, _ABSENT)) for schema in (old, new))
        if not _allowed(keyword, old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)):
            yield f"{place} changed its {keyword} from {was} to {now}"

    was, now = old.get("properties", {}), new.get("properties", {})
    for field in was:
        if field in now:
            yield from _breaches(was[field], now[field], _within(place, field))
        else:
            yield f"{_within(place, field)} was removed"
    for field in now:
        if field in new.get("required", ()) and field not in old.get("required", ()):
            yield f"{_within(place, field)} {'became' if field in was else 'is new and'} required"

    if "items" in old and "items" in new:
        yield from _breaches(old["items"], new["items"], f"{place}[]")
    elif ("items" in old) != ("items" in new):
        yield f"{place} changed its items"

    choices, others = cast(list[Document], old.get("anyOf", [])), cast(list[Document], new.get("anyOf", []))
    if len(choices) != len(others):
        yield f"{place} changed its type from {_kinds(old)} to {_kinds(new)}"
    else:
        for choice, other in zip(choices, others, strict=True):
            yield from _breaches(choice, other, place)


def _allowed(keyword: str, old: Any, new: Any) -> bool:
    if type(old) is type(new) and old == new:
        return True
    if keyword in _CEILINGS:
        return new is _ABSENT or (old is not _ABSENT and new >= old)
    if keyword in _FLOORS:
        return new is _ABSENT or (old is not _ABSENT and new <= old)
    if keyword == "default":
        return old is _ABSENT  # a required field became optional; what an absent field meant may not change
    return keyword == "additionalProperties" and old is False


def _channel_breaches(old: Document, new: Document | None) -> Iterator[str]:
    if new is None:
        yield "the topic was removed"
        return
    if new["x-key"] != old["x-key"] and not new["x-key"].startswith(f"{old['x-key']}; "):  # what follows is of messages it gains
        yield f"its key changed from {old['x-key']!r} to {new['x-key']!r}, which moves records to other partitions"
    was, now = old["bindings"]["kafka"], new["bindings"]["kafka"]
    if was["partitions"] != now["partitions"]:
        yield f"its partitions changed from {was['partitions']} to {now['partitions']}, which moves keys to other partitions"
    kept, keeps = was["topicConfiguration"], now["topicConfiguration"]
    if kept["cleanup.policy"] != keeps["cleanup.policy"]:
        yield f"its cleanup.policy changed from {kept['cleanup.policy']} to {keeps['cleanup.policy']}"
    cut = keeps["retention.ms"] != -1 and not 0 <= kept["retention.ms"] <= keeps["retention.ms"]
    if cut and new["address"] not in BOUNDED_SINCE:
        yield f"its retention.ms was cut from {kept['retention.ms']} to {keeps['retention.ms']}"
    for message in old["messages"]:
        if message not in new["messages"]:
            yield f"it no longer carries {message}"


def _text(part: Any) -> str:
    return "none" if part is _ABSENT else repr(part)


def _kinds(schema: Document) -> str:
    return " or ".join(str(choice.get("type")) for choice in schema.get("anyOf", [schema]))


def _within(place: str, field: str) -> str:
    return field if place == "value" else f"{place}.{field}"


def _next_version(name: str) -> str:
    stem, _, version = name.rpartition(".v")
    return f"{stem}.v{int(version) + 1}"
