"""The JSON Schema (2020-12) of a message. Every schema is self-contained: nested values are written out where they are used."""

from typing import Any, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from oms_contracts.catalogue import PARTY_TOPICS, TOPICS
from oms_contracts.message import MessageType
from oms_contracts.strict import strict_schema

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: MessageType) -> Schema:
    """The schema of a message's value.

    What external parties may send is described as strictly as it is validated. What only our services publish is described for readers:
    fields may be added, and those with a default may be absent from old records.
    """
    core = strict_schema(kind.cls) if is_external(kind) else TypeAdapter(kind.cls).core_schema
    made = _Generator().generate(core)
    return {"$schema": DIALECT, "$id": f"urn:orderstream:{kind.name}", **_inlined(made, made.pop("$defs", {}))}


def is_external(kind: MessageType) -> bool:
    """Whether external parties may publish the message."""
    return any(not topic.trusted and kind.cls in topic.messages for topic in (*TOPICS, *PARTY_TOPICS))


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, extended by what the tightened parts mean."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def chain_schema(self, schema: core_schema.ChainSchema) -> Schema:
        return {"type": "string", "format": "date-time"}  # strict reading chains a pattern and a moment, and nothing else

    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> Schema:
        closed = {"additionalProperties": False} if schema.get("extra_behavior") == "forbid" else {}
        return super().dataclass_args_schema(schema) | closed

    def sort(self, value: Schema, parent_key: str | None = None) -> Schema:
        return value  # in the order of the class


def _inlined(node: Any, definitions: Schema) -> Any:
    match node:
        case {"$ref": str() as reference}:
            return _inlined(definitions[reference.removeprefix("#/$defs/")], definitions)
        case dict():
            return {name: _inlined(part, definitions) for name, part in cast(Schema, node).items()}
        case list():
            return [_inlined(part, definitions) for part in cast(list[Any], node)]
        case _:
            return node


def topics_of(kind: MessageType) -> list[str]:
    """The topics that carry the message, by name."""
    return sorted(topic.name for topic in (*TOPICS, *PARTY_TOPICS) if kind.cls in topic.messages)
