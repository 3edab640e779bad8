"""The command line on a stack of its own: real broker, real database, all seven services."""

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from oms_adapters.rows import rows_of
from oms_cli.app import app
from oms_cli.connections import USER
from oms_cli.imports import progress_path
from oms_contracts.catalogue import ALL_SERVICES, APIS
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import encode, type_of
from oms_contracts.samples import example_order
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine, order_id_of
from oms_kafka.clients import make_producer, partition_of
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackSettings
from oms_local.testing import wait_for
from typer.testing import CliRunner, Result

TIMEOUT_SECONDS = 30
KEY = "of-the-installation-in-tests-0123456789"
until = partial(wait_for, timeout_seconds=TIMEOUT_SECONDS)


def variables(settings: StackSettings) -> dict[str, str | None]:
    """The variables that name a stack, and no other servers."""
    others = {name: None for name in os.environ if name.startswith(("KAFKA_", "OMS_"))}
    return others | {
        "OMS_STACK_DATA": str(settings.data),
        "OMS_STACK_KAFKA_PORT": str(settings.kafka_port),
        "OMS_STACK_POSTGRES_PORT": str(settings.postgres_port),
        "OMS_STACK_HTTP_PORT": str(settings.http_port),
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(StackSettings.on_free_ports(tmp_path_factory.mktemp("stack")))
    made.up(environment={"OMS_GATEWAY_KEY": KEY}, owner=os.getpid())
    yield made
    made.abandon()


Run = Callable[..., Result]


def runner(environment: Mapping[str, str | None]) -> Run:
    def run(*words: str, code: int = 0, given: bytes | None = None) -> Result:
        result = CliRunner(env=environment).invoke(app, list(words), input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def oms(stack: Stack) -> Run:
    """Runs `oms` on the stack; fails unless the exit code is `code`."""
    return runner(variables(stack.settings))


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def order(reference: str, sku: str) -> bytes:
    content: dict[str, Any] = {
        "channel": "web",
        "channel_reference": reference,
        "placed_at": "2026-11-24T11:00:00Z",
        "customer": {"id": "ada"},
        "currency": "EUR",
        "lines": [{"line_id": "1", "sku": sku, "quantity": 2, "unit_price": 500, "total": 1000}],
        "total": 1000,
        "payment": {"kind": "card", "token": "tok_visa"},
        "delivery": "pickup",
    }
    return json.dumps(content).encode()


def publish_garbage(stack: Stack, topic: str, key: str, message_class: type[Any]) -> None:
    """A record of the class's type that cannot be read."""

    async def send() -> None:
        producer = make_producer(settings_of(stack.kafka("operator")), "test-garbage")
        await producer.start()
        try:
            envelope = Envelope(type=type_of(message_class).name, source="/test", id="garbage", time=datetime.now(UTC), subject=key)
            partition = partition_of(key.encode(), 12)
            await producer.send_and_wait(topic, key=key.encode(), value=b"garbage", headers=to_headers(envelope), partition=partition)
        finally:
            await producer.stop()

    asyncio.run(send())


def test_the_status_of_a_stack_that_is_up(oms: Run) -> None:
    status = document(oms("stack", "status", "--json"))
    assert status["up"]
    assert all(part["ready"] for part in status["parts"])
    assert len(status["parts"]) == 2 + len(ALL_SERVICES) + len(APIS)


def test_a_catalogue_is_defined_imported_and_searched(oms: Run, tmp_path: Path) -> None:
    assert document(oms("product", "define", "CUP", "--title", "Cup", "--barcode", "96385074", "--json"))["done"]
    refused = oms("product", "define", "CUP", "--title", "Cup", "--barcode", "96385075", code=1)
    assert "refused to define a product: barcode: a GTIN of these digits ends in 4, this ends in 5" in refused.stderr
    lines = ["sku,title,weight_grams", *(f"LID-{number},Lid {number},{number}" for number in range(1_500)), "LID-X,,1"]
    (tmp_path / "lids.csv").write_text("\n".join(lines))
    for _ in range(2):  # the same again changes nothing
        imported = document(oms("product", "import", str(tmp_path / "lids.csv"), "--json", code=1))
        assert (imported["sent"], imported["rejected"]) == (1_500, 1)
    until(lambda: len(document(oms("product", "list", "--text", "LID-", "--limit", "2000", "--json"))["products"]) == 1_500)
    oms("product", "deactivate", "LID-7")
    shown = document(oms("product", "show", "LID-7", "--json"))
    assert (shown["active"], shown["weight_grams"]) == (False, 7)
    assert [event["type"].split(".")[2] for event in shown["timeline"]] == ["ProductDefined", "ProductDeactivated"]


def test_an_order_from_goods_in_to_cancellation(oms: Run) -> None:
    oms("stock", "receive", "BER", "mug=5", "--receipt-id", "DC/1")
    oms("stock", "receive", "BER", "mug=5", "--receipt-id", "DC/1")
    assert document(oms("order", "place", "-", "--json", given=order("W-1", "mug")))["status"] in {"confirmed", "released"}
    oms("order", "place", "-", code=1, given=order("W-1", "pot"))
    rejected = oms("order", "place", "-", code=1, given=order("W-2", "mug").replace(b'"total": 1000, "pay', b'"total": 7, "pay'))
    assert "total: is 7, lines, shipping, fees and taxes add up to 1000" in rejected.stderr

    found = document(oms("order", "show", "web/W-1", "--json"))
    assert (found["order_id"], found["total"], found["payment"]["totals"]["authorized"]) == (order_id_of("web", "W-1"), 1000, 1000)
    people = oms("order", "show", found["order_id"]).stdout
    assert "10.00 EUR" in people
    assert "OrderConfirmed" in people

    events = document(oms("events", "show", "web/W-1", "--json"))["events"]
    names = [event["type"].split(".")[2] for event in events]
    assert [names.index(name) for name in ("OrderAccepted", "StockReserved", "PaymentAuthorized", "OrderConfirmed")] == sorted(
        names.index(name) for name in ("OrderAccepted", "StockReserved", "PaymentAuthorized", "OrderConfirmed")
    )
    positions = {event["id"]: place for place, event in enumerate(events)}
    assert all(positions[event["causation"]] < place for place, event in enumerate(events) if event["causation"] in positions)

    oms("order", "place", "-", given=order("W-3", "mug"))
    oms("order", "cancel", "web/W-3", "--reason", "ordered twice")
    assert document(oms("order", "show", "web/W-3", "--json"))["ended_because"] == "ordered twice"

    stock = document(oms("stock", "show", "mug", "--json"))
    assert [(change["kind"], change["quantity"], change["reference"]) for change in stock["ledger"]] == [("received", 5, "DC/1")]
    until(lambda: document(oms("stock", "show", "mug", "--json"))["positions"][0]["available"] == 3)


def test_a_strangers_path_from_goods_in_to_refund(oms: Run) -> None:
    """Every step by hand, each waited for, and each answered in a sentence."""
    oms("product", "define", "TRAY", "--title", "Tray")
    assert "is booked: 6 units of 2 SKUs" in oms("stock", "receive", "BER-1", "TRAY=4", "SPOON=2").stdout
    assert "5 units were counted where 4 units were on hand" in oms("stock", "count", "BER-1", "TRAY=5").stdout
    until(lambda: document(oms("stock", "show", "TRAY", "--json"))["positions"][0]["on_hand"] == 5)
    assert "5 units were counted where 5 units were on hand" in oms("stock", "count", "BER-1", "TRAY=5").stdout
    oms("stock", "adjust", "BER-1", "TRAY=-2", "--reason", "two broken")
    ledger = document(oms("stock", "ledger", "TRAY", "--json"))["ledger"]
    assert [(change["quantity"], change["reason"]) for change in ledger] == [(-2, "two broken"), (0, None), (1, None), (4, None)]

    address = "Ada Lovelace; Hauptstr. 5; 10115; Berlin; DE"
    typed = ("--line", "TRAY=2@19.99", "--line", "SPOON=1@2.50", "--shipping", "4.95", "--ship-to", address, "--pay", "card:tok_visa")
    placed = document(oms("order", "place", "--channel", "web", "--reference", "S-1", *typed, "--json"))
    assert placed["status"] in {"confirmed", "released"}
    assert [each["reference"] for each in document(oms("order", "list", "--reference", "S-1", "--json"))["orders"]] == ["S-1"]

    def fulfillments() -> list[dict[str, Any]]:
        found = document(oms("fulfillment", "list", "--location", "BER-1", "--json"))["fulfillments"]
        return [each for each in found if each["reference"] == "S-1"]

    until(lambda: len(fulfillments()) == 1)
    refused = oms("fulfillment", "pick", "web/S-1", code=1).stderr
    assert "refused to pick all items: the fulfillment is planned, not accepted" in refused
    assert "is accepted" in oms("fulfillment", "accept", "web/S-1").stdout
    assert "is picked" in oms("fulfillment", "pick", "web/S-1").stdout
    assert "is packed: 1 unit\n" in oms("fulfillment", "pack", "web/S-1", "--line", "TRAY=1").stdout
    until(lambda: len(fulfillments()[0]["packages"]) == 1)
    assert "is packed: 2 units\n" in oms("fulfillment", "pack", "web/S-1").stdout
    until(lambda: fulfillments()[0]["status"] == "packed")
    assert "BER-1 shipped" in oms("fulfillment", "ship", "web/S-1", "--carrier", "DHL", "--tracking", "T-1", "--tracking", "T-2").stdout

    def known() -> dict[str, Any]:
        return document(oms("order", "show", "web/S-1", "--json"))

    until(lambda: {package["tracking_number"] for package in known()["packages"]} == {"T-1", "T-2"})
    until(lambda: all(package["status"] is not None for package in known()["packages"]))
    for number in ("T-1", "T-2"):
        assert "is delivered" in oms("package", "scan", "web/S-1", "delivered", "--package", number).stdout
    until(lambda: known()["status"] == "completed" and known()["returns_until"] is not None)

    asked = oms("return", "request", "web/S-1", "--line", "TRAY=2", "--reason", "damaged", "--return-id", "RMA-S1").stdout
    assert "Return RMA-S1 is approved" in asked
    until(lambda: document(oms("return", "show", "web/S-1", "--json"))["returns"] != [])
    assert "2 units of return RMA-S1 arrived at BER-1" in oms("return", "receive", "web/S-1", "--location", "BER-1").stdout
    until(lambda: document(oms("return", "show", "web/S-1", "--json"))["returns"][0]["received"] == 2)
    assert "39.98 EUR is to be refunded" in oms("return", "inspect", "web/S-1", "--write-off", "TRAY=1").stdout
    until(lambda: document(oms("payment", "show", "web/S-1", "--json"))["totals"]["refunded"] == 3998)
    assert "39.98 EUR" in oms("payment", "show", "web/S-1").stdout
    until(lambda: document(oms("return", "show", "web/S-1", "--json"))["returns"][0]["outcome"] == "refunded")
    [scanned] = oms("events", "tail", "--from-beginning", "--type", "ReturnRefundRequested", "--count", "1").stdout.splitlines()
    assert scanned.endswith(f"39.98 EUR is to be refunded for return RMA-S1 (by {USER}:{getuser()})")


def test_what_waits_comes_with_the_commands_that_resolve_it(oms: Run) -> None:
    oms("order", "place", "-", code=1, given=order("S-2", "vat"))
    [waits] = [each for each in document(oms("stuck", "--kind", "order", "--json"))["stuck"] if each["reference"] == "S-2"]
    cancel = "oms order cancel web/S-2 --reason TEXT"
    assert (waits["waits_for"], waits["reason"], waits["commands"]) == (
        "warehouse",
        "vat: 2 wanted, 0 available",
        ["oms order show web/S-2", "oms stock receive LOCATION SKU=QUANTITY", "oms order wait web/S-2 --until TIME", cancel],
    )
    assert f"    {cancel}\n" in oms("stuck").stdout
    oms("order", "cancel", "web/S-2", "--reason", "no stock")
    assert "order web/S-2" not in oms("stuck").stdout


def test_whatever_somebody_has_in_hand_finds_the_order(oms: Run) -> None:
    """The order of a stranger's path above: by reference, name, tracking number and SKU."""
    for text, kind in (("S-1", "order"), ("ada lovelace", "order"), ("T-1", "package"), ("TRAY", "product")):
        found = document(oms("search", text, "--json"))["found"]
        assert kind in {hit["kind"] for hit in found}, text
        assert kind == "product" or "S-1" in {hit["reference"] for hit in found}, text
    assert [each["reference"] for each in document(oms("package", "list", "--order", "web/S-1", "--json"))["packages"]] == ["S-1", "S-1"]
    assert "T-2" in oms("package", "show", "web/S-1", "T-2").stdout
    assert [each["return_id"] for each in document(oms("return", "list", "--order", "web/S-1", "--json"))["returns"]] == ["RMA-S1"]


def test_through_the_gateway_the_same_is_read(oms: Run, stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.settings.http_port_of('gateway')}"
    through = runner(variables(stack.settings) | {"OMS_URL": url, "OMS_KEY": KEY})
    for words in ("fulfillment list", "package list --sort packed_at", "return list", "stuck", "search S-1", "search TRAY --no-persons"):
        assert document(through(*words.split(), "--json")) == document(oms(*words.split(), "--json")), words


def test_garbage_under_the_next_number_does_not_exclude_the_genuine_order(oms: Run) -> None:
    genuine = order("M-1002", "vase").replace(b'"web"', b'"marketplace"')
    oms("stock", "receive", "BER", "vase=2")
    for total in (b"7", b"8"):
        garbage = genuine.replace(b'"total": 1000, "pay', b'"total": %b, "pay' % total)
        refusal = oms("order", "place", "-", code=1, given=garbage).stderr
        assert f"total: is {total.decode()}, lines, shipping, fees and taxes add up to 1000" in refusal
    assert document(oms("order", "show", "marketplace/M-1002", "--json"))["status"] == "rejected"

    assert document(oms("order", "place", "-", "--json", given=genuine))["status"] in {"confirmed", "released"}
    until(lambda: document(oms("order", "show", "marketplace/M-1002", "--json"))["status"] == "released")
    found = document(oms("order", "show", "marketplace/M-1002", "--json"))
    assert (found["ended_because"], found["total"], found["payment"]["totals"]["authorized"]) == (None, 1000, 1000)
    events = document(oms("events", "show", "marketplace/M-1002", "--json"))["events"]
    names = [event["type"].split(".")[2] for event in events]
    assert (names.count("OrderRejected"), names.count("OrderAccepted"), names.count("PaymentAuthorized")) == (2, 1, 1)
    public = [event["data"]["status"] for event in events if event["type"].endswith("OrderStatusChanged.v1")]
    assert public[:3] == ["rejected", "accepted", "confirmed"]
    oms("order", "place", "-", code=1, given=genuine.replace(b'"total": 1000, "pay', b'"total": 7, "pay'))
    assert document(oms("order", "show", "marketplace/M-1002", "--json"))["conflicts"] == 0


def test_the_example_order_can_be_placed(oms: Run) -> None:
    example = oms("order", "example")
    order = document(example)
    [line] = order["lines"]
    oms("stock", "receive", order["location"], f"{line['sku']}={line['quantity']}")
    oms("order", "place", "-", given=example.stdout.encode())
    assert document(oms("order", "show", f"{order['channel']}/{order['channel_reference']}", "--json"))["total"] == order["total"]


def test_settings_name_servers_without_the_local_stack(stack: Stack, tmp_path: Path) -> None:
    broker = {f"OMS_KAFKA_{name.upper()}": value for name, value in stack.kafka("operator").items()}
    operations_port = stack.settings.operations_port_of("capture")
    query = {"OMS_QUERY_URL": stack.query_url(), "OMS_QUERY_TOKEN": stack.query_token()}
    urls = query | {"OMS_SERVICE_URL": f"http://127.0.0.1:{operations_port}"}
    oms = runner(variables(StackSettings.on_free_ports(tmp_path)) | broker | urls)
    oms("stock", "receive", "BER", "lid=1", "--receipt-id", "DC/7")
    assert all(service["answers"] for service in document(oms("lag", "--json"))["services"])


def test_a_dead_letter_can_be_corrected_and_redriven(oms: Run, stack: Stack) -> None:
    def letters(*more: str) -> list[dict[str, Any]]:
        return document(oms("dead-letters", "list", "--key", "DC/2", "--json", *more))["dead_letters"]

    publish_garbage(stack, "oms.inventory.commands", "DC/2", ReceiveStock)
    oms("stock", "receive", "BER", "pot=7", "--receipt-id", "DC/2", "--no-wait")
    until(lambda: [found["status"] for found in letters()] == ["parked", "set_aside"])
    letter_id = letters()[1]["letter_id"]
    assert "garbage" in oms("dead-letters", "show", "inventory", letter_id).stdout
    until(lambda: document(oms("lag", "--json"))["services"][1]["dead_letters"] == 2)

    assert f"{letter_id} failed again" in oms("dead-letters", "redrive", "inventory", "DC/2", code=1).stderr

    corrected = encode(ReceiveStock(receipt_id="DC/2", lines=(StockLine(sku="pot", location="BER", quantity=6),)))
    words = ("dead-letters", "redrive", "inventory", "DC/2", "--letter-id", letter_id, "--value", "-", "--json")
    oms(*words, code=2, given=b'{"receipt_id": "DC/2"}')
    redriven = document(oms(*words, given=corrected))
    assert [found["status"] for found in redriven["dead_letters"]] == ["redriven", "redriven"]
    assert letters() == []
    assert len(letters("--all")) == 2
    # The parked command had the same receipt id, so it had no effect.
    assert document(oms("stock", "show", "pot", "--json"))["positions"][0]["on_hand"] == 6


def test_projection_shows_its_own_dead_letters_once(oms: Run, stack: Stack) -> None:
    def letters(*more: str) -> list[dict[str, Any]]:
        return document(oms("dead-letters", "list", "--service", "projection", "--json", *more))["dead_letters"]

    publish_garbage(stack, "oms.projection.commands", "P-1", RedriveDeadLetters)
    until(lambda: len(letters()) == 1)
    oms("dead-letters", "redrive", "projection", "P-1", "--letter-id", letters()[0]["letter_id"], "--discard")
    assert [found["status"] for found in letters("--all")] == ["discarded"]


def test_a_system_at_rest_has_no_lag(oms: Run) -> None:
    def lag() -> dict[str, tuple[int, int]]:
        return {s["service"]: (s["lag"], s["relay_lag"]) for s in document(oms("lag", "--json"))["services"]}

    oms("stock", "receive", "BER", "jug=1", "--receipt-id", "DC/3")
    until(lambda: set(lag().values()) == {(0, 0)})
    [commands] = [t for t in document(oms("lag", "--json"))["services"][1]["topics"] if t["topic"] == "oms.inventory.commands"]
    assert commands["committed"] == commands["end"] > 0


def test_events_are_shown_as_they_are_on_the_topics(oms: Run) -> None:
    oms("stock", "receive", "BER", "cup=1", "--receipt-id", "DC/4")
    oms("stock", "receive", "HAM", "cup=2", "--receipt-id", "DC/5")
    words = ("events", "tail", "stock", "oms.inventory.commands", "--from-beginning", "--key", "DC/4", "--json")
    lines = [json.loads(line) for line in oms(*words, "--count", "2").stdout.splitlines()]
    command, event = sorted(lines, key=lambda line: line["topic"])
    assert (command["topic"], event["topic"]) == ("oms.inventory.commands", "oms.stock")
    assert event["causation"] == command["id"]
    assert event["data"]["lines"] == command["data"]["lines"] == [{"sku": "cup", "location": "BER", "quantity": 1}]
    [line] = oms("events", "tail", "--from-beginning", "--type", "StockReceived", "--key", "DC/5", "--count", "1").stdout.splitlines()
    assert "oms.stock  StockReceived  DC/5" in line


def test_checkpoints_are_shown_and_set_by_the_services_own_program(oms: Run, capfd: pytest.CaptureFixture[str]) -> None:
    oms("stock", "receive", "BER", "dish=1", "--receipt-id", "DC/8")

    def shown() -> dict[str, dict[str, Any]]:
        rows = document(oms("checkpoints", "show", "inventory", "--json"))["checkpoints"]
        return {f"{row['topic']}/{row['partition']}": row for row in rows}

    before = shown()
    assert all(row["topic_id"] == row["topic_id_now"] and row["begin"] <= row["next_offset"] <= row["end"] for row in before.values())
    name = f"oms.inventory.commands/{partition_of(b'DC/8', 12)}"
    at = before[name]["next_offset"]
    assert at > 0
    assert name.rpartition("/")[0] in (people := oms("checkpoints", "show", "inventory").stdout)
    assert "the same" in people

    words = ("checkpoints", "reset", "inventory", name)
    assert f"would be set from {at} to 0" in oms(*words, "begin", "--dry-run").stdout
    assert document(oms(*words, "0", "--dry-run", "--json")) == {
        "service": "inventory", "partition": name, "from_offset": at, "to_offset": 0, "dry_run": True,
    }  # fmt: skip
    assert shown()[name]["next_offset"] == at
    capfd.readouterr()
    for partition, to in ((name, str(before[name]["end"] + 1)), (name, "middle"), ("oms.nothing/0", "begin")):
        oms("checkpoints", "reset", "inventory", partition, to, code=1)
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3


def test_a_checkpoint_that_was_set_back_is_read_again_from_there(oms: Run, stack: Stack) -> None:
    oms("stock", "receive", "BER", "bowl=1", "--receipt-id", "DC/9")
    name = f"oms.inventory.commands/{partition_of(b'DC/9', 12)}"
    stack.stop_part("inventory")
    done = oms("checkpoints", "reset", "inventory", name, "begin")
    assert "is set from" in done.stdout
    assert "restart inventory" in done.stderr
    stack.start_part("inventory")

    def offset() -> int:
        rows = document(oms("checkpoints", "show", "inventory", "--json"))["checkpoints"]
        return next(row["next_offset"] for row in rows if f"{row['topic']}/{row['partition']}" == name)

    until(lambda: offset() > 0)
    assert document(oms("stock", "show", "bowl", "--json"))["positions"][0]["on_hand"] == 1


def test_recovery_is_refused_while_a_process_leads_and_finds_nothing_missing_afterwards(
    oms: Run, stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    oms("stock", "receive", "BER", "lamp=1", "--receipt-id", "DC/10")
    until(lambda: {service["relay_lag"] for service in document(oms("lag", "--json"))["services"]} == {0})
    oms("store", "recover", "inventory", code=1)
    assert "a process of this service leads" in capfd.readouterr().err
    stack.stop_part("inventory")
    report = document(oms("store", "recover", "inventory", "--dry-run", "--json"))
    assert (report["dry_run"], report["events_missing"], report["agrees"]) == (True, 0, True)
    assert "lacks nothing that is published" in oms("store", "recover", "inventory").stdout
    stack.start_part("inventory")


def test_a_programs_exit_code_is_the_commands_own(oms: Run, stack: Stack, tmp_path: Path) -> None:
    away = {"OMS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    broker = {f"OMS_KAFKA_{name.upper()}": value for name, value in stack.kafka("inventory").items()}
    elsewhere = runner(variables(StackSettings.on_free_ports(tmp_path)) | broker | away)
    elsewhere("store", "recover", "inventory", code=3)
    elsewhere("checkpoints", "show", "inventory", code=3)
    oms("read-models", "build", "--nonsense", code=2)


def test_read_models_are_those_of_projections_own_program(oms: Run, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    oms("read-models", "status")
    [version] = json.loads(capfd.readouterr().out)["versions"]
    assert version["in_use"]
    oms("read-models", "drop", str(version["version"]), code=1)
    assert "error: " in capfd.readouterr().err


def test_this_processs_own_variables_come_before_the_stack(stack: Stack, tmp_path: Path) -> None:
    broker = {f"OMS_KAFKA_{name.upper()}": value for name, value in stack.kafka("inventory").items()}
    named = {"OMS_DATABASE_URL": stack.database_url("inventory")}
    oms = runner(variables(StackSettings.on_free_ports(tmp_path)) | broker | named)
    assert document(oms("checkpoints", "show", "inventory", "--json"))["checkpoints"]


def test_the_end_of_a_tail_is_quiet(oms: Run, stack: Stack) -> None:
    oms("stock", "receive", "BER", "jar=1", "--receipt-id", "DC/6")
    environment = {**os.environ, **{name: value or "" for name, value in variables(stack.settings).items()}}
    arguments = [sys.executable, "-m", "oms_cli", "events", "tail", "--from-beginning", "--json"]

    def start() -> subprocess.Popen[bytes]:
        # Where the tests run in the background SIGINT is ignored, and child processes inherit that.
        restore_default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipe = subprocess.PIPE
        return subprocess.Popen(arguments, env=environment, stdout=pipe, stderr=pipe, preexec_fn=restore_default)  # noqa: PLW1509  # no lock is taken

    with start() as interrupted:
        assert interrupted.stdout is not None
        assert json.loads(interrupted.stdout.readline())
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=TIMEOUT_SECONDS)
        assert (interrupted.returncode, errors) == (130, b"")
    with start() as piped:
        assert piped.stdout is not None
        assert piped.stderr is not None
        piped.stdout.close()
        assert (piped.wait(TIMEOUT_SECONDS), piped.stderr.read()) == (141, b"")


@pytest.mark.parametrize(
    "words", ["order show web/W-404", "events show web/W-404", "order cancel web/W-404 --reason r", "stock show nothing"]
)
def test_what_is_not_known_is_an_error(oms: Run, words: str) -> None:
    assert "known here" in (line := oms(*words.split(), code=1).stderr) or "nothing has happened" in line or "ever booked" in line


def test_what_the_broker_does_not_allow_is_an_error(stack: Stack) -> None:
    broker = stack.kafka("carrier:DHL")
    named = {f"KAFKA_{name.upper()}": value for name, value in broker.items()}
    oms = runner(variables(stack.settings) | named)
    for words in ("stock receive BER mug=1", "events tail orders --from-beginning", "lag"):
        assert "does not allow carrier:DHL to use it: oms." in oms(*words.split(), code=1).stderr


def test_a_stack_that_is_down_is_out_of_reach(tmp_path: Path) -> None:
    settings = StackSettings.on_free_ports(tmp_path)
    oms = runner(variables(settings))
    of_the_stack = (
        "order show web/W-1",
        "lag",
        "stock receive BER mug=1",
        "events tail",
        "dead-letters list",
        "checkpoints show inventory",
    )
    for words in ("stack status", "store recover inventory", *of_the_stack):
        assert "oms stack" in oms(*words.split(), code=3).stderr
    theirs = runner(variables(settings) | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{settings.kafka_port}"})
    for words in ("lag", "stock receive BER mug=1 --no-wait", "events tail"):
        assert f"the broker at 127.0.0.1:{settings.kafka_port} does not answer" in theirs(*words.split(), code=3).stderr


def test_an_import_that_is_killed_goes_on_and_every_order_counts_once(stack: Stack, oms: Run, tmp_path: Path) -> None:
    count, path = 3_000, tmp_path / "orders.csv"
    [row] = rows_of(replace(example_order(), channel="app"))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(row | {"reference": f"F-{number}"} for number in range(count))
        writer.writerow(row | {"reference": "F-wrong", "total": "1.00"})  # is not published
        writer.writerow(row | {"reference": "F-nowhere", "channel": "nowhere"})  # capture rejects it
    progress = progress_path(path)
    command = [sys.executable, "-m", "oms_cli", "order", "import", str(path)]
    environment = {name: value for name, value in (os.environ | variables(stack.settings)).items() if value is not None}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    until(lambda: progress.exists() and json.loads(progress.read_bytes())["read"] > 0)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = json.loads(progress.read_bytes())["read"]
    assert 0 < done < count

    again = oms("order", "import", str(path), "--json", code=1)
    outcome = json.loads(again.stdout)
    assert outcome.items() >= {"done_before": done, "read": count + 2 - done, "rejected": 1}.items()
    assert "rejected orders: 1;" in again.stderr
    [reject] = [json.loads(line) for line in (tmp_path / "orders.csv.rejects.jsonl").read_bytes().splitlines()]
    assert (reject["reference"], reject["first_line"]) == ("F-wrong", count + 2)
    oms("order", "import", str(path), "--restart", code=1)  # all of them once more: they are the same orders

    def exported(*words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in oms("order", "export", "--format", "jsonl", *words).stdout.splitlines()]

    rejected = ("--status", "rejected", "--channel", "nowhere")
    until(lambda: len(exported("--brief", "--channel", "app")) == count and exported("--brief", *rejected) != [])
    orders = exported("--channel", "app")
    assert {order["reference"] for order in orders} == {f"F-{number}" for number in range(count)}
    assert {order["conflicts"] for order in orders} == {0}
    assert orders[0]["lines"] == document(oms("order", "show", orders[0]["order_id"], "--json"))["lines"]
    table = oms("order", "export", "--format", "csv", *rejected).stdout
    assert [row["reference"] for row in csv.DictReader(table.splitlines())] == ["F-nowhere"]
