"""What inventory reads from its environment, in addition to the settings of every service."""

from datetime import timedelta

from oms_runtime.settings import PositiveDuration, RuntimeSettings

from oms_inventory.reservations import Terms, UnknownSku


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; durations are ISO 8601 or seconds."""

    reservation_timeout: timedelta = timedelta(hours=2)
    """How long units are held for an order that is not confirmed."""
    unknown_sku: UnknownSku = "accept"
    """What becomes of an order that names a SKU without an active product: accept, reject or hold."""

    stock_signal_delay: PositiveDuration = timedelta(seconds=10)
    """How long stock must stay low, out or in excess, or back from it, until that is published."""
    shortfall_timeout: PositiveDuration = timedelta(days=1)
    """How long a person has to resolve a shortfall of promised units, until it is asked for again."""
    quarantine_timeout: PositiveDuration = timedelta(days=30)
    """How long a person has to decide on units that are set apart, until it is asked for again."""
    transfer_timeout: PositiveDuration = timedelta(days=14)
    """How long the goods of a transfer may be on the way, until a person is asked to close it."""

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(
            reservation_timeout=self.reservation_timeout,
            unknown_sku=self.unknown_sku,
            signal_delay=self.stock_signal_delay,
            shortfall_timeout=self.shortfall_timeout,
            quarantine_timeout=self.quarantine_timeout,
            transfer_timeout=self.transfer_timeout,
        )
