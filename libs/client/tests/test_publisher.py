"""Publishing as the outside does."""

from msgspec.structs import replace
from oms_client.publisher import content_id
from oms_contracts.orders import CancelOrder

CANCEL = CancelOrder(order_id="W-1", reason="changed my mind")


def test_a_message_has_the_same_id_in_every_process() -> None:
    assert content_id(CANCEL) == "ffdbbd73c7cc44f07b4ceb53e22985cc022e9f5f7e1120ec820cefef2a4c42c8"
    assert content_id(replace(CANCEL, reason="")) != content_id(CANCEL)
