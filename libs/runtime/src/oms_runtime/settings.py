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
    batch_records: int = 2_000
    """The most records one transaction handles."""
    instance: str | None = None
    """A name that this process bears again after a restart, and no other replica of the service bears: who comes back under it takes its
    partitions over at once. Without one they lie idle until the session of who was killed has run out."""
    session_timeout_ms: int = 10_000
    """A process that is silent for longer loses its partitions, its open transaction, and the lead."""
    rebalance_timeout_ms: int = 60_000
    """Longer than the longest batch: a revocation waits for the batch in hand."""
