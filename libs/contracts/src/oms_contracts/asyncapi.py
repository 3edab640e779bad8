"""The AsyncAPI 3.0 document: every topic, message, and which user sends and receives what, from the catalogue and the registry."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from oms_contracts.catalogue import ALL_SERVICES, FOREVER, PARTY_TOPICS, ROLES, TOPICS, Topic, topics_read_by, topics_written_by
from oms_contracts.message import MessageType, all_types, description_of, type_of
from oms_contracts.schemas import Schema, schema_of
from oms_contracts.values import ORDER_ID_SEPARATOR, ORDER_NAMESPACE, order_id_of

_BINDING = "0.5.0"
_DESCRIPTIONS = {
    "gateway": "The gateway: it publishes what people and programs ask for over HTTP.",
    "channel": "Sales channels: they publish their orders, cancel them and amend their payments. Each has a broker user of its own.",
    "warehouse": "Warehouses: they book goods, pick, pack and ship. Each has a broker user of its own.",
    "carrier": "Carriers: they report what happens to their packages. Each has a broker user of its own.",
    "downstream": "Whoever wants to know where orders stand: ERP, CRM, shop.",
    "operator": "Those who run it: they may read everything and send every command.",
}

_PARAMETERS = {
    "channel": "The channel's name, as its orders have it in `channel`.",
    "warehouse": "The name of the warehouse's location, as fulfillments and stock have it in `location`.",
    "carrier": "The carrier's name, as packages have it in `carrier`.",
}
_FAMILY = (
    " Each {0} has a topic of its own here, and the broker user `{0}:<name>`, which alone may write it: the topic says who sent a record. "
    "What names another {0} is set aside, and what concerns another's is refused as if it did not exist."
)


def document(examples: Mapping[str, Iterable[Schema]]) -> Schema:
    """The whole document. `examples` gives AsyncAPI message examples by message type."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orderstream",
            "version": version("orderstream-contracts"),
            "description": (
                "An open order management system. Records are CloudEvents 1.0 in Kafka's binary mode: attributes are `ce_` headers, the "
                "value is the JSON data. Order is kept within a key. Readers ignore fields and types they do not know; a published version "
                "never changes. A record's key is UTF-8 text, and its partition is that of Kafka's default partitioner (murmur2 of the "
                "key): most clients do the same, and librdkafka with `partitioner=murmur2_random`. What external parties read is "
                "compressed by gzip; they may write uncompressed records or any of Kafka's codecs."
            ),
            "x-order-id": {
                "description": (
                    "An order's id, and the key of its records, is a UUID version 5 (RFC 9562) in `namespace` of the channel, `separator` "
                    "and the channel's reference, as UTF-8."
                ),
                "namespace": str(ORDER_NAMESPACE),
                "separator": ORDER_ID_SEPARATOR,
                "example": {"channel": "web", "channel_reference": "W-1001", "order_id": order_id_of("web", "W-1001")},
            },
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": {_id(topic): _channel(topic) for topic in (*TOPICS, *PARTY_TOPICS)},
        "operations": {name: operation for role in ROLES for name, operation in _operations(role)},
        "components": {
            "messages": {kind.name: _message(kind, examples.get(kind.name, ())) for kind in all_types()},
            "schemas": {"CloudEventHeaders": _headers(), **{kind.name: _embedded(kind) for kind in all_types()}},
            "securitySchemes": {
                "scram": {
                    "type": "scramSha512",
                    "description": "Every service and every way in from outside is a broker user with rights to its own topics alone.",
                }
            },
        },
    }


def _server() -> Schema:
    return {
        "host": "{host}:{port}",
        "protocol": "kafka",
        "description": "The Kafka cluster of an installation",
        "variables": {"host": {"default": "localhost"}, "port": {"default": "9092"}},
        "security": [{"$ref": "#/components/securitySchemes/scram"}],
        "tags": [{"name": role, "description": _DESCRIPTIONS.get(role, f"The service {role}.")} for role in ROLES],
    }


def _channel(topic: Topic) -> Schema:
    return {
        "address": topic.name,
        **({} if topic.parties is None else {"parameters": {topic.parties: {"description": _PARAMETERS[topic.parties]}}}),
        "title": topic.name,
        "summary": topic.summary[0].upper() + topic.summary[1:] + ".",
        "description": f"Keyed by {topic.key}. Kept {kept(topic)}." + ("" if topic.parties is None else _FAMILY.format(topic.parties)),
        "x-key": topic.key,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names(topic)},
        "bindings": {
            "kafka": {
                **({"topic": topic.name} if topic.parties is None else {}),  # a family has no topic of its own name
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if topic.compacted else "delete"],
                    "retention.ms": topic.retention,
                    "max.message.bytes": topic.max_message_bytes,
                    "compression.type": topic.compression,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def kept(topic: Topic) -> str:
    """How long a topic's records stay, in words."""
    if topic.compacted:
        return "as the newest of each key"
    return "for ever" if topic.retention == FOREVER else f"{topic.retention // 86_400_000} days"


def _id(topic: Topic) -> str:
    """What references in the document call a topic, or a family: they cannot have braces."""
    return topic.name.replace("{", "").replace("}", "")


def _operations(role: str) -> Iterator[tuple[str, Schema]]:
    for topic in topics_written_by(role):
        yield f"{role}.send.{_id(topic)}", _operation("send", role, topic)
    for topic in topics_read_by(role):
        yield f"{role}.receive.{_id(topic)}", _operation("receive", role, topic)


def _operation(action: str, role: str, topic: Topic) -> Schema:
    made: Schema = {
        "action": action,
        "channel": {"$ref": f"#/channels/{_id(topic)}"},
        "summary": f"{role} {'publishes' if action == 'send' else 'hears'} {topic.summary}.",
        "tags": [{"name": role}],
        "messages": [{"$ref": f"#/channels/{_id(topic)}/messages/{name}"} for name in _names(topic)],
    }
    if action == "receive" and role in ALL_SERVICES:  # a service reads as one consumer group of its own name
        made["bindings"] = {"kafka": {"groupId": {"type": "string", "const": f"oms.{role}"}, "bindingVersion": _BINDING}}
    return made


def _message(kind: MessageType, examples: Iterable[Schema]) -> Schema:
    described = description_of(kind.cls)
    return {
        "name": kind.name,
        "title": kind.cls.__name__,
        **({"summary": described.splitlines()[0], "description": described} if described else {}),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEventHeaders"},
                {"type": "object", "properties": {"ce_type": {"const": kind.name}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{kind.name}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": _BINDING}},
        **({"examples": found} if (found := list(examples)) else {}),
    }


def _embedded(kind: MessageType) -> Schema:
    """The message's JSON Schema without what makes it a file of its own: AsyncAPI's dialect shares all the rest."""
    return {keyword: part for keyword, part in schema_of(kind).items() if keyword not in {"$schema", "$id"}}


def _headers() -> Schema:
    text, number = {"type": "string"}, {"type": "string", "pattern": r"^\d{1,18}$"}
    return {
        "type": "object",
        "description": "CloudEvents 1.0 attributes as Kafka headers, each UTF-8 text. Others may be there.",
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_type": {**text, "description": "The message's type, with its version."},
            "ce_source": {**text, "format": "uri-reference", "description": "Who published it: /oms/<service>, or a channel's own."},
            "ce_id": {**text, "description": "Unique for its source."},
            "ce_time": {**text, "format": "date-time"},
            "ce_subject": {**text, "description": "What it is about: the record's key."},
            "ce_partitionkey": {**text, "description": "The record's key (CloudEvents partitioning extension)."},
            "ce_sequence": {**number, "description": "The event's version in its stream, from 1; our services' events have it."},
            "ce_position": {**number, "description": "Its place among all that its service published: a repeated record repeats it."},
            "ce_storeepoch": {**text, "description": "The life of that store in which it was stored; later ones sort behind earlier ones."},
            "ce_correlationid": {**text, "description": "Shared by everything that one order caused."},
            "ce_causationid": {**text, "description": "The id of the record that led to this one."},
            "ce_actor": {**text, "description": "Who asked for it: a user, an API key, a channel. An event has the actor of its command."},
            "ce_reason": {**text, "description": "Why they asked for it, where a person said so."},
            "traceparent": {**text, "description": "W3C Trace Context."},
            "content-type": {"const": "application/json"},
        },
        "required": ["ce_specversion", "ce_type", "ce_source", "ce_id"],
    }


def _names(topic: Topic) -> list[str]:
    return [type_of(cls).name for cls in topic.messages]
