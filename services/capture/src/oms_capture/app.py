"""Builds capture from its parts."""

from contextlib import nullcontext
from functools import partial

from oms_runtime.clock import utc_now
from oms_runtime.model import Decider, Service, one_stream, service_of
from oms_runtime.server import run

from oms_capture.api import KafkaOrders, make_api
from oms_capture.commands import Command, Event
from oms_capture.decider import INITIAL, Order, Terms, decide, due, evolve
from oms_capture.policies import POLICIES
from oms_capture.settings import Settings


def make_service(terms: Terms) -> Service:
    """Capture under the given terms."""
    decider: Decider[Order, Command, Event] = one_stream(
        initial=INITIAL, decide=partial(decide, terms=terms), evolve=evolve, due=partial(due, terms=terms), state_version=3
    )
    return service_of("capture", decider=decider, policies=POLICIES)


def main() -> None:
    """Run capture until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    orders = KafkaOrders(settings)
    run(make_service(settings.terms()), settings, api=lambda _runtime: nullcontext(make_api(orders, settings.query_url, utc_now)))
