"""A service's process from the outside: signals, logs, the operator's commands, and the HTTP server for operations beside the runtime."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import uvicorn
from starlette.types import ASGIApp

from oms_runtime.checkpoint_tool import reset_checkpoint, show_checkpoints
from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.health import operations_app
from oms_runtime.limits import KEEP_ALIVE_SECONDS, LimitedProtocol
from oms_runtime.logs import configure_logs
from oms_runtime.loop import run_loop
from oms_runtime.model import Service
from oms_runtime.recovery import recover
from oms_runtime.runtime import Runtime
from oms_runtime.settings import OperationsSettings, RuntimeSettings

GRACEFUL_SHUTDOWN_SECONDS = 5
ACCEPTED_AT_ONCE = 16
"""New connections that a server takes before it goes on with the requests of those it has."""
REFUSED, INVALID_USAGE, OUT_OF_REACH = 1, 2, 3
"""The exit codes of an operator's command that was not done; those of `oms`, too."""


def run(service: Service, settings: RuntimeSettings, *, migrations: str | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run a service until SIGTERM or SIGINT.

    With `arguments` (None: those of the program) it does what USAGE says of them instead, prints the result as JSON, and exits.
    """
    configure_logs(service.name, settings.log_level)
    if words := sys.argv[1:] if arguments is None else arguments:
        sys.exit(run_loop(_operate(service, settings, words)))
    run_loop(serve(Runtime(service, settings, migrations=migrations), settings))


def make_server(app: ASGIApp, settings: OperationsSettings, port: int) -> uvicorn.Server:
    """An HTTP server on `port` with the limits of `settings` and `limits`. Its caller handles signals and lifespans."""
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=port,
            http=LimitedProtocol,
            ws="none",
            limit_concurrency=settings.http_max_connections,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        )
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign]  # the signals are ours: the work in hand is finished first
    return server


class _Server(uvicorn.Server):
    """A server whose new connections do not wait long while it is busy.

    uvloop takes one connection from a listening socket, and then does all else that is to be done (libuv pull request 3696): where that
    takes 30 ms, the last of 150 new connections waits for five seconds. So it has the same socket several times.
    """

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        if sockets is None:
            first = self.config.bind_socket()
            sockets = [first, *(first.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]
        await super().serve(sockets)


def stop_signal() -> asyncio.Event:
    """Set when the process is asked to end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


USAGE = """usage, with the service's environment:
  python -m oms_<service>                                                      run the service
  python -m oms_<service> recover [--dry-run]                                  bring events back that a restored store lacks
  python -m oms_<service> checkpoints                                          show them, beside what the broker has
  python -m oms_<service> checkpoints TOPIC/PARTITION begin|end|OFFSET [--dry-run]   set one; then restart the service
Exit codes: 0 done, 1 refused, or store and topics do not agree, 2 usage, 3 a server is out of reach.
"""


async def _operate(service: Service, settings: RuntimeSettings, arguments: Sequence[str]) -> int:
    """Do what an operator asks of a service's store; returns the exit code."""
    dry_run = "--dry-run" in arguments
    words = [word for word in arguments if word != "--dry-run"]
    try:
        match words:
            case ["recover"]:
                report = await recover(service, settings, dry_run=dry_run)
                sys.stdout.write(f"{json.dumps(report)}\n")
                return 0 if report["agrees"] else REFUSED
            case ["checkpoints"]:
                sys.stdout.writelines(f"{json.dumps(row)}\n" for row in await show_checkpoints(settings, service.schema))
            case ["checkpoints", partition, to]:
                report = await reset_checkpoint(settings, partition, to, schema=service.schema, dry_run=dry_run)
                sys.stdout.write(f"{json.dumps(report)}\n")
            case ["--help"] | ["-h"]:
                sys.stdout.write(USAGE)
            case _:
                sys.stderr.write(USAGE)
                return INVALID_USAGE
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    except RETRYABLE_ERRORS as error:
        sys.stderr.write(f"error: {type(error).__name__}: {error}\n")
        return OUT_OF_REACH
    return 0


async def serve(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Run a service until its process is asked to end. Raises RuntimeError where it could consume no more, so that it is begun anew."""
    stop = stop_signal()
    server = make_server(operations_app(runtime, runtime.audit), settings, settings.operations_port)
    # It answers from the beginning: a process that waits for its servers is alive, and says what it waits for.
    serving = asyncio.create_task(server.serve())
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(runtime.start())
    lost_group = False
    await asyncio.wait({starting, serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        await starting
        ended = asyncio.create_task(runtime.consumer.membership.ended.wait())
        await asyncio.wait({serving, stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
        lost_group = ended.done()
        ended.cancel()
        await runtime.stop()
    else:
        starting.cancel()
        await asyncio.wait({starting})
    stopped.cancel()
    server.should_exit = True
    await serving
    if lost_group:
        raise RuntimeError("this process could consume no more, and ended; its log says why. Start it again")
