"""What projection is told by its environment, beside what every service is told."""

from oms_runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`."""

    http_port: int = 8006
    batch_records: int = 2_000
    """The most records one transaction handles: a batch costs a statement a table, so large ones are cheap."""
