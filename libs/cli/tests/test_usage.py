"""How `oms` is called: help, errors, exit codes."""

import pytest

from libs.cli.tests.fakes import FakeConnections, Run, errors

COMMANDS = [
    *(f"order {name}" for name in ("example", "place", "import", "export", "show", "cancel")),
    *(f"customer {name}" for name in ("find", "export", "erase")),
    *(f"stock {name}" for name in ("receive", "show")),
    *(f"product {name}" for name in ("define", "deactivate", "import", "list", "show")),
    *(f"events {name}" for name in ("tail", "show")),
    "lag",
    *(f"dead-letters {name}" for name in ("list", "show", "redrive")),
    *(f"inbox {name}" for name in ("list", "show", "take", "discard")),
    "store recover",
    *(f"checkpoints {name}" for name in ("show", "reset")),
    *(f"read-models {name}" for name in ("build", "status", "switch", "drop", "verify")),
]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_an_example(oms: Run, command: str) -> None:
    result = oms(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: oms {command}".strip() in result.stdout


def test_the_help_lists_the_exit_codes(oms: Run) -> None:
    text = " ".join(oms("--help").stdout.split())
    assert "0 fine; 1 not found, refused, or not the outcome that was asked for; 2 invalid usage or input; 3 the stack or a server" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("order show", "Missing argument 'ORDER'; see oms order show --help"),
        ("order show W-1", "'W-1' is neither an order id (a UUID) nor CHANNEL/REFERENCE, such as web/W-1001; see oms order show --help"),
        ("order show /W-1", "'/W-1' is neither an order id"),
        ("order sow", "No such command 'sow'"),
        ("order place /nowhere/order.json", "/nowhere/order.json': No such file or directory"),
        ("order export --format csv --brief", "--brief: is for --format jsonl"),
        ("order export --format csv --from yesterday", "'yesterday' is neither a date nor a date and time"),
        ("order export --format csv -o /nowhere/orders.csv", "--output: /nowhere/orders.csv cannot be written: No such file or directory"),
        ("order import README.md", "README.md ends in none of .jsonl, .ndjson, .csv; --format says how it is written"),
        ("order import README.md --format jsonl --channel web", "--mapping, --channel: are for CSV"),
        ("order import README.md --format csv --delimiter ab", "--delimiter: must be one character, is 'ab'"),
        ("order import README.md --format csv", "FILE: README.md: line 1: has 1 columns"),
        ("stock receive BER mug=0", "SKU=QUANTITY: 'mug=0' is not a name, an equals sign and a whole number that is not 0"),
        ("product define MUG", "Missing option '--title'"),
        ("product import /nowhere/products.csv", "FILE: /nowhere/products.csv cannot be read: No such file or directory"),
        ("events tail nonsense", "there is no topic 'nonsense'; there are: channel.orders, channel.webhooks, orders, stock"),
        ("events tail --type OrderLost", "there is no type 'OrderLost'"),
        ("events tail --count 0", "Invalid value for '--count'"),
        ("customer find", "no customer is named: give --channel with --id, or --email"),
        ("customer export --channel web", "--channel and --id: one is given without the other; together they name a customer"),
        ("customer erase --id ada --reason x --yes", "--channel and --id: one is given without the other"),
        ("customer erase --email a@b.c --yes", "Missing option '--reason'"),
        ("dead-letters list --service sales", "'sales' is not one of 'capture', 'inventory'"),
        ("dead-letters redrive inventory R-1 --letter-id x", "--letter-id: names the dead letter for --value or --discard"),
        ("dead-letters redrive inventory R-1 --discard", "--letter-id: names the dead letter for --value or --discard"),
        ("dead-letters redrive inventory R-1 --letter-id x --discard --value -", "--discard: a dead letter that is dropped has no --value"),
    ],
)
def test_wrong_usage_is_one_line_of_error(oms: Run, connected: FakeConnections, words: str, expected: str) -> None:
    [line] = errors(oms(*words.split()), 2)
    assert expected in line
    assert connected.published == []
