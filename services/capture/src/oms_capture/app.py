"""Builds capture from its parts."""

from functools import partial
from secrets import token_bytes

from oms_runtime.model import Decider, Service, service_of
from oms_runtime.sealing import Sealer
from oms_runtime.server import run

from oms_capture.commands import AnyCommand, AnyEvent
from oms_capture.customers import Customers, disclose
from oms_capture.decider import Terms
from oms_capture.policies import POLICIES
from oms_capture.settings import Settings
from oms_capture.streams import State, decide, decide_for, due, evolve, initial, reads, writes


def make_service(terms: Terms, sealer: Sealer) -> Service:
    """Capture under the given terms."""
    decider: Decider[State, AnyCommand, AnyEvent] = Decider(
        initial=initial,
        decide=partial(decide, terms=terms),
        evolve=evolve,
        reads=reads,
        writes=writes,
        due=partial(due, terms=terms),
        decide_for=partial(decide_for, terms=terms),
        state_version=10,
    )
    return service_of("capture", decider=decider, policies=POLICIES, companion=Customers(sealer, token_bytes), disclose=disclose)


def main() -> None:
    """Run capture until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.terms(), settings.sealer()), settings)
