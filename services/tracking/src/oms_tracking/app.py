"""Where tracking is built."""

from oms_runtime.model import Service, one_stream, service_of
from oms_runtime.server import run

from oms_tracking.decider import INITIAL, decide, due, evolve
from oms_tracking.policies import POLICIES
from oms_tracking.settings import Settings


def make_service() -> Service:
    """Tracking, whose every decision concerns one order."""
    decider = one_stream(initial=INITIAL, decide=decide, evolve=evolve, due=due, state_version=2)
    return service_of("tracking", decider=decider, policies=POLICIES)


def main() -> None:
    """Run tracking until it is told to stop."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(), settings)
