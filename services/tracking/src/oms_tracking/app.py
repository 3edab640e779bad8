"""Builds tracking from its parts."""

from oms_runtime.model import Decider, Service, one_stream, service_of
from oms_runtime.server import run

from oms_tracking.commands import Command, Event
from oms_tracking.decider import INITIAL, Order, decide, decide_for, due, evolve
from oms_tracking.policies import POLICIES
from oms_tracking.settings import Settings


def make_service() -> Service:
    """Tracking. Each of its decisions concerns one order."""
    decider: Decider[Order, Command, Event] = one_stream(
        initial=INITIAL, decide=decide, evolve=evolve, due=due, decide_for=decide_for, state_version=6
    )
    return service_of("tracking", decider=decider, policies=POLICIES)


def main() -> None:
    """Run tracking until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(), settings)
