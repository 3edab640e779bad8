"""`oms fulfillment` and `oms package` without servers."""

from typing import Any

from oms_contracts.fulfillments import PackPackage, ShipFulfillment
from oms_contracts.sscc import is_sscc
from oms_contracts.tracking import RecordScan
from oms_contracts.values import AllocatedLine

from libs.cli.tests.fakes import NOON, ORDER_ID, FakeConnections, Run, errors, order_detail, page, rows, shown
from libs.cli.tests.life import fulfilling, fulfillment, package

ORDER_PATH = f"/orders/{ORDER_ID}"


NAMED = {"order_id": ORDER_ID, "channel": "web", "reference": "W-1"}


def asked(connected: FakeConnections) -> dict[str, str]:
    """What the query API was asked for last, without the size of its pages."""
    return {name: value for name, value in connected.requests[-1].params.items() if name != "limit"}


def test_fulfillments_are_listed_as_the_query_api_has_them(oms: Run, connected: FakeConnections) -> None:
    both: list[dict[str, Any]] = [fulfillment("planned") | NAMED, fulfillment("picked", "HAM") | NAMED]
    for each, packed in zip(both, ([], [package()]), strict=True):
        each["packages"] = packed
    connected.responses["/fulfillments"] = page(*both)
    assert [(row[0], row[1], row[2], row[4], row[6]) for row in rows(oms("fulfillment", "list"))] == [
        ("web/W-1", "BER", "planned", "2", "0"),
        ("web/W-1", "HAM", "picked", "2", "1"),
    ]
    assert asked(connected) == {"sort": "-planned_at"}
    assert shown(oms("fulfillment", "list", "--json")) == {"fulfillments": both, "more": False}
    filters = "--status picked --location HAM --order web/W-1 --channel web --from 2026-11-24 --to 2026-11-25 --sort planned_at"
    cut = oms("fulfillment", "list", "--limit", "1", *filters.split())
    assert (len(rows(cut)), cut.stderr) == (1, "there is more; --limit or --all shows it\n")
    times = {"planned_from": "2026-11-24T00:00:00+00:00", "planned_before": "2026-11-25T00:00:00+00:00"}
    assert asked(connected) == times | {"status": "picked", "location": "HAM", "order": ORDER_ID, "channel": "web", "sort": "planned_at"}
    connected.responses["/fulfillments"] = [page(*both, more="x"), page(*both)]
    assert len(rows(oms("fulfillment", "list", "--all", "--limit", "1"))) == 4
    connected.responses["/fulfillments"] = page()
    assert oms("fulfillment", "list", "--status", "shipped").stdout == "there is no such fulfillment\n"


def test_packages_are_listed_and_one_is_shown(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/packages"] = page(package() | NAMED | {"trouble": "nobody at home"})
    [row] = rows(oms("package", "list", "--trouble", "--carrier", "DHL", "--status", "in_transit", "--sort", "packed_at"))
    assert row[:2] + row[3:7] + row[8:] == ["web/W-1", "340", "1", "DHL", "T-340", "in_transit", "nobody at home"]
    assert asked(connected) == {"trouble": "true", "carrier": "DHL", "status": "in_transit", "sort": "packed_at"}
    connected.responses[ORDER_PATH] = fulfilling(packages=[package(), package(2, "341")])
    people = oms("package", "show", "web/W-1", "T-341")
    assert "Package 341 of web/W-1" in people.stdout
    assert rows(people) == [["1", "mug", "2"]]
    assert shown(oms("package", "show", "web/W-1", "340", "--json"))["package_id"] == "340"
    assert errors(oms("package", "show", "web/W-1"), 2) == ["order web/W-1 has several packages: name one of 340, 341"]


def test_a_fulfillment_is_shown_with_what_is_left_and_what_comes_next(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling("picked")
    result = oms("fulfillment", "show", "web/W-1")
    assert rows(result) == [["1", "mug", "2", "1"], ["340", "1", "DHL", "T-340", "in_transit"]]
    assert "2 units to be collected" in result.stdout
    assert result.stdout.endswith("next: oms fulfillment pack web/W-1 BER\n")
    assert shown(oms("fulfillment", "show", "web/W-1", "--json"))["packages"][0]["package_id"] == "340"
    two = [package(1, "341", packed_at="2026-11-24T11:00:00Z"), package(1)]
    connected.responses[ORDER_PATH] = fulfilling("packed", packages=list(reversed(two)))
    packed = oms("fulfillment", "show", "web/W-1")
    assert [row[0] for row in rows(packed)[1:]] == ["341", "340"]
    assert "ship web/W-1 BER --carrier NAME --tracking NUMBER --tracking NUMBER" in packed.stdout


def test_all_that_is_left_is_packed_under_an_sscc_of_ours(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling("picked")
    answer = shown(oms("fulfillment", "pack", "web/W-1", "--no-wait", "--json"))
    [(topic, command)] = connected.published
    assert topic == "oms.fulfillment.commands"
    assert command.lines == (AllocatedLine(line_id="1", sku="mug", location="BER", quantity=1),)
    assert is_sscc(command.package_id)
    assert answer["package_id"] == command.package_id
    oms("fulfillment", "pack", "web/W-1", "--no-wait")
    assert connected.published[1][1].package_id != command.package_id


def test_units_are_packed_by_sku_or_line_under_the_sscc_that_is_given(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling("picked", packages=[])
    for name in ("mug", "1"):
        oms("fulfillment", "pack", "web/W-1", "BER", "--line", f"{name}=1", "--sscc", "376104250021234569", "--no-wait")
    line = AllocatedLine(line_id="1", sku="mug", location="BER", quantity=1)
    expected = PackPackage(order_id=ORDER_ID, fulfillment_id=f"{ORDER_ID}/BER", package_id="376104250021234569", lines=(line,))
    assert [command for _, command in connected.published] == [expected] * 2
    [error] = errors(oms("fulfillment", "pack", "web/W-1", "--line", "pot=1"), 2)
    assert error == "--line: 'pot' names no line, or several, of what is to be packed: mug (line 1): 2"


def test_a_fulfillment_is_shipped_with_a_number_for_each_package(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling()
    oms("fulfillment", "ship", "web/W-1", "--carrier", "DHL", "--tracking", "T-1", "--tracking", "T-2", "--no-wait")
    assert connected.published[0][1] == ShipFulfillment(
        order_id=ORDER_ID, fulfillment_id=f"{ORDER_ID}/BER", carrier="DHL", tracking_numbers=("T-1", "T-2")
    )


def test_a_location_is_named_where_there_are_several(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling(fulfillments=[fulfillment("planned"), fulfillment("planned", "HAM")])
    assert errors(oms("fulfillment", "accept", "web/W-1"), 2) == ["LOCATION: name one of BER, HAM; each of them ships a part of web/W-1"]
    assert errors(oms("fulfillment", "accept", "web/W-1", "MUC"), 1) == ["order web/W-1 has no fulfillment at MUC, but at BER, HAM"]
    assert oms("fulfillment", "accept", "web/W-1", "HAM", "--no-wait").exit_code == 0
    assert connected.published[0][1].fulfillment_id == f"{ORDER_ID}/HAM"
    connected.responses[ORDER_PATH] = order_detail("reserved")
    [line] = errors(oms("fulfillment", "accept", "web/W-1"), 1)
    assert line == "order web/W-1 has no fulfillment: it is reserved; `oms order show web/W-1` says more"


def test_a_scan_names_the_package_by_sscc_or_tracking_number(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = fulfilling(packages=[package(), package(1, "341")])
    words = ("package", "scan", "web/W-1", "lost")
    for name in ("341", "T-341"):
        oms(*words, "--package", name, "--at", "2026-11-24T10:00:00+01:00", "--note", "gone", "--scan-id", "S", "--no-wait")
    at = NOON.replace(hour=9)
    scan = RecordScan(order_id=ORDER_ID, package_id="341", scan_id="S", status="lost", at=at, reason="gone")
    assert [command for _, command in connected.published] == [scan] * 2
    assert errors(oms(*words), 2) == ["order web/W-1 has several packages: name one of 340, 341"]
    assert errors(oms(*words, "--package", "342"), 1) == ["order web/W-1 has no package 342, but 340, 341"]
    assert "Invalid value for 'STATUS'" in errors(oms("package", "scan", "web/W-1", "eaten"), 2)[0]
    connected.responses[ORDER_PATH] = fulfilling(packages=[])
    assert errors(oms(*words), 1)[0].startswith("order web/W-1 has no package: it is released")
