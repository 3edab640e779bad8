"""Where fulfillment is built."""

from oms_runtime.model import LINGER_LONG_SECONDS, Decider, Service, one_stream, service_of
from oms_runtime.server import run

from oms_fulfillment.commands import Command, Event
from oms_fulfillment.decider import INITIAL, Order, decide, due, evolve
from oms_fulfillment.policies import POLICIES
from oms_fulfillment.settings import Settings


def make_service() -> Service:
    """Fulfillment. Each decision concerns one order."""
    decider: Decider[Order, Command, Event] = one_stream(initial=INITIAL, decide=decide, evolve=evolve, due=due)
    return service_of("fulfillment", decider=decider, policies=POLICIES, linger_seconds=LINGER_LONG_SECONDS)


def main() -> None:
    """Run fulfillment until it is stopped."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(), settings)
