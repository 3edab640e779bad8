"""What payment reads from its environment, in addition to the settings of every service."""

from datetime import timedelta

from oms_runtime.settings import RuntimeSettings

from oms_payment.decider import Terms


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; durations are ISO 8601 or seconds."""

    look_up_after: timedelta = timedelta(seconds=5)
    """From a request without a response to its first look-up. The wait doubles with each further look-up."""
    look_up_at_most: timedelta = timedelta(hours=1)
    """The longest wait between two look-ups."""
    refund_timeout: timedelta = timedelta(days=7)
    """How long a refund waits until it is known what was captured."""
    provider: str = "sandbox"
    """The payment provider: a key of `PROVIDERS` in `app.py`."""
    provider_timeout: timedelta = timedelta(seconds=30)
    """How long one call to the provider may take before its outcome counts as unknown."""
    sandbox_latency: timedelta = timedelta(0)
    """How long each call to the sandbox takes."""

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(look_up_after=self.look_up_after, look_up_at_most=self.look_up_at_most, refund_timeout=self.refund_timeout)
