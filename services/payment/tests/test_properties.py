"""The laws of money, held against a provider that keeps books, under any lag between topics, repetition, silence and lost answers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import msgspec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from oms_contracts.payments import (
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentVoided,
    PaymentVoidRequested,
    RefundFailed,
    RefundRequested,
    RefundSettled,
)
from oms_contracts.values import AllocatedLine, OrderLine, PaymentMethod
from oms_payment.commands import (
    Answer,
    AuthorizeOrder,
    CaptureShipment,
    Command,
    Effect,
    Event,
    GiveUpRefund,
    LookUpOutcome,
    RecordRefusal,
    RecordSuccess,
    RecordUnheard,
    RecordUnknown,
    RefundReturn,
    ReleasePayment,
    Request,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
    ResumeRefund,
)
from oms_payment.decider import Terms, decide, due, evolve
from oms_payment.money import INITIAL, Payment

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms(refund_timeout=timedelta(hours=1))
CARD = PaymentMethod(kind="card", token="tok")  # no secret
MAX_STEPS = 500
REQUESTS = (PaymentAuthorizationRequested, PaymentCaptureRequested, PaymentVoidRequested, RefundRequested)
ANSWERS = (PaymentAuthorized, PaymentDeclined, PaymentCaptured, PaymentCaptureFailed, PaymentVoided, RefundSettled, RefundFailed)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the provider treats a request. A lost one does not arrive the first time; a silent one is done, but not answered at first."""

    silent: int = 0
    lost: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """What happens around payment. Every attempt but the last is declined; an order that ends never ships."""

    lines: tuple[OrderLine, ...]
    shipping: int
    shipments: tuple[CaptureShipment, ...]
    refunds: tuple[RefundReturn, ...]
    attempts: int
    paid: bool
    ends: bool
    manners: tuple[Manner, ...]

    @property
    def total(self) -> int:
        return sum(line.total for line in self.lines) + self.shipping

    def orders(self) -> list[Command]:
        """What comes on oms.orders."""
        reserved = [
            AuthorizeOrder(
                order_id="O", attempt=n, amount=self.total, currency="EUR", payment=CARD, lines=self.lines, shipping=self.shipping
            )
            for n in range(1, self.attempts + 1)
        ]
        return [*reserved, ReleasePayment(order_id="O", reason="ended")] if self.ends else [*reserved]

    def manner_of(self, request: Request) -> Manner:
        manner = self.manners[sum(request.request_id.encode()) % len(self.manners)]
        match request:
            case RequestAuthorization(request_id=request_id):
                last = request_id == f"O:authorize:{self.attempts}"
                return replace(manner, refused=not (last and self.paid))
            case RequestVoid():
                return replace(manner, refused=False)
            case _:
                return manner


@dataclass(slots=True)
class Provider:
    """Does each request once, whatever its outcome, and asserts that it is one that may be done."""

    story: Story
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    requests: dict[str, Request] = field(default_factory=dict[str, Request])
    held: int = 0
    captured: int = 0
    refunded: int = 0
    authorizations: int = 0

    def perform(self, effect: Effect) -> Answer:
        request = effect.request if isinstance(effect, LookUpOutcome) else effect
        key, manner = request.request_id, self.story.manner_of(request)
        assert effect.request_id == key
        if isinstance(effect, LookUpOutcome):
            if key not in self.answers:
                return RecordUnheard(order_id="O", request_id=key, checks=effect.checks)
        elif not manner.lost or effect.checks:
            self._receive(key, request, manner)
        if effect.checks < max(manner.silent, manner.lost):
            return RecordUnknown(order_id="O", request_id=key, checks=effect.checks)
        return self.answers[key]

    def _receive(self, key: str, request: Request, manner: Manner) -> None:
        same = msgspec.structs.replace(request, checks=0)
        assert self.requests.setdefault(key, same) == same, "one key, one request"
        if key in self.answers:
            return
        if manner.refused:
            self.answers[key] = RecordRefusal(order_id="O", request_id=key, reason="no")
            return
        self._do(request)
        self.answers[key] = RecordSuccess(order_id="O", request_id=key, reference=f"ref-{key}")

    def _do(self, request: Request) -> None:
        match request:
            case RequestAuthorization(amount=amount):
                assert amount > 0
                assert self.authorizations == 0, "an order is held for once"
                self.authorizations, self.held = 1, amount
            case RequestCapture(amount=amount):
                assert 0 < amount <= self.held, "what is captured must be held"
                self.held, self.captured = self.held - amount, self.captured + amount
            case RequestVoid():
                self.held = 0
            case RequestRefund(amount=amount):
                assert 0 < amount <= self.captured - self.refunded, "what is refunded must be captured"
                self.refunded += amount


class World:
    """Payment between its topics and its provider. Each of `moves` is something that may happen next."""

    def __init__(self, story: Story, *, patient: bool) -> None:
        """A patient world lets no refund be given up while something is still to be delivered."""
        self.story = story
        self.provider = Provider(story)
        self.payment = INITIAL
        self.events: list[Event] = []
        self.now = NOON
        self.patient = patient
        self.topics: dict[str, list[Command]] = {
            "orders": story.orders(),
            "fulfillments": [] if story.ends else list(story.shipments),
            "returns": [] if story.ends else list(story.refunds),
        }
        self.delivered: list[Command] = []
        self.answered: list[Answer] = []
        self.moves: list[Callable[[], None]] = [
            lambda: self.deliver("orders"),
            lambda: self.deliver("fulfillments"),
            lambda: self.deliver("returns"),
            self.work,
            self.work,
            self.perform_in_vain,
            lambda: self.again(self.delivered),
            lambda: self.again(self.answered),
        ]

    def play(self, schedule: list[int]) -> None:
        """Some moves, then everything that is left to happen."""
        for number in schedule:
            self.moves[number % len(self.moves)]()
        for _ in range(MAX_STEPS):
            before = len(self.delivered), self.payment
            for topic in self.topics:
                self.deliver(topic)
            if before == (len(self.delivered), self.payment):
                self.work()
                if before[1] == self.payment:
                    return
        raise AssertionError("it never comes to rest")

    def deliver(self, topic: str) -> None:
        """The next record of a topic, if what caused it has happened."""
        waiting = self.topics[topic]
        if waiting and self._caused(topic, waiting[0]):
            command = waiting.pop(0)
            self.delivered.append(command)
            self.apply(command)

    def work(self) -> None:
        """What is due is done, at its time."""
        found = due("O", self.payment)
        if found is None:
            return
        at, wanted = found
        if self.patient and isinstance(wanted, GiveUpRefund) and any(self.topics.values()):
            return
        self.now = max(self.now, at)
        before = self.payment
        if isinstance(wanted, ResumeRefund | GiveUpRefund):
            self.apply(wanted)
        else:
            answer = self.provider.perform(wanted)
            self.answered.append(answer)
            self.apply(answer)
        assert self.payment != before, "what was due is done, or it would be done for ever"

    def perform_in_vain(self) -> None:
        """The process dies between the provider's answer and recording it."""
        found = due("O", self.payment)
        if found is not None and not isinstance(found[1], ResumeRefund | GiveUpRefund):
            self.provider.perform(found[1])

    def again(self, commands: list[Command] | list[Answer]) -> None:
        for command in commands:
            self.apply(command)

    def apply(self, command: Command) -> None:
        events = decide(command, self.payment, self.now, TERMS)
        self.events += events
        self.payment = reduce(evolve, events, self.payment)
        assert decide(command, self.payment, self.now, TERMS) == [], "a command has its effect once"
        assert self.payment.captured <= self.payment.claimed <= self.payment.authorized

    def _caused(self, topic: str, command: Command) -> bool:
        match command:
            case AuthorizeOrder(attempt=attempt) if attempt > 1:
                return any(isinstance(event, PaymentDeclined) and event.attempt == attempt - 1 for event in self.events)
            case ReleasePayment() | AuthorizeOrder():
                return True
            case _:
                return any(isinstance(event, PaymentAuthorized) for event in self.events)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    lines: list[OrderLine] = []
    shipped: dict[str, list[AllocatedLine]] = {}
    for n in range(1, draw(st.integers(1, 3)) + 1):
        total = draw(st.integers(0, 50))
        locations = draw(st.lists(st.sampled_from("XYZ"), min_size=1, max_size=5))
        lines.append(OrderLine(line_id=str(n), sku="S", quantity=len(locations), unit_price=50, total=total))
        for location, quantity in Counter(locations).items():
            shipped.setdefault(location, []).append(AllocatedLine(line_id=str(n), sku="S", location=location, quantity=quantity))
    shipments = (CaptureShipment(order_id="O", fulfillment_id=f"O/{x}", lines=tuple(parts)) for x, parts in shipped.items())
    amounts = draw(st.lists(st.integers(0, 90), max_size=4))
    # Named backwards: in which order refunds came must not be told by their ids.
    refunds = (RefundReturn(order_id="O", refund_id=f"R{9 - n}", amount=amount) for n, amount in enumerate(amounts))
    manner = st.builds(Manner, silent=st.integers(0, 3), lost=st.booleans(), refused=st.sampled_from([False, False, False, True]))
    return Story(
        lines=tuple(lines),
        shipping=draw(st.integers(0, 9)),
        shipments=tuple(shipments),
        refunds=tuple(refunds),
        attempts=draw(st.sampled_from([1, 1, 1, 2, 3])),
        paid=draw(st.sampled_from([True, True, True, False])),
        ends=draw(st.booleans()),
        manners=tuple(draw(st.lists(manner, min_size=1, max_size=5))),
    )


schedules = st.lists(st.integers(0, 7), min_size=5, max_size=60)


@settings(deadline=None, max_examples=400)
@for_all(stories(), schedules)
def test_books_and_provider_agree_and_nothing_is_charged_twice(story: Story, schedule: list[int]):
    world = World(story, patient=False)
    world.play(schedule)
    provider, events = world.provider, world.events

    assert sum(event.amount for event in events if isinstance(event, PaymentCaptured)) == provider.captured
    assert sum(event.amount for event in events if isinstance(event, RefundSettled)) == provider.refunded
    assert max(Counter(event.fulfillment_id for event in events if isinstance(event, PaymentCaptured)).values(), default=0) <= 1
    assert provider.refunded <= provider.captured <= world.payment.authorized


@settings(deadline=None, max_examples=400)
@for_all(stories(), schedules)
def test_every_request_is_answered_once_and_nothing_waits_for_ever(story: Story, schedule: list[int]):
    world = World(story, patient=False)
    world.play(schedule)

    asked = Counter(event.request_id for event in world.events if isinstance(event, REQUESTS))
    told = Counter(event.request_id for event in world.events if isinstance(event, ANSWERS) and event.request_id in asked)
    assert asked == told
    assert max(asked.values(), default=0) <= 1
    assert due("O", world.payment) is None
    refunds = Counter(event.refund_id for event in world.events if isinstance(event, RefundSettled | RefundFailed))
    assert refunds == Counter(command.refund_id for command in world.delivered if isinstance(command, RefundReturn))


@settings(deadline=None, max_examples=300)
@for_all(stories(), schedules)
def test_nothing_stays_held_for_an_order_that_ended(story: Story, schedule: list[int]):
    world = World(replace(story, ends=True), patient=False)
    world.play(schedule)
    assert (world.provider.held, world.provider.captured) == (0, 0)


@settings(deadline=None, max_examples=300)
@for_all(stories(), schedules)
def test_a_shipped_order_is_captured_to_the_last_cent(story: Story, schedule: list[int]):
    willing = tuple(replace(manner, refused=False) for manner in story.manners)
    world = World(replace(story, ends=False, paid=True, manners=willing), patient=False)
    world.play(schedule)
    assert (world.provider.captured, world.provider.held) == (story.total, 0)


@settings(deadline=None, max_examples=800)
@for_all(stories(), schedules, schedules)
def test_whatever_the_interleaving_it_ends_the_same(story: Story, one: list[int], other: list[int]):
    worlds = [World(story, patient=True) for _ in range(2)]
    for world, schedule in zip(worlds, (one, other), strict=True):
        world.play(schedule)
    first, second = worlds
    assert timeless(first.payment) == timeless(second.payment)
    assert first.provider == second.provider


@settings(deadline=None, max_examples=100)
@for_all(stories(), schedules)
def test_a_stored_state_is_read_as_it_was_written(story: Story, schedule: list[int]):
    world = World(story, patient=False)
    state = INITIAL
    world.play(schedule)
    for event in world.events:
        state = evolve(state, event)
        assert msgspec.json.decode(msgspec.json.encode(state), type=Payment) == state
    assert state == world.payment


def timeless(payment: Payment) -> Payment:
    """Without the moments at which things happened."""
    asked = {key: msgspec.structs.replace(asked, due_at=NOON) for key, asked in payment.asked.items()}
    return msgspec.structs.replace(payment, asked=asked)
