"""What fulfillment reads from its environment: only the settings of every service."""

from oms_runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""
