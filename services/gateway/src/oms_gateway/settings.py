"""The gateway's settings."""

from oms_kafka.settings import KafkaSettings
from oms_runtime.settings import ApiSettings, QueryTokenSettings, Token
from pydantic import Field, SecretStr

from oms_gateway.shops import Shop


class Settings(ApiSettings, KafkaSettings, QueryTokenSettings):
    """Variables begin with `OMS_`."""

    database_url: SecretStr
    query_url: str = "http://127.0.0.1:8006"
    """Where projection's query API is."""
    shops: dict[str, Shop] = Field(default={})
    """The shops that send webhooks, by the channel that they sell through."""
    gateway_key: Token | None = None
    """The key of `/api/v1`. None: nobody may use it."""
