"""`oms stuck`: what waits for whom, by when, and what resolves it."""

from typing import Any

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, letter, order_detail, page, shown
from libs.cli.tests.life import package, returned
from libs.cli.tests.test_payments import TOTALS

DEADLINE = "2026-11-26T12:00:00Z"


def waiting(action: str, status: str, **other: Any) -> dict[str, Any]:
    about = {"action": action, "action_reason": f"because of {action}", "action_since": "2026-11-24T12:00:00Z", "deadline": DEADLINE}
    return order_detail(status, **about | other)


def stuck(oms: Run, connected: FakeConnections, **responses: Any) -> dict[str, dict[str, Any]]:
    """What is stuck, by what it waits for."""
    nothing = {"/orders": page(), "/orders/details": page(), "/payments": page(), "/stuck": page(), "/dead-letters": page()}
    connected.responses |= nothing | responses
    return {each["waits_for"]: each for each in shown(oms("stuck", "--json"))["stuck"]}


def test_where_nothing_waits_that_is_said(oms: Run, connected: FakeConnections) -> None:
    assert stuck(oms, connected) == {}
    assert oms("stuck").stdout == "nothing waits for anybody\n"


def test_each_order_that_waits_comes_with_the_commands_that_resolve_it(oms: Run, connected: FakeConnections) -> None:
    short = {"shortages": [{"sku": "a mug", "requested": 3, "available": 1}], "unknown_skus": None}
    unknown = {"shortages": None, "unknown_skus": ["POT"]}
    orders = [
        waiting("amend_payment", "awaiting_payment"),
        waiting("resolve_stock", "awaiting_stock", stock=short, location="BER"),
        waiting("define_product", "awaiting_product", stock=unknown),
        order_detail("awaiting_stock"),  # it waits no longer
    ]
    found = stuck(oms, connected, **{"/orders/details": [page(*orders), page()]})
    cancel = "oms order cancel web/W-1 --reason TEXT"
    assert {name.partition(",")[0]: each["commands"] for name, each in found.items()} == {
        "its customer": ["oms order pay web/W-1 --kind KIND --token TOKEN", cancel],
        "an operator": [cancel, "oms stock receive BER 'a mug'=2"],
        "the catalogue": ["oms product define POT --title TITLE", cancel],
    }
    assert {(each["by"], each["otherwise"]) for each in found.values()} == {(DEADLINE, "the order expires")}


def test_goods_that_wait_come_with_the_commands_that_resolve_them(oms: Run, connected: FakeConnections) -> None:
    about = {"location": "BER", "reason": "1 on hand, 3 reserved", "since": "2026-11-24T12:00:00Z", "deadline": DEADLINE}
    about |= {"kind": "stock", "otherwise": "it is reported again after the deadline"}
    stock = [about | {"id": "a mug at BER", "state": f"resolve_{each}"} for each in ("shortfall", "quarantine")]
    transfers = [about | {"id": "T-1", "kind": "transfer", "state": each} for each in ("in_transit", "close_transfer")]
    found = stuck(oms, connected, **{"/stuck": [page(*stock), page(*transfers)]})
    assert [each["commands"] for each in found.values()] == [
        [
            "oms stock show 'a mug'",
            "oms stock count BER 'a mug'=QUANTITY",
            "oms stock receive BER 'a mug'=QUANTITY",
            "oms order cancel ORDER --reason TEXT",
        ],
        ["oms stock release BER 'a mug'=QUANTITY --reason TEXT", "oms stock write-off BER 'a mug'=QUANTITY --reason TEXT"],
        ["oms stock transfer receive T-1 BER"],
        ["oms stock transfer receive T-1 BER", "oms stock transfer close T-1 BER --reason TEXT"],
    ]
    assert {(each["by"], each["because"]) for each in found.values()} == {(DEADLINE, "1 on hand, 3 reserved")}


def test_an_order_that_goes_on_may_need_a_person_beside(oms: Run, connected: FakeConnections) -> None:
    late = waiting("check_delivery", "released", packages=[package()])
    connected.responses[f"/orders/{ORDER_ID}"] = late
    items = [page(), page(), page(), page(late, order_detail("released", order_id="another")), page()]
    found = stuck(oms, connected, **{"/orders": items})
    [each] = found.values()
    assert each["commands"] == ["oms order show web/W-1", "oms package scan web/W-1 STATUS --package 340"]
    assert each["otherwise"] == "it is asked again"


def test_returns_payments_and_dead_letters_wait_as_well(oms: Run, connected: FakeConnections) -> None:
    inspect = returned("received", received=1, action="inspect", deadline=DEADLINE, location="BER")
    completed = order_detail("completed", returns=[inspect, returned("closed", return_id="RMA-0")])
    responses = {
        "/orders/details": [page(), page(), page(), page(completed)],
        "/payments": page(TOTALS),
        "/dead-letters": page(letter(source_key="R 1"), letter("parked", letter_id="p")),
    }
    found = stuck(oms, connected, **responses)
    kinds = {each["kind"]: each for each in found.values()}
    assert kinds["return"]["commands"] == ["oms return show web/W-1 RMA-1", "oms return inspect web/W-1 RMA-1"]
    assert (kinds["payment"]["because"], kinds["payment"]["commands"][0]) == ("the capture was refused", f"oms payment show {ORDER_ID}")
    assert kinds["dead_letter"]["commands"][:2] == [
        "oms dead-letters show inventory oms.inventory.commands/3/41",
        "oms dead-letters redrive inventory 'R 1'",
    ]
    assert len(found) == 3
    people = oms("stuck").stdout
    assert "the payment of order" in people
    assert "  otherwise: nothing happens by itself\n" in people


def test_a_webhook_is_mended_in_the_inbox(oms: Run, connected: FakeConnections) -> None:
    webhook = letter(service="capture", source_topic="oms.channel.webhooks", letter_id="oms.channel.webhooks/3/41")
    [each] = stuck(oms, connected, **{"/dead-letters": page(webhook)}).values()
    assert each["commands"][1] == "oms inbox take oms.channel.webhooks/3/41 --payload FILE"
