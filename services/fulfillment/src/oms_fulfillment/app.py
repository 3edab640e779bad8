"""Where fulfillment is built."""

from functools import partial

from oms_runtime.customer_keys import KEY_MESSAGES, keep_customer_keys
from oms_runtime.model import LINGER_LONG_SECONDS, Decider, Service, one_stream, service_of
from oms_runtime.sealing import Sealer
from oms_runtime.server import run

from oms_fulfillment.commands import Command, Event
from oms_fulfillment.decider import INITIAL, Order, decide, decide_for, due, evolve
from oms_fulfillment.disclosure import disclose
from oms_fulfillment.policies import POLICIES
from oms_fulfillment.settings import Settings


def make_service(sealer: Sealer) -> Service:
    """Fulfillment. Each decision concerns one order; beside them it keeps customers' keys, to tell warehouses whom they ship to."""
    decider: Decider[Order, Command, Event] = one_stream(initial=INITIAL, decide=decide, evolve=evolve, due=due, decide_for=decide_for)
    return service_of(
        "fulfillment",
        decider=decider,
        policies=POLICIES,
        projector=keep_customer_keys,
        projected=KEY_MESSAGES,
        disclose=partial(disclose, sealer),
        linger_seconds=LINGER_LONG_SECONDS,
    )


def main() -> None:
    """Run fulfillment until it is stopped."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.sealer()), settings)
