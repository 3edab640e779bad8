"""What webhooks mean, in any order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_in_order
from oms_adapters.decisions import MAX_WEBHOOK_IDS, Cancel, Changed, Decision, Ignore, Place, Seen, SetAside, decide
from oms_adapters.results import Mapped, Reason, Result, Standing, Unmapped
from oms_contracts.channel import OrderPlaced
from oms_contracts.samples import sample
from oms_contracts.values import order_id_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER: OrderPlaced = sample(OrderPlaced)


def content(minute: int, note: str, *, canceled: str | None = None) -> Mapped:
    standing = Standing(ORDER.channel_reference, NOON + timedelta(minutes=minute), canceled)
    return Mapped(replace_in_order(ORDER, note=note), standing)


CREATED = ("created", content(0, "first"))
UPDATED = ("updated", content(5, "second"))
LATER = ("later", content(5, "third"))  # of the same instant
CANCELED = ("canceled", content(9, "second", canceled="fraud"))
DELETED = (
    "deleted",
    Unmapped((Reason("id", "deleted"),), b"", is_order=False, standing=Standing(ORDER.channel_reference, None, "deleted")),
)
LATE_UPDATE = ("late", content(12, "fourth"))


def run(webhooks: list[tuple[str, Result]]) -> tuple[list[Decision], Seen]:
    seen, decisions = Seen(), list[Decision]()
    for webhook_id, result in webhooks:
        decision, seen = decide(seen, webhook_id, result, channel=ORDER.channel)
        decisions.append(decision)
    return decisions, seen


def is_live(decisions: list[Decision]) -> bool:
    return any(isinstance(each, Place) for each in decisions) and not any(isinstance(each, Cancel) for each in decisions)


def newest_note(decisions: list[Decision]) -> str | None:
    """The note of what was placed or reported last: what a person sees of the order."""
    return next((each.order.note for each in reversed(decisions) if isinstance(each, (Place, Changed))), None)


def test_in_their_order_they_place_report_a_change_and_cancel() -> None:
    decisions, seen = run([CREATED, UPDATED, CANCELED])
    assert [type(each) for each in decisions] == [Place, Changed, Cancel]
    assert isinstance(decisions[1], Changed)
    assert decisions[1].fields == ("note",)
    assert isinstance(decisions[2], Cancel)
    assert (decisions[2].command.order_id, decisions[2].command.reason) == (order_id_of(ORDER.channel, ORDER.channel_reference), "fraud")
    assert (seen.placed, seen.canceled) == (True, True)


def test_every_order_of_a_sequence_with_a_cancellation_ends_in_an_order_that_is_not_live() -> None:
    for end in (CANCELED, DELETED):
        for webhooks in permutations([CREATED, UPDATED, LATER, LATE_UPDATE, end]):
            decisions, seen = run(list(webhooks))
            assert not is_live(decisions)
            assert seen.canceled
            assert sum(isinstance(each, Place) for each in decisions) == sum(isinstance(each, Cancel) for each in decisions) <= 1


def test_every_order_of_a_sequence_without_one_shows_the_newest_content() -> None:
    ends = set[tuple[str | None, datetime, tuple[tuple[str, str], ...]]]()
    for webhooks in permutations([CREATED, UPDATED, LATER, LATE_UPDATE]):
        decisions, seen = run(list(webhooks))
        assert sum(isinstance(each, Place) for each in decisions) == 1
        ends.add((newest_note(decisions), seen.updated_at, seen.fields))
    assert {note for note, *_ in ends} == {"fourth"}
    assert len(ends) == 1


@given(st.lists(st.sampled_from([CREATED, UPDATED, LATER, CANCELED, DELETED]), min_size=1, max_size=12))
def test_repeats_change_nothing(webhooks: list[tuple[str, Result]]) -> None:
    once, after = run(list(dict(webhooks).items()))
    repeated = [(f"{webhook_id}-{number}", result) for number, (webhook_id, result) in enumerate(webhooks)]
    decisions, seen = run([*dict(webhooks).items(), *repeated, *webhooks])
    assert is_live(decisions) == is_live(once)
    assert [each for each in decisions if not isinstance(each, Ignore)] == [each for each in once if not isinstance(each, Ignore)]
    assert replace(seen, webhook_ids=()) == replace(after, webhook_ids=())


def test_what_is_remembered_is_bounded_and_has_no_personal_data() -> None:
    _, seen = run([(str(number), CREATED[1]) for number in range(3 * MAX_WEBHOOK_IDS)])
    assert len(seen.webhook_ids) == MAX_WEBHOOK_IDS
    assert ORDER.customer.email
    assert ORDER.customer.email not in repr(seen)


def test_what_cannot_be_mapped_is_set_aside_and_may_come_again() -> None:
    broken = Unmapped((Reason("total", "is required"),), b"{}", standing=Standing(ORDER.channel_reference, NOON))
    [first, again], seen = run([("w", broken), ("w", broken)])
    assert (first, again, seen) == (SetAside(broken), SetAside(broken), Seen())
