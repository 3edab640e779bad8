"""`oms order export`, and the examples and mappings of files."""

import csv
import json
import tracemalloc
from io import BytesIO, StringIO
from pathlib import Path

from oms_adapters.rows import RowMapping, default_mapping
from oms_cli.exports import COLUMNS
from oms_cli.order_files import Place, read_csv
from oms_contracts.samples import example_order
from typer.testing import Result

from libs.cli.tests.fakes import FakeConnections, Run, errors, order_detail, page, problem
from tests.documentation.pages import names, section
from tests.documentation.pages import rows as page_rows


def test_the_example_is_the_same_order_as_csv(oms: Run) -> None:
    [entry] = read_csv(BytesIO(oms("order", "example", "--csv").stdout_bytes), Place(), RowMapping(default_mapping()), ",")
    assert entry.found == example_order()


def test_every_mistake_of_a_mapping_is_named(oms: Run, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('name = "till"\n[order]\nchannel_reference = "id"\nskew = "x"\n')
    (tmp_path / "orders.csv").write_text("id,sku\nA,B\n")
    lines = errors(oms("order", "import", str(tmp_path / "orders.csv"), "--mapping", str(mapping)), 2)
    assert "--mapping: order.skew: there is no such field" in lines
    assert "--mapping: order.currency: is required" in lines


def test_the_mapping_that_is_printed_is_the_one_that_is_used(oms: Run) -> None:
    assert oms("order", "import", "--print-mapping").stdout == default_mapping()


def exported(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(StringIO(result.stdout, newline="")))


def test_a_csv_export_has_a_row_for_each_line_and_no_formulas(oms: Run, connected: FakeConnections) -> None:
    line = order_detail("confirmed")["lines"][0]
    lines = [line | {"title": '=HYPERLINK("http://evil")'}, line | {"line_id": "2", "title": 'Mug,\n"red"', "unit_price": -1}]
    first = order_detail("confirmed", lines=lines, customer_phone="+49 30 1", customer_name="@ada", note="-1")
    rejected = order_detail("rejected", lines=[], currency=None, total=None)
    connected.responses["/orders/details"] = page(first, rejected)
    one, two, none = exported(oms("order", "export", "--format", "csv", "--status", "confirmed", "--from", "2026-01-31"))
    assert (one["title"], one["customer_phone"], one["customer_name"], one["note"]) == (
        '\'=HYPERLINK("http://evil")',
        "'+49 30 1",
        "'@ada",
        "'-1",
    )
    assert (two["title"], two["unit_price"], two["line_total"], two["total"], two["quantity"]) == (
        'Mug,\n"red"',
        "-0.01",
        "10.00",
        "14.95",
        "2",
    )
    assert (none["status"], none["line_id"], none["total"]) == ("rejected", "", "")
    [request] = connected.requests
    assert dict(request.params) == {"status": "confirmed", "placed_from": "2026-01-31T00:00:00+00:00", "limit": "100"}


def test_an_export_goes_page_by_page_and_on_behind_a_cursor(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    words = ("order", "export", "--format", "jsonl", "-o", str(file))
    first, second, third = (order_detail("confirmed", order_id=str(number), note="=1") for number in range(3))
    connected.responses["/orders/details"] = [page(first, more="c1"), page(second, more="c2"), problem(503, "the database does not answer")]
    result = oms(*words)
    assert result.exit_code == 3
    assert "2 orders written" in result.stderr
    assert "--after c2 goes on" in result.stderr
    connected.responses["/orders/details"] = page(third)
    assert oms(*words, "--after", "c2").exit_code == 0
    assert connected.requests[-1].params["after"] == "c2"
    assert [json.loads(text) for text in file.read_text().splitlines()] == [first, second, third]


def test_the_page_names_every_column_of_a_csv_export_in_order() -> None:
    table = page_rows(section("Export orders", Path(__file__).parents[1] / "README.md"))
    assert [column for columns, _ in table for column in names(columns)] == list(COLUMNS)


def test_an_export_keeps_no_more_than_a_page(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    """A page takes about 0.5 MB while it is written; a part of the growth is the test's own record of requests."""
    hundred = page(*[order_detail("confirmed")] * 100, more="c1")
    for form in ("jsonl", "csv"):
        peaks: list[int] = []
        for pages in (5, 100):
            connected.responses["/orders/details"] = [*[hundred] * pages, page()]
            tracemalloc.start()
            assert oms("order", "export", "--format", form, "-o", str(tmp_path / "orders")).exit_code == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] - peaks[0] < 4_000_000, form
    assert len((tmp_path / "orders").read_text().splitlines()) == 10_001


def test_a_brief_export_has_the_items_of_the_list(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/orders"] = page({"order_id": "1"}, {"order_id": "2"})
    assert oms("order", "export", "--format", "jsonl", "--brief").stdout == '{"order_id":"1"}\n{"order_id":"2"}\n'
