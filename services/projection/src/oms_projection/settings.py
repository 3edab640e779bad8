"""What projection is told by its environment, beside what every service is told."""

from oms_runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""

    http_port: int = 8006
