"""What capture is told by its environment, beside what every service is told."""

from datetime import timedelta
from typing import Annotated, Any

import pycountry
from oms_runtime.settings import RuntimeSettings
from pydantic import Field

from oms_capture.decider import Terms
from oms_capture.validation import Market

Timeout = Annotated[timedelta, Field(gt=timedelta(0))]
"""A deadline that is no time away would come up again and again without end."""


class Settings(RuntimeSettings):
    """Variables begin with `OMS_`; lists are JSON, durations ISO 8601 or seconds."""

    channels: frozenset[str] = frozenset({"web", "app", "till", "marketplace"})
    payment_timeout: Timeout = timedelta(days=2)
    stock_timeout: Timeout = timedelta(days=2)
    answer_timeout: Timeout = timedelta(days=1)
    delivery_timeout: Timeout = timedelta(days=30)
    query_url: str = "http://127.0.0.1:8006"
    """Where projection answers: `POST /orders` says so in its Location."""

    def terms(self) -> Terms:
        """The business's settings, with the currencies of ISO 4217 and the countries of ISO 3166-1."""
        currencies: Any = pycountry.currencies
        market = Market(
            channels=self.channels,
            currencies=frozenset(currency.alpha_3 for currency in currencies),
            countries=frozenset(country.alpha_2 for country in pycountry.countries),
        )
        return Terms(
            market=market,
            payment_timeout=self.payment_timeout,
            stock_timeout=self.stock_timeout,
            answer_timeout=self.answer_timeout,
            delivery_timeout=self.delivery_timeout,
        )
