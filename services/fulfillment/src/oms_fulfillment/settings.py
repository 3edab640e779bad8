"""What fulfillment reads from its environment: the settings of every service, and of those that open personal data."""

from oms_runtime.settings import PersonalDataSettings, RuntimeSettings


class Settings(RuntimeSettings, PersonalDataSettings):
    """Variables begin with `OMS_`."""
