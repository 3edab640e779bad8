"""What a service reads from its environment."""

import re
from base64 import b64decode
from datetime import timedelta
from typing import Annotated

from oms_kafka.settings import KafkaSettings
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from oms_runtime.sealing import KEY_BYTES, Sealer

PositiveDuration = Annotated[timedelta, Field(gt=timedelta(0))]
"""For a setting that makes a deadline: a deadline without any delay would be due again and again without end."""


MIN_TOKEN_CHARACTERS = 32
"""Of a credential that nobody types: whoever guesses must not find it."""


def _check_token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[!-~]{{{MIN_TOKEN_CHARACTERS},}}", token.get_secret_value()):
        raise ValueError(f"must be at least {MIN_TOKEN_CHARACTERS} ASCII characters without spaces: `openssl rand -hex 32` makes some")
    return token


Token = Annotated[SecretStr, AfterValidator(_check_token)]
"""A credential that a client shows as `Authorization: Bearer`."""


class OperationsSettings(BaseSettings):
    """The variables of every process, all beginning with `OMS_`."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore")

    http_host: str = "127.0.0.1"
    operations_port: int = 8001
    """Where health, metrics and the audit are served, apart from any API: whoever floods that leaves them alone."""
    http_max_connections: int = Field(default=200, ge=2)
    """On each port. A request on one more gets 503 at once."""
    log_level: str = "INFO"


class ApiSettings(OperationsSettings):
    """The variables of every process that serves an API, all beginning with `OMS_`."""

    http_port: int = 8000
    http_request_timeout_seconds: float = Field(default=30, gt=0)


def _check_key(key: SecretStr) -> SecretStr:
    try:
        size = len(b64decode(key.get_secret_value(), validate=True))
    except ValueError:
        size = 0
    if size != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} random bytes in base64: `openssl rand -base64 {KEY_BYTES}` makes some")
    return key


class PersonalDataSettings(BaseSettings):
    """The variables of every process that seals personal data or opens it, all beginning with `OMS_`."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore")

    personal_data_key: Annotated[SecretStr, AfterValidator(_check_key)]
    """The installation's key: it encrypts customers' keys. The same everywhere and for ever: without it no personal data can be read."""

    def sealer(self) -> Sealer:
        """What seals and opens with that key."""
        return Sealer(b64decode(self.personal_data_key.get_secret_value()))


class QueryTokenSettings(BaseSettings):
    """The variables of the process that serves the query API and of those that ask it, all beginning with `OMS_`."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore", hide_input_in_errors=True)

    query_token: Token
    """The service credential: whoever shows it may ask the query API everything."""


class RuntimeSettings(OperationsSettings, KafkaSettings):
    """The variables of every service, all beginning with `OMS_`."""

    database_url: SecretStr
    batch_records: int = 2_000
    """At most so many records in one transaction."""
    instance: str | None = None
    """Kafka's `group.instance.id` (static membership): a name that this process has again after a restart, and no other replica of the
    service has. A process that returns under it takes its partitions over at once. Without one they lie idle until the session of the
    process that was killed has run out."""
    poison_max_records: int = Field(default=20, ge=0)
    """So many records that fail for one reason within a minute stop consumption, if they are `poison_max_share` of all too. 0: no limit."""
    poison_max_share: float = Field(default=0.1, ge=0, le=1)
    session_timeout_ms: int = 10_000
    """A process that is silent for longer loses its partitions, its open transaction, and the lead."""
    audit_timeout_seconds: float = Field(default=600, gt=0)
    """For one audit, which reads every event. Its snapshot keeps PostgreSQL from removing old row versions for as long."""
    max_clock_skew_seconds: float = Field(default=60, ge=0)
    """A clock that differs by more from the database server's, or jumps by more, decides nothing. 0: it is believed, whatever it says."""
    rebalance_timeout_ms: int = 60_000
    """Longer than the longest batch: a revocation waits for the batch in hand."""
