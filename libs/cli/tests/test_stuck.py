"""`oms stuck`: what waits for whom, by when, and the commands that go on with it."""

from typing import Any

import pytest

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, page, shown

DEADLINE = "2026-11-26T12:00:00Z"


def waiting(kind: str, **other: Any) -> dict[str, Any]:
    """Something that waits, as the query API has it."""
    about: dict[str, Any] = dict.fromkeys(("location", "reason", "deadline", "key"))
    about |= {"kind": kind, "id": ORDER_ID, "order_id": ORDER_ID}
    about |= {"channel": "web", "reference": "W 1", "state": "x", "since": "2026-11-24T12:00:00Z", "overdue": False}
    about |= {"waits_for": "operator", "otherwise": "it stays so", "operations": ()}
    return about | other


LETTER = {"order_id": None, "channel": None, "reference": None, "key": "R 1", "operations": ["redrive-dead-letters"]}


@pytest.mark.parametrize(
    ("item", "commands"),
    [
        (
            waiting("order", operations=["amend-payment", "cancel-order"]),
            ["order show 'web/W 1'", "order pay 'web/W 1' --kind KIND --token TOKEN", "order cancel 'web/W 1' --reason TEXT"],
        ),
        (
            waiting("order", operations=["receive-stock", "extend-wait"]),
            ["order show 'web/W 1'", "stock receive LOCATION SKU=QUANTITY", "order wait 'web/W 1' --until TIME"],
        ),
        (waiting("order", operations=["define-product"]), ["order show 'web/W 1'", "product define SKU --title TITLE"]),
        (waiting("order", operations=["record-scan"], reference=None), [f"order show {ORDER_ID}", f"package scan {ORDER_ID} STATUS"]),
        (
            waiting("fulfillment", id=f"{ORDER_ID}/BER", location="BER", operations=["pack-package", "ship-fulfillment"]),
            [
                "fulfillment show 'web/W 1' BER",
                "fulfillment pack 'web/W 1' BER",
                "fulfillment ship 'web/W 1' BER --carrier NAME --tracking NUMBER",
            ],
        ),
        (
            waiting("return", id="RMA-1", operations=["inspect-return"]),
            ["return show 'web/W 1' RMA-1", "return inspect 'web/W 1' RMA-1"],
        ),
        (waiting("payment"), ["payment show 'web/W 1'"]),
        (
            waiting("stock", id="a mug at BER", location="BER", order_id=None, reference=None, operations=["count-stock", "cancel-order"]),
            ["stock show 'a mug'", "stock count BER 'a mug'=QUANTITY", "order cancel ORDER --reason TEXT"],
        ),
        (
            waiting("transfer", id="T-1", location="BER", order_id=None, reference=None, operations=["receive-transfer", "close-transfer"]),
            ["stock transfer list", "stock transfer receive T-1 BER", "stock transfer close T-1 BER --reason TEXT"],
        ),
        (
            waiting("dead-letter", id="inventory/oms.inventory.commands/3/41", **LETTER),
            [
                "dead-letters show inventory oms.inventory.commands/3/41",
                "dead-letters redrive inventory 'R 1'",
                "dead-letters redrive inventory 'R 1' --letter-id oms.inventory.commands/3/41 --value FILE",
                "dead-letters redrive inventory 'R 1' --letter-id oms.inventory.commands/3/41 --discard",
            ],
        ),
        (
            waiting("webhook", id="capture/oms.channel.webhooks/3/41", **LETTER),
            [f"inbox {word}" for word in ("show {}", "take {} --payload FILE", "discard {}")],
        ),
        (waiting("something-new", operations=["do-something-new"]), []),
    ],
)
def test_what_waits_comes_with_the_commands_that_go_on_with_it(
    oms: Run, connected: FakeConnections, item: dict[str, Any], commands: list[str]
) -> None:
    connected.responses["/stuck"] = page(item)
    typed = [f"oms {command.format('oms.channel.webhooks/3/41')}" for command in commands]
    assert shown(oms("stuck", "--json")) == {"stuck": [item | {"operations": [*item["operations"]], "commands": typed}], "more": False}
    assert [line.strip() for line in oms("stuck").stdout.splitlines() if line.startswith("    ")] == typed


def test_it_is_said_for_whom_it_waits_by_when_and_what_happens_otherwise(oms: Run, connected: FakeConnections) -> None:
    late = waiting("order", deadline=DEADLINE, overdue=True, waits_for="customer", state="amend_payment", reason="declined\nand more")
    connected.responses["/stuck"] = page(late)
    assert oms("stuck").stdout.splitlines()[:3] == [
        "order web/W 1 waits for the customer by 2026-11-26 12:00:00Z, which has passed, since 2026-11-24 12:00:00Z (amend_payment)",
        "  because: declined",
        "  otherwise: it stays so",
    ]
    connected.responses["/stuck"] = page()
    assert oms("stuck").stdout == "nothing waits for anybody\n"


def test_what_is_asked_for_is_the_query_apis_to_choose(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/stuck"] = page(waiting("order"), waiting("payment"))
    words = "--kind order --waits-for shop --channel web --overdue --older-than 60 --limit 1"
    result = oms("stuck", *words.split())
    assert result.stderr == "there is more; --limit or --all shows it\n"
    asked = {name: value for name, value in connected.requests[0].params.items() if name != "limit"}
    assert asked == {"kind": "order", "waits_for": "shop", "channel": "web", "overdue": "true", "older_than_seconds": "60"}
