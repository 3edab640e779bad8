"""What a service is told by its environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """What a client of the broker is told, by variables beginning with `OMS_`. Without a username it speaks in plain text (tests only)."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore")

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None


class RuntimeSettings(KafkaSettings):
    """What a service is told."""

    database_url: SecretStr
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    log_level: str = "INFO"
    batch_records: int = 500
    """The most records one transaction handles."""
    session_timeout_ms: int = 10_000
    """A process that is silent for longer loses its partitions, its open transaction, and the lead."""
    rebalance_timeout_ms: int = 60_000
    """Longer than the longest batch: a revocation waits for the batch in hand."""
