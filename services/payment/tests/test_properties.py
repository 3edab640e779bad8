"""The invariants of payment, checked on a recording provider, under any lag between topics, repetition, timeouts and lost responses."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import reduce
from itertools import pairwise

import msgspec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from oms_contracts.order_parts import ChargedLine
from oms_contracts.payments import (
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRefused,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentVoided,
    PaymentVoidRequested,
    PaymentWrittenOff,
    RefundFailed,
    RefundRequested,
    RefundSettled,
)
from oms_contracts.values import AllocatedLine, PaymentMethod
from oms_payment.commands import (
    ActOnOutstanding,
    AuthorizeOrder,
    CaptureShipment,
    Command,
    Effect,
    Event,
    GiveUpRefund,
    LookUpOutcome,
    RecordRefusal,
    RecordResponse,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RefundReturn,
    ReleasePayment,
    RenewAuthorization,
    RepeatCapture,
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
TERMS = Terms(refund_timeout=timedelta(hours=1), capture_tries=2, capture_retry_after=timedelta(minutes=1), write_off_up_to={"EUR": 10**9})
ByItself = ResumeRefund | GiveUpRefund | RepeatCapture | RenewAuthorization | ActOnOutstanding
CARD = PaymentMethod(kind="card", token="tok")  # no secret
MAX_STEPS = 500
REQUESTS = (PaymentAuthorizationRequested, PaymentCaptureRequested, PaymentVoidRequested, RefundRequested)
CAPTURE_OUTCOMES = (PaymentCaptured, PaymentCaptureRefused, PaymentCaptureFailed)
OUTCOMES = (PaymentAuthorized, PaymentDeclined, *CAPTURE_OUTCOMES, PaymentVoided, RefundSettled, RefundFailed)


@dataclass(frozen=True, slots=True)
class Treatment:
    """How the provider treats a request: how many calls time out, whether the first one is lost, whether the request is refused."""

    timeouts: int = 0
    lost: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens around payment. Every attempt but the last is declined; an order that ends never ships.

    `extra` is shipping, fees and what is not shipped; `elsewhere` is what the channel was paid or is due elsewhere. With
    `held_by_channel` the rest is held already.
    """

    lines: tuple[ChargedLine, ...]
    extra: int
    elsewhere: int
    held_by_channel: bool
    shipments: tuple[CaptureShipment, ...]
    refunds: tuple[RefundReturn, ...]
    attempts: int
    paid: bool
    ends: bool
    treatments: tuple[Treatment, ...]

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines) + self.extra

    @property
    def amount(self) -> int:
        """What is ours to collect."""
        return self.total - self.elsewhere

    def orders(self) -> list[Command]:
        """The commands that follow from oms.orders."""
        reserved = [
            AuthorizeOrder(
                order_id="O",
                attempt=n,
                total=self.total,
                amount=self.amount,
                currency="EUR",
                payment=CARD,
                lines=self.lines,
                authorization_id="channel's" if self.held_by_channel else None,
            )
            for n in range(1, self.attempts + 1)
        ]
        return [*reserved, ReleasePayment(order_id="O", reason="ended")] if self.ends else [*reserved]

    def treatment_of(self, request: Request) -> Treatment:
        treatment = self.treatments[sum(request.request_id.encode()) % len(self.treatments)]
        match request:
            case RequestAuthorization(request_id=request_id):
                last = request_id == f"O:authorize:{self.attempts}"
                return replace(treatment, refused=not (last and self.paid))
            case RequestVoid():
                return replace(treatment, refused=False)
            case _:
                return treatment


@dataclass(slots=True)
class RecordingProvider:
    """Performs each request once, whatever its outcome, and asserts that the request is allowed."""

    scenario: Scenario
    responses: dict[str, RecordResponse] = field(default_factory=dict[str, RecordResponse])
    requests: dict[str, Request] = field(default_factory=dict[str, Request])
    held: int = 0
    captured: int = 0
    refunded: int = 0
    authorizations: int = 0

    def perform(self, effect: Effect) -> RecordResponse:
        request = effect.request if isinstance(effect, LookUpOutcome) else effect
        key, treatment = request.request_id, self.scenario.treatment_of(request)
        assert effect.request_id == key
        if isinstance(effect, LookUpOutcome):
            if key not in self.responses:
                return RecordUnknownRequest(order_id="O", request_id=key, checks=effect.checks)
        elif not treatment.lost or effect.checks:
            self._receive(key, request, treatment)
        if effect.checks < max(treatment.timeouts, treatment.lost):
            return RecordUnknownOutcome(order_id="O", request_id=key, checks=effect.checks)
        return self.responses[key]

    def _receive(self, key: str, request: Request, treatment: Treatment) -> None:
        same = msgspec.structs.replace(request, checks=0)
        assert self.requests.setdefault(key, same) == same, "one key, one request"
        if key in self.responses:
            return
        if treatment.refused:
            self.responses[key] = RecordRefusal(order_id="O", request_id=key, reason="no")
            return
        self._perform(request)
        self.responses[key] = RecordSuccess(order_id="O", request_id=key, reference=f"ref-{key}")

    def _perform(self, request: Request) -> None:
        if not isinstance(request, RequestAuthorization):
            assert (request.authorization_id == "channel's") == self.scenario.held_by_channel
        match request:
            case RequestAuthorization(amount=amount):
                assert amount > 0
                assert not self.scenario.held_by_channel, "the channel has had it held"
                assert self.authorizations == 0, "an order is authorized once"
                self.authorizations, self.held = 1, amount
            case RequestCapture(amount=amount):
                assert 0 < amount <= self.held, "what is captured must be held"
                self.held, self.captured = self.held - amount, self.captured + amount
            case RequestVoid():
                self.held = 0
            case RequestRefund(amount=amount):
                assert 0 < amount <= self.captured - self.refunded, "what is refunded must be captured"
                self.refunded += amount


class Simulation:
    """Payment between its topics and its provider. Each of `steps` is something that may happen next."""

    def __init__(self, scenario: Scenario, *, deliver_before_giving_up: bool) -> None:
        """With `deliver_before_giving_up` no refund is given up while a topic has records to deliver."""
        self.scenario = scenario
        self.provider = RecordingProvider(scenario, held=scenario.amount if scenario.held_by_channel else 0)
        self.payment = INITIAL
        self.events: list[Event] = []
        self.now = NOON
        self.deliver_before_giving_up = deliver_before_giving_up
        self.topics: dict[str, list[Command]] = {
            "orders": scenario.orders(),
            "fulfillments": [] if scenario.ends else list(scenario.shipments),
            "returns": [] if scenario.ends else list(scenario.refunds),
        }
        self.delivered: list[Command] = []
        self.responses: list[RecordResponse] = []
        self.steps: list[Callable[[], None]] = [
            lambda: self.deliver("orders"),
            lambda: self.deliver("fulfillments"),
            lambda: self.deliver("returns"),
            self.perform_due,
            self.perform_due,
            self.perform_without_recording,
            lambda: self.repeat(self.delivered),
            lambda: self.repeat(self.responses),
        ]

    def run(self, schedule: list[int]) -> None:
        """Take the steps that `schedule` names, then everything that is left."""
        for number in schedule:
            self.steps[number % len(self.steps)]()
        for _ in range(MAX_STEPS):
            before = len(self.delivered), self.payment
            for topic in self.topics:
                self.deliver(topic)
            if before == (len(self.delivered), self.payment):
                self.perform_due()
                if before[1] == self.payment:
                    return
        raise AssertionError("the simulation does not end")

    def deliver(self, topic: str) -> None:
        """Deliver the next record of a topic, if its cause has happened."""
        waiting = self.topics[topic]
        if waiting and self._caused(topic, waiting[0]):
            command = waiting.pop(0)
            self.delivered.append(command)
            self.apply(command)

    def perform_due(self) -> None:
        """Perform what is due, at its time."""
        found = due("O", self.payment, TERMS)
        if found is None:
            return
        at, wanted = found
        if self.deliver_before_giving_up and isinstance(wanted, GiveUpRefund) and any(self.topics.values()):
            return
        self.now = max(self.now, at)
        before = self.payment
        if isinstance(wanted, ByItself):
            self.apply(wanted)
        else:
            response = self.provider.perform(wanted)
            self.responses.append(response)
            self.apply(response)
        assert self.payment != before, "performing what is due changes the state, otherwise it would be due forever"

    def perform_without_recording(self) -> None:
        """The process dies between the provider's response and recording it."""
        found = due("O", self.payment, TERMS)
        if found is not None and not isinstance(found[1], ByItself):
            self.provider.perform(found[1])

    def repeat(self, commands: list[Command] | list[RecordResponse]) -> None:
        for command in commands:
            self.apply(command)

    def apply(self, command: Command) -> None:
        events = decide(command, self.payment, self.now, TERMS)
        self.events += events
        self.payment = reduce(evolve, events, self.payment)
        assert decide(command, self.payment, self.now, TERMS) == [], "a command has its effect once"
        assert self.payment.captured + self.payment.written_off <= self.payment.claimed <= self.payment.amount

    def _caused(self, topic: str, command: Command) -> bool:
        match command:
            case AuthorizeOrder(attempt=attempt) if attempt > 1:
                return any(isinstance(event, PaymentDeclined) and event.attempt == attempt - 1 for event in self.events)
            case ReleasePayment() | AuthorizeOrder():
                return True
            case _:
                return any(isinstance(event, PaymentAuthorized) for event in self.events)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    lines: list[ChargedLine] = []
    shipped: dict[str, list[AllocatedLine]] = {}
    for n in range(1, draw(st.integers(1, 3)) + 1):
        amount = draw(st.integers(0, 50))
        locations = draw(st.lists(st.sampled_from("XYZ"), min_size=1, max_size=5))
        lines.append(ChargedLine(line_id=str(n), sku="S", quantity=len(locations), amount=amount))
        for location, quantity in Counter(locations).items():
            shipped.setdefault(location, []).append(AllocatedLine(line_id=str(n), sku="S", location=location, quantity=quantity))
    shipments = (CaptureShipment(order_id="O", fulfillment_id=f"O/{x}", lines=tuple(parts)) for x, parts in shipped.items())
    amounts = draw(st.lists(st.integers(0, 90), max_size=4))
    # The ids descend, so that their order is not the order of arrival.
    refunds = (RefundReturn(order_id="O", refund_id=f"R{9 - n}", amount=amount) for n, amount in enumerate(amounts))
    held_by_channel = draw(st.sampled_from([False, False, True]))
    extra = draw(st.integers(0, 9))
    total = sum(line.amount for line in lines) + extra
    treatment = st.builds(Treatment, timeouts=st.integers(0, 3), lost=st.booleans(), refused=st.sampled_from([False, False, False, True]))
    return Scenario(
        lines=tuple(lines),
        extra=extra,
        elsewhere=draw(st.sampled_from([0, 0, 1, total // 3, total - 1, total]).filter(lambda part: 0 <= part <= total)),
        held_by_channel=held_by_channel,
        shipments=tuple(shipments),
        refunds=tuple(refunds),
        attempts=1 if held_by_channel else draw(st.sampled_from([1, 1, 1, 2, 3])),
        paid=draw(st.sampled_from([True, True, True, False])),
        ends=draw(st.booleans()),
        treatments=tuple(draw(st.lists(treatment, min_size=1, max_size=5))),
    )


schedules = st.lists(st.integers(0, 7), min_size=5, max_size=60)


@settings(deadline=None, max_examples=400)
@for_all(scenarios(), schedules)
def test_events_and_provider_agree_and_nothing_is_charged_twice(scenario: Scenario, schedule: list[int]):
    simulation = Simulation(scenario, deliver_before_giving_up=False)
    simulation.run(schedule)
    provider, events = simulation.provider, simulation.events

    assert sum(event.amount for event in events if isinstance(event, PaymentCaptured)) == provider.captured
    assert sum(event.amount for event in events if isinstance(event, RefundSettled)) == provider.refunded
    assert max(Counter(event.fulfillment_id for event in events if isinstance(event, PaymentCaptured)).values(), default=0) <= 1
    assert provider.refunded <= provider.captured <= scenario.amount


@settings(deadline=None, max_examples=400)
@for_all(scenarios(), schedules)
def test_every_request_has_one_outcome_and_nothing_waits_forever(scenario: Scenario, schedule: list[int]):
    simulation = Simulation(scenario, deliver_before_giving_up=False)
    simulation.run(schedule)

    requested = Counter(event.request_id for event in simulation.events if isinstance(event, REQUESTS))
    closed = Counter(event.request_id for event in simulation.events if isinstance(event, OUTCOMES) and event.request_id in requested)
    assert requested == closed
    assert max(requested.values(), default=0) <= 1
    assert due("O", simulation.payment, TERMS) is None
    ended = [event.refund_id for event in simulation.events if isinstance(event, RefundSettled | RefundFailed)]
    elsewhere = Counter(refund_id for refund_id in ended if refund_id.endswith("/elsewhere"))
    assert max(elsewhere.values(), default=0) <= 1
    refunds = Counter(ended) - elsewhere
    assert refunds == Counter(command.refund_id for command in simulation.delivered if isinstance(command, RefundReturn))


@settings(deadline=None, max_examples=300)
@for_all(scenarios(), schedules)
def test_nothing_stays_held_for_an_order_that_ended(scenario: Scenario, schedule: list[int]):
    simulation = Simulation(replace(scenario, ends=True), deliver_before_giving_up=False)
    simulation.run(schedule)
    assert (simulation.provider.held, simulation.provider.captured) == (0, 0)


@settings(deadline=None, max_examples=300)
@for_all(scenarios(), schedules)
def test_a_shipped_order_is_captured_in_full(scenario: Scenario, schedule: list[int]):
    treatments = tuple(replace(treatment, refused=False) for treatment in scenario.treatments)
    simulation = Simulation(replace(scenario, ends=False, paid=True, treatments=treatments), deliver_before_giving_up=False)
    simulation.run(schedule)
    assert (simulation.provider.captured, simulation.provider.held) == (scenario.amount, 0)


@settings(deadline=None, max_examples=300)
@for_all(scenarios(), schedules)
def test_what_shipped_is_captured_or_written_off_to_the_cent(scenario: Scenario, schedule: list[int]):
    simulation = Simulation(replace(scenario, ends=False, paid=True), deliver_before_giving_up=False)
    simulation.run(schedule)
    written_off = sum(event.amount for event in simulation.events if isinstance(event, PaymentWrittenOff))
    assert (simulation.provider.captured, written_off) == (simulation.payment.captured, simulation.payment.written_off)
    assert simulation.provider.captured + written_off == scenario.amount
    assert simulation.payment.outstanding == 0


@settings(deadline=None, max_examples=300)
@for_all(scenarios(), schedules, st.data())
def test_every_unit_returned_is_refunded_what_was_paid_for_it_here_first_and_the_rest_where_it_was_paid(
    scenario: Scenario, schedule: list[int], data: st.DataObject
):
    """The lines come back in any number of returns, and add up to what the lines cost."""
    goods = sum(line.amount for line in scenario.lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, goods), max_size=3)))
    parts = [after - before for before, after in pairwise([0, *cuts, goods])]
    refunds = tuple(RefundReturn(order_id="O", refund_id=f"R{9 - n}", amount=amount) for n, amount in enumerate(parts))
    treatments = tuple(replace(treatment, refused=False) for treatment in scenario.treatments)
    sound = replace(scenario, ends=False, paid=True, treatments=treatments, refunds=refunds)
    simulation = Simulation(sound, deliver_before_giving_up=True)
    simulation.run(schedule)
    here = min(goods, sound.amount)
    assert simulation.provider.refunded == here
    failed = [event for event in simulation.events if isinstance(event, RefundFailed) and event.request_id]
    assert all("refund them where the customer paid" in event.reason for event in failed)
    assert sum(int(event.reason.partition(" ")[0]) for event in failed) == goods - here
    assert len({event.refund_id for event in failed}) == len(failed)


@settings(deadline=None, max_examples=300)
@for_all(scenarios(), st.data())
def test_each_shipment_is_captured_for_what_its_units_cost_and_what_was_paid_elsewhere_is_used_up_first(
    scenario: Scenario, data: st.DataObject
):
    payment = reduce(evolve, decide(replace(scenario, attempts=1, held_by_channel=True).orders()[0], INITIAL, NOON, TERMS), INITIAL)
    goods, shipped, captured = sum(line.amount for line in scenario.lines), Counter[str](), 0
    for shipment in data.draw(st.permutations(scenario.shipments)):
        events = decide(shipment, payment, NOON, TERMS)
        payment = reduce(evolve, events, payment)
        captured += sum(event.amount for event in events if isinstance(event, PaymentCaptureRequested))
        shipped.update({line.line_id: line.quantity for line in shipment.lines})
        exact = sum(Fraction(line.amount * shipped[line.line_id], line.quantity) for line in scenario.lines)
        exact += scenario.extra * exact / goods if goods else 0
        assert abs(captured - max(Fraction(0), exact - scenario.elsewhere)) <= len(scenario.lines) + 1 or not goods
        assert captured <= scenario.amount
    assert captured == scenario.amount


@settings(deadline=None, max_examples=800)
@for_all(scenarios(), schedules, schedules)
def test_every_interleaving_ends_in_the_same_state(scenario: Scenario, one: list[int], other: list[int]):
    simulations = [Simulation(scenario, deliver_before_giving_up=True) for _ in range(2)]
    for simulation, schedule in zip(simulations, (one, other), strict=True):
        simulation.run(schedule)
    first, second = simulations
    assert without_times(first.payment) == without_times(second.payment)
    assert first.provider == second.provider


@settings(deadline=None, max_examples=100)
@for_all(scenarios(), schedules)
def test_a_stored_state_is_decoded_as_it_was_encoded(scenario: Scenario, schedule: list[int]):
    simulation = Simulation(scenario, deliver_before_giving_up=False)
    state = INITIAL
    simulation.run(schedule)
    for event in simulation.events:
        state = evolve(state, event)
        assert msgspec.json.decode(msgspec.json.encode(state), type=Payment) == state
    assert state == simulation.payment


def without_times(payment: Payment) -> Payment:
    """The payment without points in time."""
    asked = {key: msgspec.structs.replace(request, due_at=NOON) for key, request in payment.asked.items()}
    return msgspec.structs.replace(payment, asked=asked)
