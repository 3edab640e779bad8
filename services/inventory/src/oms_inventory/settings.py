"""What inventory reads from its environment, in addition to the settings of every service."""

from datetime import timedelta

from oms_runtime.settings import RuntimeSettings

from oms_inventory.reservations import Terms, UnknownSku


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; durations are ISO 8601 or seconds."""

    reservation_timeout: timedelta = timedelta(hours=2)
    """How long units are held for an order that is not confirmed."""
    unknown_sku: UnknownSku = "accept"
    """What becomes of an order that names a SKU without an active product: accept, reject or hold."""

    def terms(self) -> Terms:
        """The business's settings."""
        return Terms(reservation_timeout=self.reservation_timeout, unknown_sku=self.unknown_sku)
