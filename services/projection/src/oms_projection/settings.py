"""Projection's settings, beside those of every service."""

from oms_runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""

    http_port: int = 8006
