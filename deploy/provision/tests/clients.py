"""Plain clients of a stack's servers, with the rights of one user. Shared by the tests of provisioning and of the local stack."""

import asyncio
from typing import Any

import confluent_kafka
from oms_local.stack import Stack
from oms_provision.broker import client_options
from oms_provision.sql import session

kafka_api: Any = confluent_kafka

TIMEOUT_SECONDS = 20


def write(stack: Stack, user: str, topic: str, value: bytes = b"x", *, idempotent: bool = True) -> str | None:
    """Write a record. Returns None, or the name of the error."""
    outcome: list[str | None] = []

    def delivered(error: Any, record: object) -> None:
        del record
        outcome.append(error.name() if error else None)

    options = {"enable.idempotence": idempotent, "message.timeout.ms": TIMEOUT_SECONDS * 1000}
    producer = kafka_api.Producer(_options(stack, user, **options))
    producer.produce(topic, value, on_delivery=delivered)
    producer.flush(TIMEOUT_SECONDS)
    return outcome[0]


def read(stack: Stack, user: str, topic: str, group: str) -> bytes | str:
    """The value of a topic's first record, or the name of the error."""
    consumer = kafka_api.Consumer(_options(stack, user, **{"group.id": group, "auto.offset.reset": "earliest"}))
    try:
        consumer.subscribe([topic])
        record = consumer.poll(TIMEOUT_SECONDS)
        assert record is not None, "neither a record nor an error"
        return record.error().name() if record.error() else record.value()
    except kafka_api.KafkaException as error:
        return error.args[0].name()
    finally:
        consumer.close()


def query(url: str, statement: str) -> Any:
    """The first value of a statement's result."""

    async def run() -> Any:
        async with session(url) as connection:
            return await connection.fetchval(statement)

    return asyncio.run(run())


def _options(stack: Stack, user: str, **more: object) -> dict[str, object]:
    return {**client_options(stack.kafka(user)), "log_level": 0, **more}
