"""Projection's settings, beside those of every service."""

from oms_runtime.settings import ApiSettings, PersonalDataSettings, QueryTokenSettings, RuntimeSettings
from pydantic import SecretStr


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""


class EdgeSettings(ApiSettings, PersonalDataSettings, QueryTokenSettings):
    """Of the query API's process. Variables begin with `OMS_`."""

    http_port: int = 8006
    database_url: SecretStr
