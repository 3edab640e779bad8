"""Publishing: event ids, what is refused before it is sent, and errors of the broker."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from oms_client.errors import BrokerUnreachable, Invalid
from oms_client.publisher import content_id, publish_message, read_message
from oms_contracts.message import type_of
from oms_contracts.orders import CancelOrder
from oms_kafka.settings import settings_of
from oms_local.ports import find_free

CANCEL = CancelOrder(order_id="W-1", reason="changed my mind")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_message_has_the_same_id_in_every_process() -> None:
    assert content_id(CANCEL) == "ffdbbd73c7cc44f07b4ceb53e22985cc022e9f5f7e1120ec820cefef2a4c42c8"
    assert content_id(replace(CANCEL, reason="")) != content_id(CANCEL)


def test_every_invalid_field_is_named() -> None:
    with pytest.raises(Invalid) as raised:
        read_message(type_of(CancelOrder).name, b'{"order_id": 7, "colour": "red"}')
    assert raised.value.what == "CancelOrder"
    assert [reason.partition(":")[0] for reason in raised.value.reasons] == ["order_id", "reason", "colour"]


async def test_a_message_that_no_service_could_read_is_not_sent() -> None:
    nowhere = settings_of({"bootstrap_servers": f"127.0.0.1:{find_free()}"})
    with pytest.raises(Invalid, match="reason: must have at most 2000 characters"):
        await publish_message(nowhere, replace(CANCEL, reason="x" * 2_001), source="/test", now=NOON)


async def test_a_broker_that_does_not_answer_is_unreachable() -> None:
    address = f"127.0.0.1:{find_free()}"
    with pytest.raises(BrokerUnreachable, match=f"the broker at {address} does not answer"):
        await publish_message(settings_of({"bootstrap_servers": address}), CANCEL, source="/test", now=NOON)
