"""What webhooks mean, in any order."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_adapters.decisions import (
    ABOUT_PERSONS,
    MAX_WEBHOOK_IDS,
    Arrived,
    Cancel,
    Changed,
    Decision,
    Ignore,
    Place,
    Repeated,
    Seen,
    arrived_of,
    decide,
    remember,
)
from oms_adapters.results import Mapped, Reason, Result, Standing, Unmapped
from oms_contracts.channel import OrderPlaced
from oms_contracts.samples import sample

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER: OrderPlaced = sample(OrderPlaced)
SALT = "5a1f7c0e9b"


def content(minute: int, number: str, *, canceled: str | None = None, salt: str | None = SALT, **changes: object) -> Mapped:
    standing = Standing(ORDER.channel_reference, NOON + timedelta(minutes=minute), canceled, salt)
    return Mapped(replace(ORDER, number=number, **changes), standing)


CREATED = ("created", content(0, "first"))
UPDATED = ("updated", content(5, "second"))
LATER = ("later", content(5, "third"))  # of the same instant
CANCELED = ("canceled", content(9, "second", canceled="fraud"))
DELETED = (
    "deleted",
    Unmapped((Reason("id", "deleted"),), b"", is_order=False, standing=Standing(ORDER.channel_reference, None, "deleted")),
)
LATE_UPDATE = ("late", content(12, "fourth"))
REFUND = ("refund", Unmapped((Reason("refunded_payment", "marks a refund"),), b"", is_order=False))


def run(webhooks: list[tuple[str, Result]]) -> tuple[list[Decision], Seen]:
    seen, decisions, placed = Seen(), list[Decision](), False
    for webhook_id, result in webhooks:
        arrived = arrived_of(webhook_id, result)
        decision = decide(seen, arrived, placed=placed)
        decisions.append(decision)
        placed = placed or isinstance(decision, Place)
        if not isinstance(decision, Repeated):
            seen = remember(seen, arrived)
    return decisions, seen


def is_live(decisions: list[Decision]) -> bool:
    return any(isinstance(each, Place) for each in decisions) and not any(isinstance(each, Cancel) for each in decisions)


def test_in_their_order_they_place_report_a_change_and_cancel() -> None:
    decisions, seen = run([CREATED, UPDATED, CANCELED])
    assert decisions == [Place(), Changed(("number",)), Cancel("fraud")]
    assert seen.canceled


def test_every_order_of_a_sequence_with_a_cancellation_ends_in_an_order_that_is_not_live() -> None:
    for end in (CANCELED, DELETED):
        for webhooks in permutations([CREATED, UPDATED, LATER, LATE_UPDATE, end]):
            decisions, seen = run(list(webhooks))
            assert not is_live(decisions)
            assert seen.canceled
            assert decisions.count(Place()) == sum(isinstance(each, Cancel) for each in decisions) <= 1


def test_every_order_of_a_sequence_without_one_remembers_the_newest_content() -> None:
    newest = arrived_of(*LATE_UPDATE)
    for webhooks in permutations([CREATED, UPDATED, LATER, LATE_UPDATE]):
        decisions, seen = run(list(webhooks))
        assert decisions.count(Place()) == 1
        assert (seen.updated_at, seen.hashes) == (newest.updated_at, newest.hashes)
        taken = [webhook for webhook, decision in zip(webhooks, decisions, strict=True) if isinstance(decision, (Place, Changed))]
        assert taken[-1] == LATE_UPDATE


@given(st.lists(st.sampled_from([CREATED, UPDATED, LATER, CANCELED, DELETED, REFUND]), min_size=1, max_size=12))
def test_repeats_change_nothing(webhooks: list[tuple[str, Result]]) -> None:
    once, after = run(list(dict(webhooks).items()))
    repeated = [(f"{webhook_id}-{number}", result) for number, (webhook_id, result) in enumerate(webhooks)]
    decisions, seen = run([*dict(webhooks).items(), *repeated, *webhooks])
    unimportant = (Ignore, Repeated)
    assert [each for each in decisions if not isinstance(each, unimportant)] == [each for each in once if not isinstance(each, unimportant)]
    assert decisions[len(once) + len(repeated) :] == [Repeated()] * len(webhooks)
    assert (seen.updated_at, seen.hashes, seen.canceled) == (after.updated_at, after.hashes, after.canceled)


def test_a_newer_content_of_an_order_that_was_rejected_is_placed_and_an_older_one_is_not() -> None:
    seen = remember(Seen(), arrived_of(*UPDATED))
    assert decide(seen, arrived_of(*LATE_UPDATE), placed=False) == Place()
    assert isinstance(decide(seen, arrived_of(*CREATED), placed=False), Ignore)


def test_what_is_no_order_is_ignored_for_its_reason() -> None:
    assert run([REFUND])[0] == [Ignore("refunded_payment: marks a refund")]


def test_an_order_that_was_placed_in_another_way_has_nothing_to_compare_with() -> None:
    assert isinstance(decide(Seen(), arrived_of(*CREATED), placed=True), Ignore)
    assert decide(Seen(), arrived_of(*CANCELED), placed=True) == Cancel("fraud")


def test_a_changed_address_is_named_where_the_shop_sends_a_salt() -> None:
    moved = replace(ORDER.ship_to, street="Elsewhere 1") if ORDER.ship_to else None
    assert run([CREATED, ("moved", content(5, "first", ship_to=moved))])[0][1] == Changed(("ship_to",))
    bare, unsalted = content(0, "first", salt=None), content(5, "first", salt=None, ship_to=moved)
    assert isinstance(run([("bare", bare), ("moved", unsalted)])[0][1], Ignore)


def test_nothing_that_is_remembered_of_a_person_can_be_found_by_trying() -> None:
    by_salt = [arrived_of("w", content(0, "first", salt=salt)).hashes for salt in (SALT, "another", None)]
    for name in ABOUT_PERSONS:
        assert name not in by_salt[2]
        assert by_salt[0][name] != by_salt[1][name]
    assert {name for name in by_salt[0] if by_salt[0][name] == by_salt[1][name]} == {*by_salt[2]}


def test_what_is_remembered_is_bounded() -> None:
    _, seen = run([(str(number), CREATED[1]) for number in range(3 * MAX_WEBHOOK_IDS)])
    assert len(seen.webhook_ids) == MAX_WEBHOOK_IDS
    assert seen.webhooks == 3 * MAX_WEBHOOK_IDS


@pytest.mark.parametrize("placed", [False, True])
def test_a_cancellation_whose_order_cannot_be_mapped_is_one(placed: bool) -> None:
    broken = Unmapped((Reason("total", "is required"),), b"{}", standing=Standing(ORDER.channel_reference, NOON, "fraud"))
    arrived = arrived_of("w", broken)
    assert isinstance(decide(Seen(), arrived, placed=placed), Cancel if placed else Ignore)
    assert remember(Seen(), arrived) == Seen(webhook_ids=("w",), canceled=True, webhooks=1)
    assert arrived == Arrived(webhook_id="w", canceled="fraud", no_order="total: is required")
