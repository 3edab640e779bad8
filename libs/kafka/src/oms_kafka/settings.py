"""The broker's address, and our credentials."""

from collections.abc import Mapping

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """The environment variables of a Kafka client, all beginning with `OMS_`. Without a username it connects in plain text (tests only)."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore")

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None


def settings_of(kafka: Mapping[str, str | None]) -> KafkaSettings:
    """The settings of a broker user from a mapping with `bootstrap_servers`, and `username` and `password` where it has them."""
    password = kafka.get("password")
    return KafkaSettings(
        kafka_bootstrap_servers=str(kafka["bootstrap_servers"]),
        kafka_username=kafka.get("username"),
        kafka_password=SecretStr(password) if password else None,
    )
