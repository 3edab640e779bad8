"""Where inventory is built."""

from functools import partial

from oms_runtime.model import Decider, Service, service_of
from oms_runtime.server import run

from oms_inventory.commands import Command, Event
from oms_inventory.decider import State, decide, decide_for, due, evolve, initial, reads, writes
from oms_inventory.policies import POLICIES
from oms_inventory.reservations import Terms
from oms_inventory.settings import Settings


def make_service(terms: Terms) -> Service:
    """Inventory under the given terms."""
    decider: Decider[State, Command, Event] = Decider(
        initial=initial,
        decide=partial(decide, terms=terms),
        evolve=evolve,
        reads=partial(reads, terms=terms),
        writes=writes,
        due=partial(due, terms=terms),
        decide_for=partial(decide_for, terms=terms),
        state_version=4,
    )
    return service_of("inventory", decider=decider, policies=POLICIES)


def main() -> None:
    """Run inventory until it is stopped."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.terms()), settings)
