"""How `oms` is called: help, errors, exit codes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from oms_cli.app import app
from typer.main import get_command

from libs.cli.tests.fakes import FakeConnections, Run, errors

READ_MODELS = ("build", "status", "switch", "drop", "verify")
JSON_ALONE = {"order example", "order export", "customer export", *(f"read-models {name}" for name in READ_MODELS)}
"""Commands that print JSON or CSV anyway."""


def commands_of(group: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """Every command of the command line, by its words."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands_of(command, *words, name)
        else:
            yield " ".join((*words, name)), command


COMMANDS = {words: command for words, command in commands_of(get_command(app)) if not words.startswith("stack ")}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_an_example(oms: Run, command: str) -> None:
    result = oms(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: oms {command}".strip() in result.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - JSON_ALONE))
def test_every_command_can_answer_in_json(command: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[command].params)


def test_the_page_names_every_command() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    lines = page.partition("| command |")[2].partition("\n\n")[0].splitlines()

    def has_a_line(words: str) -> bool:
        group, _, name = words.rpartition(" ")
        return any(f"`oms {words}" in line or (f"| `oms {group} " in line and f"`{name}" in line) for line in lines)

    assert [words for words in COMMANDS if not has_a_line(words)] == []


def test_the_version_is_that_of_the_package(oms: Run) -> None:
    assert oms("--version").stdout == f"oms {version('orderstream-cli')}\n"


@pytest.mark.parametrize(("typed", "expected"), [("oms fulf", "fulfillment"), ("oms order can", "cancel"), ("oms package sc", "scan")])
def test_a_shell_completes_commands(typed: str, expected: str) -> None:
    words = typed.split()
    asked = {"_OMS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'oms'; from oms_cli.app import main; main()"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [expected]


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "oms"
    program.write_text(f"#!{sys.executable}\nfrom oms_cli.app import main\nmain()\n")
    program.chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    # The shell is the one that runs the program: a command after it keeps bash from becoming the program itself.
    subprocess.run(["bash", "--norc", "-c", "oms --install-completion; exit $?"], env=environment, capture_output=True, check=True)
    typed = "COMP_WORDS=(oms key ro); COMP_CWORD=2; _oms_completion oms; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f". {tmp_path}/.bashrc; {typed}"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "rotate\n"


def test_the_help_of_a_programs_command_lists_the_options_of_the_program(oms: Run) -> None:
    shown = oms("read-models", "build", "--help").stdout
    assert "--max-events-per-second N" in shown
    assert "--again" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("user list", "--url: is not given; it, or OMS_URL, names the gateway, which has users and keys; OMS_KEY is a key for it"),
        ("user show ada", "--url: is not given"),
        ("user set-password ada", "--url: is not given"),
        ("user change ada", "nothing is to be changed: give --role, --display-name, --location or --all-locations"),
        ("user change ada --location BER --all-locations", "--all-locations: cannot be given with --location"),
        ("key create till --scope orders:place", "--url: is not given"),
        ("key list", "--url: is not given"),
        ("audit-trail list", "--url: is not given"),
    ],
)
def test_what_needs_the_gateway_says_how_to_name_it(oms: Run, words: str, expected: str) -> None:
    [line] = errors(oms(*words.split()), 2)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("order sow", "No such command 'sow'. Did you mean 'show'? See oms order --help"),
        ("fulfilment list", "No such command 'fulfilment'. Did you mean 'fulfillment'? See oms --help"),
        ("order frobnicate", "No such command 'frobnicate'; see oms order --help"),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest_one(oms: Run, words: str, expected: str) -> None:
    assert errors(oms(*words.split()), 2) == [expected]


@pytest.mark.parametrize("words", ["order show", "fulfillment show", "return show", "payment show", "package scan"])
def test_an_order_that_is_not_known_is_answered_with_how_to_list_them(oms: Run, words: str) -> None:
    more = ["lost"] if words == "package scan" else []
    [line] = errors(oms(*words.split(), "web/W-404", *more), 1)
    assert line == "it is not known here; ask again in a moment; `oms order list` shows the orders that are known"


def test_the_help_lists_the_exit_codes(oms: Run) -> None:
    text = " ".join(oms("--help").stdout.split())
    assert "0 fine; 1 not found, refused, or not the outcome that was asked for; 2 invalid usage or input; 3 the stack or a server" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("order show", "Missing argument 'ORDER'; see oms order show --help"),
        ("order show W-1", "'W-1' is neither an order id (a UUID) nor CHANNEL/REFERENCE, such as web/W-1001; see oms order show --help"),
        ("order show /W-1", "'/W-1' is neither an order id"),
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
