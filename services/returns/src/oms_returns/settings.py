"""Returns' settings, beside those of every service."""

from datetime import timedelta

from oms_runtime.settings import PositiveDuration, RuntimeSettings

from oms_returns.decider import Terms


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; lists are JSON, durations ISO 8601 or seconds."""

    return_window: PositiveDuration = timedelta(days=30)
    """From an order's completion until its goods can no longer be returned."""
    goods_timeout: PositiveDuration = timedelta(days=14)
    """From a return's approval to its expiry, unless goods arrive."""
    inspection_timeout: PositiveDuration = timedelta(days=3)
    """From the newest receipt until a person is asked to inspect the goods."""
    refund_timeout: PositiveDuration = timedelta(days=3)
    """From the request for a refund until a person is asked to investigate."""
    return_reasons: frozenset[str] = Terms().reasons
    """The reasons for which a line may be returned."""

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(
            window=self.return_window,
            goods_timeout=self.goods_timeout,
            inspection_timeout=self.inspection_timeout,
            refund_timeout=self.refund_timeout,
            reasons=self.return_reasons,
        )
