"""What webhooks of shops come to: by examples, and for any deliveries in any order."""

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_capture import streams
from oms_capture.commands import AnyEvent, Command, TakeWebhook
from oms_capture.customers import concerns
from oms_capture.decider import Order, Terms
from oms_capture.policies import on_webhook_received
from oms_capture.streams import MAX_WEBHOOKS, State, webhooks_key
from oms_capture.validation import Market
from oms_contracts.channel import WebhookReceived
from oms_contracts.customers import EraseCustomer
from oms_contracts.message import SendersFault, decode, encode
from oms_contracts.orders import OrderAccepted, OrderCanceled, OrderCommandRefused, OrderConflictReported, OrderRejected, WebhookTaken
from oms_contracts.values import order_id_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms(market=Market(currencies=frozenset({"EUR"}), countries=frozenset({"DE"})))
ID = order_id_of("web", "9001")
STREET = "Ada's Lane 5"


def shopify(minute: int = 0, **changes: Any) -> dict[str, Any]:
    """A small order of Shopify, as it was changed that many minutes after noon."""
    return {
        "id": 9001,
        "token": "f3b0c44298fc1c149afbf4c8996fb924",
        "created_at": "2026-11-23T12:00:00Z",
        "updated_at": (NOON + timedelta(minutes=minute)).isoformat(),
        "currency": "EUR",
        "taxes_included": True,
        "total_price": "5.00",
        "financial_status": "paid",
        "customer": {"id": 7, "first_name": "Ada", "last_name": "Byron"},
        "shipping_address": {"name": "Ada Byron", "address1": STREET, "zip": "10115", "city": "Berlin", "country_code": "DE"},
        "line_items": [{"id": 1, "sku": "MUG", "title": "Mug", "quantity": 1, "price": "5.00", "requires_shipping": True}],
        **changes,
    }


def webhook(payload: Any, webhook_id: str = "w1", *, key: str = ID, topic: str = "orders/create") -> WebhookReceived:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return WebhookReceived(
        key=key,
        channel="web",
        platform="shopify",
        topic=topic,
        webhook_id=webhook_id,
        received_at=NOON,
        body=b64encode(body).decode(),
    )


class Capture:
    """Capture's decider with the states of all keys, in memory."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.events: list[AnyEvent] = []

    def take(self, *webhooks: WebhookReceived) -> list[AnyEvent]:
        """The events of the last of `webhooks`."""
        return [self.do(command) for received in webhooks for command in on_webhook_received(received)][-1]

    def do(self, command: Command | TakeWebhook) -> list[AnyEvent]:
        for key in streams.reads(command):
            self.states.setdefault(key, streams.initial(key))
        events = list(streams.decide(command, self.states, NOON, TERMS))
        for event in events:
            [key] = streams.writes(event)
            self.states[key] = streams.evolve(self.states[key], decode_again(event), key)
        self.events += events
        return events

    @property
    def order(self) -> Order:
        state = self.states[ID]
        assert isinstance(state, Order)
        return state

    def kinds(self) -> list[type[Any]]:
        return [type(event) for event in self.events if not isinstance(event, WebhookTaken)]


def decode_again(event: AnyEvent) -> AnyEvent:
    """The event as a store gives it back."""
    return decode(f"oms.capture.{type(event).__name__}.{'v2' if isinstance(event, OrderAccepted) else 'v1'}", encode(event))


def taken(events: Sequence[AnyEvent]) -> WebhookTaken:
    [found] = [event for event in events if isinstance(event, WebhookTaken)]
    return found


CREATED = webhook(shopify(), "created")
UPDATED = webhook(shopify(5, note="ring twice"), "updated", topic="orders/updated")
CANCELED = webhook(shopify(9, cancelled_at="2026-11-23T12:09:00Z", cancel_reason="fraud"), "canceled", topic="orders/cancelled")


def test_a_webhook_places_the_order_just_as_the_topic_does():
    by_webhook, by_topic = Capture(), Capture()
    accepted, told = by_webhook.take(CREATED)
    [command] = on_webhook_received(CREATED)
    assert command.place is not None
    assert [accepted] == by_topic.do(command.place)
    assert isinstance(told, WebhookTaken)
    assert (told.order_id, told.outcome, told.webhook_id, told.topic) == (ID, "placed", "created", "orders/create")


def test_the_same_delivery_again_changes_nothing():
    capture = Capture()
    capture.take(CREATED)
    assert capture.take(CREATED) == []


def test_the_same_content_under_another_id_is_ignored():
    capture = Capture()
    assert taken(capture.take(CREATED, webhook(shopify(), "again"))).outcome == "ignored"
    assert capture.kinds() == [OrderAccepted]


def test_a_change_after_placing_is_told_by_its_fields_and_not_applied():
    capture = Capture()
    changed = taken(capture.take(CREATED, UPDATED))
    assert (changed.outcome, changed.changed_fields) == ("changed", ("note",))
    assert capture.kinds() == [OrderAccepted]


def test_an_older_content_that_comes_late_is_ignored():
    capture = Capture()
    late = taken(capture.take(UPDATED, CREATED))
    assert late.outcome == "ignored"
    [newer] = on_webhook_received(UPDATED)
    assert newer.place is not None
    assert capture.order.content_hash == newer.place.content_hash


def test_a_cancellation_cancels_as_a_person_would():
    capture = Capture()
    canceled, told = capture.take(CREATED, CANCELED)
    assert isinstance(canceled, OrderCanceled)
    assert canceled.reason.startswith("canceled in the shop: ")
    assert isinstance(told, WebhookTaken)
    assert (told.outcome, told.canceled) == ("canceled", True)


def test_a_cancellation_that_comes_first_is_final():
    capture = Capture()
    assert taken(capture.take(CANCELED)).outcome == "ignored"
    assert taken(capture.take(CREATED)).outcome == "ignored"
    assert capture.kinds() == []


def test_a_deleted_order_is_canceled():
    capture = Capture()
    capture.take(CREATED, webhook({"id": 9001}, "deleted", topic="orders/delete"))
    assert capture.kinds() == [OrderAccepted, OrderCanceled]


def test_a_cancellation_of_a_completed_order_is_refused_with_its_reason():
    capture = Capture()
    capture.take(CREATED)
    capture.states[ID] = Order(status="completed")
    assert isinstance(capture.take(CANCELED)[0], OrderCommandRefused)


def test_a_rejected_order_is_placed_by_its_next_content():
    capture = Capture()
    dear = shopify(currency="USD")
    assert isinstance(capture.take(webhook(dear, "dear"))[0], OrderRejected)
    assert isinstance(capture.take(webhook(shopify(1), "sound"))[0], OrderAccepted)


def test_a_content_that_is_older_than_the_rejected_one_is_not_placed():
    capture = Capture()
    capture.take(webhook(shopify(5, currency="USD"), "dear"))
    assert taken(capture.take(CREATED)).outcome == "ignored"


def test_an_order_that_was_placed_in_another_way_is_neither_placed_again_nor_a_conflict():
    capture = Capture()
    [command] = on_webhook_received(CREATED)
    assert command.place is not None
    capture.do(replace(command.place, content_hash="other"))
    assert taken(capture.take(UPDATED)).outcome == "ignored"
    assert capture.kinds() == [OrderAccepted]


def test_what_is_no_order_is_taken_and_ignored_with_its_reason():
    capture = Capture()
    assert taken(capture.take(webhook({"id": 9001, "status": "x"}, key="k"))).reason.startswith("line_items: is missing")
    assert [*capture.states] == ["k", webhooks_key("k")]


def test_what_cannot_be_mapped_names_every_field_at_fault():
    payload = shopify(total_price="4.00")
    payload["shipping_address"]["country_code"] = "Atlantis"
    with pytest.raises(SendersFault) as raised:
        list(on_webhook_received(webhook(payload)))
    first, *reasons = str(raised.value).split("\n")
    assert first == "shopify, channel web: order '9001' cannot be mapped"
    assert any(reason.startswith("shipping_address.country_code: ") for reason in reasons)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_json_object_is_the_senders_fault(body: bytes):
    with pytest.raises(SendersFault, match="channel web: an order cannot be mapped\npayload: "):
        list(on_webhook_received(webhook(body)))


def test_a_mended_value_is_checked_too():
    with pytest.raises(SendersFault, match="body: must be base64"):
        list(on_webhook_received(replace(CREATED, body="#")))
    with pytest.raises(SendersFault, match="platform: 'magento' is none of"):
        list(on_webhook_received(replace(CREATED, platform="magento")))


def test_a_cancellation_whose_order_cannot_be_mapped_cancels():
    capture = Capture()
    broken = webhook(shopify(9, cancelled_at="2026-11-23T12:09:00Z", total_price="?"), "canceled")
    assert isinstance(capture.take(CREATED, broken)[0], OrderCanceled)


def test_nothing_that_is_recorded_of_a_webhook_is_about_a_person():
    capture = Capture()
    moved = shopify(5)
    moved["shipping_address"] = {**moved["shipping_address"], "address1": "Elsewhere 1"}
    told = [taken(capture.take(received)) for received in (CREATED, webhook(moved, "moved"))]
    assert told[1].changed_fields == ("ship_to",)
    for event in told:
        assert not any(text in encode(event).decode() for text in ("Ada", "Byron", STREET, "Elsewhere", "f3b0c442"))


def test_what_is_recorded_of_one_order_is_bounded_and_a_cancellation_still_counts():
    capture = Capture()
    capture.take(*(webhook(shopify(minute, note=str(minute)), f"w{minute}") for minute in range(MAX_WEBHOOKS + 50)))
    assert sum(isinstance(event, WebhookTaken) for event in capture.events) == MAX_WEBHOOKS
    assert isinstance(capture.take(webhook(shopify(900, cancelled_at="2026-11-24T12:09:00Z"), "end"))[0], OrderCanceled)


def test_an_order_canceled_after_many_unpaid_webhooks_is_not_placed():
    capture = Capture()
    nothing = [webhook({"id": 9001, "status": "x"}, f"n{number}") for number in range(MAX_WEBHOOKS + 1)]
    capture.take(*nothing, webhook({"id": 9001}, "deleted"), CREATED)
    assert capture.kinds() == []


STALE = webhook(shopify(2, note="first"), "stale", topic="orders/updated")
NOT_AN_ORDER = webhook({"id": 9001, "fulfillment_order": {"order_id": 9001}}, "shipping")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([CREATED, STALE, UPDATED, CANCELED, NOT_AN_ORDER]), max_size=12))
def test_any_deliveries_place_an_order_once_and_a_cancellation_is_final(deliveries: list[WebhookReceived]):
    capture = Capture()
    for delivery in deliveries:
        capture.take(delivery)
    contents = [delivery for delivery in deliveries if delivery in (CREATED, STALE, UPDATED)]
    kinds = capture.kinds()
    assert kinds.count(OrderAccepted) <= 1
    assert OrderConflictReported not in kinds
    assert sum(isinstance(event, WebhookTaken) for event in capture.events) == len({each.webhook_id for each in deliveries})
    if CANCELED in deliveries:
        assert kinds in ([], [OrderAccepted, OrderCanceled])
    else:
        assert kinds == ([OrderAccepted] if contents else [])


def test_every_order_of_deliveries_without_a_cancellation_has_told_the_newest_content():
    newest = set[str]()
    for deliveries in permutations([CREATED, STALE, UPDATED, CREATED]):
        capture = Capture()
        for delivery in deliveries:
            capture.take(delivery)
        seen: Any = capture.states[webhooks_key(ID)]
        newest.add(seen.updated_at.isoformat())
        told = [event.webhook_id for event in capture.events if isinstance(event, WebhookTaken) and event.outcome in {"placed", "changed"}]
        assert told[-1] == "updated"
    assert len(newest) == 1


def test_only_an_order_acts_by_itself():
    capture = Capture()
    capture.take(CREATED)
    due = partial(streams.due, terms=TERMS)
    assert due(ID, capture.states[ID]) is not None
    assert due(webhooks_key(ID), capture.states[webhooks_key(ID)]) is None


@pytest.mark.parametrize(
    ("payload", "customer_id", "email", "concerned"),
    [
        ({"id": 1, "customer": {"id": 7}}, "7", None, True),
        ({"id": 1, "customer_id": 7, "billing": {"email": "ada@example.com"}}, "7", None, True),
        ({"id": 1, "customer_id": 7, "billing": {"email": "Ada@example.com"}}, None, "ada@example.com", True),
        ({"id": 1, "customer": {"id": 8}}, "7", "ada@example.com", False),
        (b"no JSON", "7", "ada@example.com", False),
    ],
)
def test_a_webhook_that_waits_in_the_inbox_is_erased_with_its_customer(
    payload: Any, customer_id: str | None, email: str | None, concerned: bool
):
    erase = EraseCustomer(request_id="r", reason="asked for it", channel="web", customer_id=customer_id, email=email)
    assert concerns(encode(webhook(payload)), erase) is concerned
    assert not concerns(encode(replace(webhook(payload), body="#")), erase)
