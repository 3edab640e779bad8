"""What payment reads from its environment, in addition to the settings of every service."""

from datetime import timedelta

from oms_runtime.settings import PositiveDuration, RuntimeSettings
from pydantic import Field, NonNegativeInt

from oms_payment.decider import Terms


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; durations are ISO 8601 or seconds."""

    look_up_after: timedelta = timedelta(seconds=5)
    """From a request without a response to its first look-up. The wait doubles with each further look-up."""
    look_up_at_most: timedelta = timedelta(hours=1)
    """The longest wait between two look-ups."""
    refund_timeout: timedelta = timedelta(days=7)
    """How long a refund waits until it is known what was captured."""
    renew_before: PositiveDuration = timedelta(days=1)
    """So long before an authorization runs out it is renewed, at most for half the time that it holds."""
    capture_tries: int = Field(default=5, ge=1)
    """How often the provider is asked to capture for one shipment, before a person is asked to collect the money."""
    capture_retry_after: PositiveDuration = timedelta(hours=1)
    """From a refused capture to the next try. The wait doubles with each further refusal."""
    capture_retry_at_most: PositiveDuration = timedelta(days=1)
    """The longest wait between two tries."""
    collection_timeout: PositiveDuration = timedelta(days=3)
    """How long a person has to collect what is outstanding, before it is written off or asked for again."""
    write_off_up_to: dict[str, NonNegativeInt] = {}  # noqa: RUF012  # pydantic copies it
    """By currency: up to so many minor units outstanding of an order are written off at the deadline; more is asked for again."""
    provider: str = "sandbox"
    """The payment provider: a key of `PROVIDERS` in `app.py`."""
    provider_timeout: timedelta = timedelta(seconds=30)
    """How long one call to the provider may take before its outcome counts as unknown."""
    sandbox_latency: timedelta = timedelta(0)
    """How long each call to the sandbox takes."""

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(
            look_up_after=self.look_up_after,
            look_up_at_most=self.look_up_at_most,
            refund_timeout=self.refund_timeout,
            renew_before=self.renew_before,
            capture_tries=self.capture_tries,
            capture_retry_after=self.capture_retry_after,
            capture_retry_at_most=self.capture_retry_at_most,
            collection_timeout=self.collection_timeout,
            write_off_up_to=self.write_off_up_to,
        )
