"""Builds capture from its parts."""

import sys
from contextlib import nullcontext
from functools import partial
from secrets import token_bytes

from oms_kafka.clients import broker_is_reachable
from oms_runtime.api_process import run_api
from oms_runtime.clock import utc_now
from oms_runtime.model import Decider, Service, service_of
from oms_runtime.sealing import Sealer
from oms_runtime.server import run

from oms_capture.api import KafkaOrders, make_api
from oms_capture.commands import AnyCommand, AnyEvent
from oms_capture.customers import Customers, disclose
from oms_capture.decider import Terms
from oms_capture.policies import POLICIES
from oms_capture.settings import EdgeSettings, Settings
from oms_capture.streams import State, decide, due, evolve, initial, reads, writes


def make_service(terms: Terms, sealer: Sealer) -> Service:
    """Capture under the given terms."""
    decider: Decider[State, AnyCommand, AnyEvent] = Decider(
        initial=initial,
        decide=partial(decide, terms=terms),
        evolve=evolve,
        reads=reads,
        writes=writes,
        due=partial(due, terms=terms),
        state_version=7,
    )
    return service_of("capture", decider=decider, policies=POLICIES, companion=Customers(sealer, token_bytes), disclose=disclose)


def main() -> None:
    """Run capture, or with the argument `api` its HTTP edge alone, until SIGTERM or SIGINT."""
    if sys.argv[1:] == ["api"]:
        run_edge(EdgeSettings())
    else:
        settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
        run(make_service(settings.terms(), settings.sealer()), settings)


def run_edge(settings: EdgeSettings) -> None:
    """Run the HTTP edge until SIGTERM or SIGINT."""

    async def fault() -> str:
        return "" if await broker_is_reachable(settings) else "the broker cannot be reached: OMS_KAFKA_BOOTSTRAP_SERVERS names it"

    api = partial(make_api, KafkaOrders(settings), settings.query_url, utc_now, shops=settings.shops)
    run_api("capture-api", lambda: nullcontext(api()), settings, fault)
