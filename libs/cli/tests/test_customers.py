"""`oms customer` without servers."""

from oms_contracts.customers import CustomerErased, EraseCustomer

from libs.cli.tests.fakes import NOON, FakeConnections, Run, entry, errors, order_detail, page, rows, shown

BY_EMAIL = ("--email", "ada@example.com")
ERASE = ("customer", "erase", *BY_EMAIL, "--reason", "asked to")


def test_customers_are_found_without_naming_them_in_an_address(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/customers"] = [[{"key_id": "k1", "orders": 2}]]
    assert rows(oms("customer", "find", "--channel", "web", "--id", "ada")) == [["k1", "2"]]
    assert shown(oms("customer", "find", *BY_EMAIL, "--json")) == {"customers": [{"key_id": "k1", "orders": 2}]}
    assert {str(url) for url in connected.requests} == {"http://query/customers"}


def test_all_that_is_known_of_a_person_is_exported(oms: Run, connected: FakeConnections) -> None:
    connected.responses |= {
        "/customers": [[{"key_id": "k1", "orders": 1}]],
        "/orders/details": page(order_detail("completed")),
    }
    assert shown(oms("customer", "export", *BY_EMAIL)) == {"customers": ["k1"], "orders": [order_detail("completed")]}
    assert "ada" not in "".join(map(str, connected.requests))


def test_nothing_to_export_is_said(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/customers"] = [[]]
    assert errors(oms("customer", "export", *BY_EMAIL), 1) == ["nothing is known of such a customer"]


def test_a_person_is_erased_once_that_is_confirmed(oms: Run, connected: FakeConnections) -> None:
    assert oms(*ERASE, given=b"n\n").stderr.endswith("error: nothing was erased\n")
    assert oms(*ERASE, given=b"").stderr.endswith("error: --yes: must be given where nobody can be asked\n")
    assert connected.published == []
    erased = CustomerErased(request_id="id-1", keys=("k1", "k2"), reason="asked to", at=NOON)
    connected.responses["/orders/id-1/timeline"] = page(entry(erased))
    result = oms(*ERASE, given=b"y\n")
    assert (result.exit_code, result.stdout.endswith("erased, by deleting 2 keys\n")) == (0, True)
    command = EraseCustomer(request_id="id-1", reason="asked to", email="ada@example.com")
    assert connected.published == [("oms.capture.commands", command)]
    assert "ada" not in "".join(map(str, connected.requests))


def test_an_erasure_that_finds_nobody_or_is_not_known_yet_fails(oms: Run, connected: FakeConnections) -> None:
    nobody = CustomerErased(request_id="R", keys=(), reason="asked to", at=NOON)
    connected.responses["/orders/R/timeline"] = page(entry(nobody))
    assert errors(oms(*ERASE, "--yes", "--request-id", "R"), 1) == ["nothing was known of such a customer"]
    late = errors(oms(*ERASE, "--yes", "--request-id", "S", "--timeout", "0"), 1)
    assert late == ["the outcome is not known after 0 s: give --request-id S to ask again"]
