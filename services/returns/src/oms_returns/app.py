"""Builds returns from its parts."""

from functools import partial

from oms_runtime.model import LINGER_LONG_SECONDS, Decider, Service, one_stream, service_of
from oms_runtime.server import run

from oms_returns.commands import Command, Event
from oms_returns.decider import INITIAL, Returns, Terms, decide, decide_for, due, evolve
from oms_returns.policies import POLICIES
from oms_returns.settings import Settings


def make_service(terms: Terms) -> Service:
    """Returns under the given terms."""
    decider: Decider[Returns, Command, Event] = one_stream(
        initial=INITIAL,
        decide=partial(decide, terms=terms),
        evolve=evolve,
        due=partial(due, terms=terms),
        decide_for=partial(decide_for, terms=terms),
        state_version=2,
    )
    return service_of("returns", decider=decider, policies=POLICIES, linger_seconds=LINGER_LONG_SECONDS)


def main() -> None:
    """Run returns until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.terms()), settings)
