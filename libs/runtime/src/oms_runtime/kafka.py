"""How clients reach the broker, and how a key finds its partition."""

from functools import lru_cache
from typing import Any

from aiokafka.partitioner import murmur2

from oms_runtime.settings import RuntimeSettings


def client_options(settings: RuntimeSettings) -> dict[str, Any]:
    """What every aiokafka client needs: where the broker is, and who we are (SCRAM-SHA-512)."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka_bootstrap_servers}
    if settings.kafka_username is not None and settings.kafka_password is not None:
        options |= {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition Kafka's own default partitioner (murmur2) gives a key, so that every client agrees."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
