"""How a class becomes a message: its published type, its key, and the codecs on both sides of the wire.

A published type ends in its version (`oms.inventory.StockReserved.v1`) and never changes its meaning. A new version is a new class; the
class it replaces says by `upcast` how it becomes the new one, and reading does it, so that nobody but this package knows old versions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from oms_contracts.strict import Refused, core_schema_of, read_strictly

M = TypeVar("M", bound="Value")


class Value(msgspec.Struct, frozen=True, gc=False):
    """The base of messages and their parts: created, compared, written and read in a fraction of what a dataclass takes.

    A frozen value holds no reference cycles, so the garbage collector need not track it (`gc=False`).
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema_of(cls, handler.generate_schema)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made = handler(schema)
        described = handler.resolve_ref_schema(made)
        rest, text = {**described}, description_of(cls)
        described.clear()
        described.update({"title": cls.__name__} | ({"description": text} if text else {}) | rest)
        return made


def description_of(cls: type[Any]) -> str | None:
    """A class's own docstring."""
    text = cls.__dict__.get("__doc__")
    return cleandoc(text) if text else None


class UnreadableMessage(ValueError):
    """A record's value does not fit its type; the text names every field at fault and why."""


class SendersFault(ValueError):
    """What an external party sent was read, and no correction of ours would make sense of it; the text says why, and the first line what.

    A policy raises it: the record is set aside, and it is never taken for a fault of the service.
    """


@dataclass(frozen=True, slots=True)
class MessageType:
    """What the registry knows of one published message type."""

    name: str
    cls: type[Any]
    key: Callable[[Any], str]
    upcast: Callable[[Any], Any] | None


_BY_NAME: dict[str, MessageType] = {}
_BY_CLASS: dict[type[Any], MessageType] = {}
_encoder = msgspec.json.Encoder()


def message(name: str, *, key: str | Callable[[Any], str], upcast: Callable[[Any], Any] | None = None) -> Callable[[type[M]], type[M]]:
    """Publish a class as `name`.

    `key` names the field (or is the function) that gives the record's Kafka key.
    `upcast` is set on superseded versions only: it turns an instance into one of the next version.
    """

    def publish(cls: type[M]) -> type[M]:
        if name in _BY_NAME:
            raise TypeError(f"{name} is published twice")
        _BY_NAME[name] = _BY_CLASS[cls] = MessageType(name, cls, attrgetter(key) if isinstance(key, str) else key, upcast)
        return cls

    return publish


def type_of(message_or_class: object) -> MessageType:
    """The published type of a message or message class. Raises KeyError for a class that is not a message."""
    cls = message_or_class if isinstance(message_or_class, type) else type(message_or_class)
    return _BY_CLASS[cls]


def find_type(name: str) -> MessageType | None:
    """The message type published under `name`, None where this version of the package does not know it."""
    return _BY_NAME.get(name)


def versions_of(cls: type[Any]) -> list[MessageType]:
    """The published type of a message class, and the types of its earlier versions, whose records are read as it."""
    stem = _stem(type_of(cls).name)
    return [kind for kind in all_types() if _stem(kind.name) == stem]


def all_types() -> list[MessageType]:
    """Every published message type, by name."""
    return [_BY_NAME[name] for name in sorted(_BY_NAME)]


def key_of(message: object) -> str:
    """The Kafka key of a message's record."""
    return type_of(message).key(message)


def encode(message: object) -> bytes:
    """The JSON value of a message's record."""
    return _encoder.encode(message)


def decode(name: str, value: bytes) -> Any:
    """Read what one of our own services published, upcast to its newest version.

    Raises UnreadableMessage when the value does not fit, or the type is unknown.
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        raise UnreadableMessage(f"unknown message type {name}")
    try:
        return newest(_decoder(kind.cls).decode(value))
    except msgspec.MsgspecError as error:
        raise UnreadableMessage(f"{name}: {error}") from error


def validate(name: str, value: bytes) -> Any:
    """Read what an external party sent, strictly (see `strict`), upcast to its newest version. Slower than `decode`.

    Raises UnreadableMessage listing every field at fault and why, separated by "; ".
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        raise UnreadableMessage(f"unknown message type {name}")
    try:
        return newest(read_strictly(kind.cls, value))
    except Refused as refused:
        raise UnreadableMessage(f"{name}: {refused}") from refused


def _stem(name: str) -> str:
    return name.rpartition(".v")[0]


def newest(read: Any) -> Any:
    """A message upcast to its newest version."""
    kind = type_of(read)
    while kind.upcast is not None:
        read = kind.upcast(read)
        kind = type_of(read)
    return read


@cache
def _decoder(cls: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)
