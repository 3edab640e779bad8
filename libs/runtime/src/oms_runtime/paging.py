"""Lists by pages. A page begins behind the last row of the page before, which its cursor names by key."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel

T = TypeVar("T")


class UnknownCursor(ValueError):
    """The value of `after` is not the `next` of an earlier page."""


class Page(BaseModel, Generic[T]):
    """A part of a list. `next` is the `after` of the next page; null on the last page."""

    items: list[T]
    next: str | None


def page_of(rows: list[T], limit: int, key: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    """The page of up to `limit` rows, of `rows` that were queried with a limit of one more. `key` gives a row's key in the list's order."""
    more = len(rows) > limit
    return Page(items=rows[:limit], next=_cursor(key(rows[limit - 1])) if more else None)


def key_of(cursor: str, *types: type[Any]) -> tuple[Any, ...]:
    """The key that a cursor names, as values of `types`. Raises UnknownCursor."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple.__class_getitem__(types))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise UnknownCursor(f"after: {cursor!r} is not the next of an earlier page") from error


def _cursor(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")
