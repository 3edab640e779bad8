"""`oms product` without servers."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.message import encode
from oms_contracts.products import DeactivateProduct, DefineProduct, ProductCommandRefused, ProductDefined
from oms_contracts.samples import sample

from libs.cli.tests.fakes import FakeConnections, Run, entry, errors, page, problem, rows, sample_of, shown

MUG = DefineProduct(sku="MUG/1", title="Mug, blue", barcode="4006381333931", weight_grams=350)
E_BOOK = DefineProduct(sku="E", title="E-book", requires_shipping=False)
PRODUCTS = "oms.inventory.commands"


def product(command: DefineProduct, **other: Any) -> dict[str, Any]:
    """A product in the query API."""
    return json.loads(encode(command)) | {"defined_at": "2026-11-24T12:00:00Z", "updated_at": "2026-11-24T12:00:00Z"} | other


def test_a_product_is_defined_and_waited_for(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG/1"] = [problem(404, "not known"), product(replace(MUG, title="old")), product(MUG)]
    connected.responses["/orders/MUG/1/timeline"] = page(entry(sample(ProductDefined)))
    words = ("product", "define", "MUG/1", "--title", "Mug, blue", "--barcode", "4006381333931", "--weight-grams", "350")
    assert "product MUG/1 is defined" in oms(*words, "--wait").stdout
    assert connected.published == [(PRODUCTS, MUG)]
    assert shown(oms(*words, "--no-wait", "--json")).items() >= {"sku": "MUG/1", "done": None, "reasons": []}.items()


def test_a_digital_product_that_is_not_sold_yet(oms: Run, connected: FakeConnections) -> None:
    assert oms("product", "define", "E", "--title", "E-book", "--digital", "--inactive", "--unit", "C62", "--no-wait").exit_code == 0
    [(_, command)] = connected.published
    assert command == DefineProduct(sku="E", title="E-book", unit="C62", requires_shipping=False, active=False)


def test_a_refused_definition_says_why(oms: Run, connected: FakeConnections) -> None:
    refusal = sample_of(ProductCommandRefused, sku="MUG", reasons=["barcode: a GTIN of these digits ends in 1, this ends in 2"])
    connected.responses["/orders/MUG/timeline"] = page(entry(refusal, causation="other"), entry(refusal, causation="id-1"))
    reasons = errors(oms("product", "define", "MUG", "--title", "Mug", "--wait"), 1)
    assert reasons == ["refused to define a product: barcode: a GTIN of these digits ends in 1, this ends in 2"]


def test_a_product_is_deactivated(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG"] = product(replace(MUG, sku="MUG"), active=False)
    assert "product MUG is deactivated" in oms("product", "deactivate", "MUG", "--wait").stdout
    assert connected.published == [(PRODUCTS, DeactivateProduct(sku="MUG"))]


def test_a_csv_file_is_imported_and_its_wrong_lines_are_written_with_their_reasons(
    oms: Run, connected: FakeConnections, tmp_path: Path
) -> None:
    lines = [
        "sku,title,barcode,unit,weight_grams,requires_shipping,active",
        'MUG/1,"Mug, blue",4006381333931,EA,350,true,yes',
        "",
        "E,E-book,,,,no,",
        "POT,Pot,4006381333932,each,heavy,,",
        "PAN,Pan",
        ",Nothing,,,,,",
        'LID,"Lid\nof two lines",,,,,perhaps',
        "CUP,Cup,12345,,,,",
    ]
    (tmp_path / "products.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    rejects = tmp_path / "products.csv.rejects.csv"
    [error] = errors(oms("product", "import", str(tmp_path / "products.csv")), 1)
    assert error == f"4 lines not valid; {rejects} has each with its number and the reasons"
    published = [command for _, command in connected.published]
    assert published == [
        MUG,
        DefineProduct(sku="E", title="E-book", requires_shipping=False),
        DefineProduct(sku="CUP", title="Cup", barcode="12345"),
    ]
    header, *rejected = csv.reader(rejects.read_text().splitlines())
    assert header == ["line", "reasons"]
    assert [number for number, _ in rejected] == ["5", "6", "7", "9"]
    assert rejected[0][1].startswith("weight_grams: ")
    assert rejected[1][1] == "has 2 fields, the first line has 7"
    assert rejected[2][1] == "sku: is required"
    assert rejected[3][1].startswith("active: ")


def test_json_lines_are_imported_from_standard_input(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    given = (
        encode(MUG)
        + b'\n\n{"sku":"A","title":"A","color":"red"}\n{"sku":"B","title":"B","barcode":"96385075"}\nnonsense\n{"sku":"C","title":"C"}'
    )
    result = oms("product", "import", "-", "--jsonl", "--json", "--rejects", str(tmp_path / "r.csv"), given=given)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"sent": 2, "rejected": 3, "rejects": str(tmp_path / "r.csv")}
    assert [command.sku for _, command in connected.published] == ["MUG/1", "C"]
    assert [number for number, _ in csv.reader((tmp_path / "r.csv").read_text().splitlines())] == ["line", "3", "4", "5"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"sku,name\n",
            [
                "FILE: line 1: 'name' is none of the columns sku, title",
            ],
        ),
        (b"sku,barcode\n", ["FILE: line 1: there is no column title"]),
        (b"", ["FILE: line 1: there is no column sku", "FILE: line 1: there is no column title"]),
        (b'sku,title\nA,"B', ["FILE: line 2: unexpected end of data"]),
        (b"sku,title\nA,\xff\n", ["FILE: is not UTF-8"]),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(oms: Run, content: bytes, expected: list[str]) -> None:
    lines = errors(oms("product", "import", "-", given=content), 2)
    assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=False))
    assert lines[-1] == "0 products sent; once this is resolved, import the file again"


def test_a_line_that_is_far_too_long_ends_the_import(oms: Run) -> None:
    [line, _] = errors(oms("product", "import", "-", "--jsonl", given=b"x" * 70_000), 2)
    assert line == "FILE: line 1 has more than 65536 bytes; is it JSON Lines?"


def test_progress_of_a_large_file_is_told(oms: Run, connected: FakeConnections) -> None:
    given = b"".join(b'{"sku":"S%d","title":"T"}\n' % number for number in range(25_000))
    result = oms("product", "import", "-", "--jsonl", given=given)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == ["10000 products sent", "20000 products sent"]
    assert len(connected.published) == 25_000


def test_the_catalogue_is_listed(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products"] = page(
        product(MUG), product(DefineProduct(sku="E", title="E-book", requires_shipping=False), active=False)
    )
    assert rows(oms("product", "list", "--text", "m", "--active")) == [
        ["MUG/1", "Mug, blue", "4006381333931", "EA", "350 g", "ship", "yes"],
        ["E", "E-book", "–", "EA", "–", "digital", "no"],
    ]
    assert connected.requests[0].params.get("active") == "true"
    assert shown(oms("product", "list", "--json", "--limit", "1"))["more"] is True


def test_a_product_is_shown_with_its_history(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG/1"] = product(MUG)
    connected.responses["/orders/MUG/1/timeline"] = page(entry(sample(ProductDefined)))
    text = oms("product", "show", "MUG/1").stdout
    assert "Product MUG/1: Mug, blue" in text
    assert "barcode 4006381333931, weight 350 g" in text
    assert "ProductDefined" in text
    assert len(shown(oms("product", "show", "MUG/1", "--json"))["timeline"]) == 1
    [line] = errors(oms("product", "show", "POT"), 1)
    assert "it is not known here" in line
