"""Outcomes of what was asked for, by entries of timelines as the query API returns them."""

from typing import Any

import msgspec
import pytest
from oms_client.errors import NotFound
from oms_client.outcomes import CONFLICT, NO_EFFECT_KNOWN, Outcome, find_outcome, outcome_of, wait_for_outcome
from oms_contracts.catalogue import TOPICS
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveRefused
from oms_contracts.message import encode, type_of
from oms_contracts.orders import OrderAccepted, OrderCancellationRequested, OrderCommandRefused, OrderConflictReported, OrderRejected
from oms_contracts.products import ProductCommandRefused
from oms_contracts.returns import ReturnApproved, ReturnDeclined, ReturnRequested
from oms_contracts.samples import sample


def entry(cls: type[Any], causation: str = "asked") -> dict[str, Any]:
    return {"type": type_of(cls).name, "causation": causation, "data": msgspec.json.decode(encode(sample(cls)))}


class Timeline:
    """A query API that knows one entry more with every request, the first time none."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.entries = entries
        self.requests: list[str] = []

    async def timeline(self, key: str) -> list[dict[str, Any]]:
        self.requests.append(key)
        if len(self.requests) == 1:
            raise NotFound("nothing has happened")
        return list(self.entries[: len(self.requests) - 1])


@pytest.mark.parametrize("cls", [OrderAccepted, OrderCancellationRequested, ReturnApproved, RecordRedriven])
def test_what_an_event_answers_is_done(cls: type[Any]) -> None:
    caused = entry(cls)
    assert outcome_of([entry(OrderRejected, "another"), caused], "asked") == Outcome(status="done", events=(caused,))


@pytest.mark.parametrize(
    ("cls", "reasons"),
    [
        (OrderRejected, sample(OrderRejected).reasons),
        (OrderCommandRefused, (sample(OrderCommandRefused).reason,)),
        (ProductCommandRefused, sample(ProductCommandRefused).reasons),
        (ReturnDeclined, sample(ReturnDeclined).reasons),
        (RedriveRefused, (sample(RedriveRefused).reason,)),
        (RecordSetAside, (sample(RecordSetAside).reason,)),
        (OrderConflictReported, (CONFLICT,)),
    ],
)
def test_a_refusal_has_its_reasons(cls: type[Any], reasons: tuple[str, ...]) -> None:
    refused = entry(cls)
    assert outcome_of([refused], "asked") == Outcome(status="refused", events=(refused,), reasons=reasons)


def test_every_refusal_of_a_command_is_taken_for_one() -> None:
    refusals = {cls for topic in TOPICS for cls in topic.messages if cls.__name__.endswith(("CommandRefused", "RedriveRefused"))}
    assert len(refusals) > 5
    for cls in refusals:
        assert outcome_of([entry(cls)], "asked") != outcome_of([entry(OrderAccepted)], "asked")
        assert (outcome_of([entry(cls)], "asked") or NO_EFFECT_KNOWN).status == "refused"


def test_a_request_for_a_return_is_not_decided_on_before_its_decision_is_known() -> None:
    requested, declined = entry(ReturnRequested), entry(ReturnDeclined)
    assert outcome_of([requested], "asked") is None
    outcome = outcome_of([requested, declined], "asked")
    assert outcome is not None
    assert (outcome.status, outcome.events) == ("refused", (requested, declined))


def test_the_first_decision_counts_where_a_command_was_delivered_twice() -> None:
    outcome = outcome_of([entry(OrderCancellationRequested), entry(OrderCommandRefused)], "asked")
    assert outcome is not None
    assert (outcome.status, outcome.reasons) == ("done", ())


def test_a_redrive_that_fails_half_way_is_refused() -> None:
    outcome = outcome_of([entry(RecordRedriven), entry(RecordSetAside)], "asked")
    assert outcome is not None
    assert (outcome.status, outcome.reasons) == ("refused", (sample(RecordSetAside).reason,))


async def test_the_outcome_is_waited_for() -> None:
    query = Timeline(entry(OrderRejected, "another"), entry(OrderAccepted))
    assert (await wait_for_outcome(query, "order", "asked", timeout_seconds=30)).status == "done"
    assert query.requests == ["order"] * 3


async def test_without_an_event_in_time_no_effect_is_known() -> None:
    assert await wait_for_outcome(Timeline(), "order", "asked", timeout_seconds=0) == NO_EFFECT_KNOWN
    assert await find_outcome(Timeline(), "order", "asked") is None
