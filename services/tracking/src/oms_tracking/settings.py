"""What tracking is told by its environment: what every service is told, and nothing beside."""

from oms_runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""
