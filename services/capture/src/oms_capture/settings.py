"""Capture's settings, beside those of every service."""

from datetime import timedelta
from typing import Any

import pycountry
from oms_runtime.settings import PersonalDataSettings, PositiveDuration, RuntimeSettings

from oms_capture.decider import Terms
from oms_capture.validation import Market


class Settings(RuntimeSettings, PersonalDataSettings):
    """Variables begin with `OMS_`; lists are JSON, durations ISO 8601 or seconds."""

    channels: frozenset[str] = frozenset({"web", "app", "till", "marketplace"})
    """The channels that may place orders; empty admits every channel."""
    payment_timeout: PositiveDuration = timedelta(days=2)
    """From a declined payment to the order's expiry, unless the payment is amended."""
    stock_timeout: PositiveDuration = timedelta(days=2)
    """From a shortage to the order's expiry, unless its stock comes or somebody lets it wait longer."""
    stock_wait_limit: PositiveDuration = timedelta(days=90)
    """From an order's acceptance or confirmation, the latest until which somebody may let it wait for stock."""
    product_timeout: PositiveDuration = timedelta(days=2)
    """From the hold of an order whose products are not in the catalogue to its expiry."""
    answer_timeout: PositiveDuration = timedelta(days=1)
    """How long an order waits for another service's event before an operator is asked to investigate."""
    delivery_timeout: PositiveDuration = timedelta(days=30)
    """From the release to the question whether the order was delivered."""

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
            stock_wait_limit=self.stock_wait_limit,
            product_timeout=self.product_timeout,
            answer_timeout=self.answer_timeout,
            delivery_timeout=self.delivery_timeout,
        )
