"""`python -m oms_local up|down|status`: the stack without the operator's command line."""

import argparse
import sys

from oms_local.stack import Stack, StackError, StackSettings


def main() -> None:
    """Do what the arguments say; exit with 1 and the reason when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m oms_local", description="The local stack: Kafka, PostgreSQL and the services.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what does not run yet, and wait until it is ready")
    up.add_argument("services", nargs="*", help="these services only (default: all)")
    up.add_argument("--servers-only", action="store_true", help="broker and database only")
    commands.add_parser("down", help="stop everything; the data stays")
    commands.add_parser("status", help="what runs")
    arguments = parser.parse_args()
    try:
        stack = Stack(StackSettings.from_environment())
        if arguments.command == "up":
            stack.up(services=() if arguments.servers_only else arguments.services or None)
        elif arguments.command == "down":
            stack.down()
        else:
            _show(stack)
    except StackError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _show(stack: Stack) -> None:
    parts = stack.status()
    if not parts:
        sys.exit("the stack is down")
    for part in parts:
        ready = "ready" if part.ready else "not ready"
        line = f"{part.name:<12} {part.state:<10} {ready:<9} port {part.port:<5} process {part.pid or '-'} restarts {part.restarts}"
        print(line)  # noqa: T201  # it is what was asked for


if __name__ == "__main__":
    main()
