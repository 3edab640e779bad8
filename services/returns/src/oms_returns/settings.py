"""What returns is told by its environment, beside what every service is told."""

from datetime import timedelta
from typing import Annotated

from oms_runtime.settings import RuntimeSettings
from pydantic import Field

from oms_returns.decider import Terms

Timeout = Annotated[timedelta, Field(gt=timedelta(0))]
"""A deadline that is no time away would come up again and again without end."""


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; lists are JSON, durations ISO 8601 or seconds."""

    http_port: int = 8005
    return_window: Timeout = timedelta(days=30)
    """How long after an order is completed its goods may be returned."""
    goods_timeout: Timeout = timedelta(days=14)
    """How long the goods of an approved return may be on their way."""
    inspection_timeout: Timeout = timedelta(days=3)
    refund_timeout: Timeout = timedelta(days=3)
    return_reasons: frozenset[str] = Terms().reasons

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(
            window=self.return_window,
            goods_timeout=self.goods_timeout,
            inspection_timeout=self.inspection_timeout,
            refund_timeout=self.refund_timeout,
            reasons=self.return_reasons,
        )
