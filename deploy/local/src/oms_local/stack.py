"""The local stack: up, down, and what is in between.

Seven services, their broker and their database server run as processes of this machine. Everything a stack has lies in its data folder:

    kafka/ postgres/    data
    secrets/            passwords, and the broker's configuration, which holds some
    log/                one file a part
    run/                the supervisor's lock, socket and process list
"""

import errno
import http.client
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
from oms_contracts.catalogue import TOPICS

from oms_local import jars, kafka_server, passwords, postgres_server, provision
from oms_local.control import Control
from oms_local.errors import StackError
from oms_local.passwords import ADMIN
from oms_local.ports import LOOPBACK, answers, is_free
from oms_local.settings import SERVICES, StackSettings
from oms_local.sql import database_is_ready, run_to_end
from oms_local.supervisor import Part, hold

__all__ = ["PartStatus", "Stack", "StackError", "StackSettings"]

SERVERS = (postgres_server.NAME, kafka_server.NAME)
PORT_SETTINGS = {kafka_server.NAME: "OMS_STACK_KAFKA_PORT", postgres_server.NAME: "OMS_STACK_POSTGRES_PORT"}
PATIENCE_SECONDS = 120
SMALLEST_DISK = 300 * 1024 * 1024
MAX_RESTARTS = 3
"""A part that ended this often while we waited for it is not coming."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """How a part stands. `ready` means that it answers, not only that it runs."""

    name: str
    pid: int | None
    state: Literal["running", "starting", "restarting", "stopped"]
    restarts: int
    port: int
    ready: bool


def say(text: str) -> None:
    """Progress as a line on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # it is for a person


class Stack:
    """One stack, up or not. Several of these may speak of the same stack, from several processes."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self._control = Control(settings.data / "run")

    def up(
        self,
        *,
        services: Iterable[str] | None = None,
        environment: Mapping[str, str] | None = None,
        progress: Progress = say,
        owner: int | None = None,
    ) -> None:
        """Start what does not run yet, and return when every part answers.

        `services` are those to start (None: all; empty: only broker and database). `environment` is for those this call starts.
        With `owner`, a process id, the stack goes down by itself when that process has ended. Raises StackError; what was down before is
        down again then.
        """
        chosen = tuple(SERVICES if services is None else services)
        _check_installed(chosen)
        with self._alone(), _explained(self.settings.data):
            fresh = not self._control.running()
            if fresh:
                self._start_supervisor(owner, progress)
            try:
                self._check_same_ports()
                self._start(chosen, environment or {}, progress)
            except BaseException:  # also an interrupted start must leave no process behind; it is raised on
                if fresh:
                    self._control.end()
                raise

    def down(self) -> None:
        """Stop everything in order: services, broker, database. Nothing of the data is lost. Does nothing where nothing runs."""
        if not self._folder("run").exists():
            return
        self._control.end()
        if (self._folder("kafka")).exists():
            kafka_server.keep_start_cache(self._folder("kafka"))

    def abandon(self) -> None:
        """End everything at once, as a crash would: for a stack whose data is about to be thrown away."""
        self._control.abandon()

    def status(self) -> list[PartStatus]:
        """Every part that the stack has been asked to run; nothing while it is down."""
        result: list[PartStatus] = []
        for report in self._control.reports():
            ready = report.state == "running" and self._is_ready(report.name)
            state = "starting" if report.state == "running" and not ready else report.state
            result.append(
                PartStatus(
                    name=report.name, pid=report.pid, state=state, restarts=report.restarts, port=self._port_of(report.name), ready=ready
                )
            )
        order = (*SERVERS, *SERVICES)
        return sorted(result, key=lambda part: order.index(part.name))

    def kill(self, part: str, signal: int = signal.SIGKILL) -> None:
        """Do a part harm. The supervisor starts it again."""
        self._control.signal(part, int(signal))

    def stop_part(self, part: str) -> None:
        """Take a part away, in order, until `start_part`."""
        self._control.stop_part(part)

    def start_part(self, part: str) -> None:
        """Bring a part back, and wait until it answers."""
        self._control.start_part(part)
        self._wait_for(part)

    def kafka(self, user: str) -> dict[str, str]:
        """How a broker user (or `admin`) reaches the broker: `bootstrap_servers`; `username` and `password` if it asks for them."""
        if self.settings.brokers is not None:
            return dict(self.settings.brokers)
        known = self._passwords().kafka
        if user not in known:
            raise StackError(f"there is no broker user {user}. There are: {', '.join(known)}.")
        return {"bootstrap_servers": f"{LOOPBACK}:{self.settings.kafka_port}", "username": user, "password": known[user]}

    def database_url(self, service: str) -> str:
        """The URL by which a service opens its own database; for `admin` the superuser's."""
        if service in self.settings.databases:
            return self.settings.databases[service]
        known = self._passwords().postgres
        if service not in known:
            raise StackError(f"there is no database of {service}. There are: {', '.join(known)}.")
        role, database = (postgres_server.SUPERUSER, "postgres") if service == ADMIN else (f"oms_{service}",) * 2
        return f"postgresql://{role}:{known[service]}@{LOOPBACK}:{self.settings.postgres_port}/{database}"

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service's process."""
        broker = self.kafka(service)
        variables = {
            "OMS_KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
            "OMS_DATABASE_URL": self.database_url(service),
            "OMS_HTTP_HOST": LOOPBACK,
            "OMS_HTTP_PORT": str(self._port_of(service)),
            "OMS_INSTANCE": "1",  # one process a service, whose successor need not wait until a killed one's session has run out
            "OMS_LOG_LEVEL": os.environ.get("OMS_LOG_LEVEL", "INFO"),
        }
        if "username" in broker:
            variables |= {"OMS_KAFKA_USERNAME": broker["username"], "OMS_KAFKA_PASSWORD": broker["password"]}
        return variables

    def _start_supervisor(self, owner: int | None, progress: Progress) -> None:
        left = self._control.start(self._folder("log") / "supervisor.log", owner)
        if left:
            progress(f"cleared up {left} processes that an earlier stack had left behind")
        chosen = {name: getattr(self.settings, name) for name in ("kafka_port", "postgres_port", "http_port")}
        (self._folder("run") / "ports").write_text(json.dumps(chosen))

    def _start(self, services: tuple[str, ...], environment: Mapping[str, str], progress: Progress) -> None:
        running = {report.name for report in self._control.reports() if report.state != "stopped"}
        servers = [name for name in SERVERS if self._own(name)]
        missing = [name for name in (*servers, *services) if name not in running]
        self._check_ports(missing)
        known = passwords.load_or_make(self._folder("secrets"))
        self._start_servers([name for name in servers if name in missing], progress)
        self._provision(known, progress)
        wanted = [name for name in services if name in missing]
        if wanted:
            progress(f"starting {', '.join(wanted)}")
        for name in wanted:
            self._control.run(self._service_part(name, environment))
        for name in (*servers, *services):
            self._wait_for(name)
        progress("the stack is up" if missing else "the stack was up already")

    def _start_servers(self, names: list[str], progress: Progress) -> None:
        if postgres_server.NAME in names:
            server = self._server()
            postgres_server.prepare(server, progress)
            self._control.run(postgres_server.part(server, stage=0))
        if kafka_server.NAME in names:
            broker = self._broker()
            class_path = jars.fetch(progress)
            kafka_server.prepare(broker, class_path, progress)
            self._control.run(kafka_server.part(broker, class_path, stage=1))
        if names:
            progress(f"starting {' and '.join(names)}")
        for name in names:
            self._wait_for(name)

    def _provision(self, known: passwords.Passwords, progress: Progress) -> None:
        progress("checking topics, users and databases")
        admin = provision.make_admin(self.kafka(ADMIN))
        count = self.settings.partitions
        provision.provision_topics(admin, [replace(topic, partitions=count or topic.partitions) for topic in TOPICS])
        if self._own(kafka_server.NAME):
            provision.provision_users(admin, known.kafka)
        if self._own(postgres_server.NAME):
            roles = {service: known.postgres[service] for service in SERVICES if service not in self.settings.databases}
            run_to_end(lambda: provision.provision_databases(self.database_url(ADMIN), roles))

    def _service_part(self, service: str, environment: Mapping[str, str]) -> Part:
        return Part(
            name=service,
            arguments=(sys.executable, "-P", "-m", f"oms_{service}"),
            environment={**os.environ, **environment, **self.environment(service), "PYTHONUNBUFFERED": "1"},
            folder=str(self.settings.data),
            log=str(self._folder("log") / f"{service}.log"),
            stage=2,
            patience=30,
        )

    def _broker(self) -> kafka_server.Broker:
        return kafka_server.Broker(
            folder=self._folder("kafka"),
            secret=self._folder("secrets") / "kafka.properties",
            log=self._folder("log") / "kafka.log",
            port=self.settings.kafka_port,
            controller_port=self._controller_port(),
            password=self._passwords().kafka[ADMIN],
        )

    def _controller_port(self) -> int:
        """The next port above the broker's that is nobody's; nobody but the broker itself ever needs to know it."""
        taken = {self._port_of(name) for name in (*SERVERS, *SERVICES)}
        return next(port for port in range(self.settings.kafka_port + 1, 65_536) if port not in taken and is_free(port))

    def _server(self) -> postgres_server.Server:
        return postgres_server.Server(
            folder=self._folder("postgres"),
            log=self._folder("log") / "postgres.log",
            port=self.settings.postgres_port,
            password=self._passwords().postgres[ADMIN],
        )

    def _own(self, server: str) -> bool:
        """Whether the stack runs this server itself."""
        if server == kafka_server.NAME:
            return self.settings.brokers is None
        return not set(SERVICES) <= set(self.settings.databases)

    def _port_of(self, part: str) -> int:
        if part == kafka_server.NAME:
            return self.settings.kafka_port
        if part == postgres_server.NAME:
            return self.settings.postgres_port
        return self.settings.http_port + SERVICES.index(part)

    def _is_ready(self, part: str) -> bool:
        if part == kafka_server.NAME:
            return answers(self.settings.kafka_port) and provision.broker_is_ready(self.kafka(ADMIN))
        if part == postgres_server.NAME:
            return database_is_ready(self.database_url(ADMIN))
        return _says_ready(self._port_of(part))

    def _wait_for(self, name: str) -> None:
        """Until a part answers. Raises StackError when it keeps ending, or takes longer than anything takes."""
        before = {report.name: report.restarts for report in self._control.reports()}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready(name):
            report = next((report for report in self._control.reports() if report.name == name), None)
            if report is None:
                raise StackError(f"the supervisor ended while {name} was starting. Its log may say why: {self._log_of('supervisor')}")
            failed = report.restarts - before.get(name, 0) >= MAX_RESTARTS
            if failed or time.monotonic() > deadline:
                what = f"keeps ending (exit code {report.last_exit})" if failed else f"is not ready after {PATIENCE_SECONDS} s"
                raise StackError(f"{name} {what}. The end of its log, {self._log_of(name)}:\n{_tail(self._log_of(name))}")
            time.sleep(0.05)

    def _log_of(self, part: str) -> Path:
        return self._folder("log") / f"{part}.log"

    def _check_ports(self, parts: Iterable[str]) -> None:
        for part in parts:
            port = self._port_of(part)
            if not is_free(port):
                setting = PORT_SETTINGS.get(part, "OMS_STACK_HTTP_PORT")
                raise StackError(
                    f"port {port}, which {part} needs, is in use{_by_whom(port)}. Stop that program, or set {setting} to another port."
                )

    def _check_same_ports(self) -> None:
        try:
            chosen: dict[str, int] = json.loads((self._folder("run") / "ports").read_text())
        except (FileNotFoundError, ValueError):
            return
        other = {name: port for name, port in chosen.items() if getattr(self.settings, name) != port}
        if other:
            ports = ", ".join(f"OMS_STACK_{name.upper()}={port}" for name, port in other.items())
            raise StackError(
                f"the stack in {self.settings.data} is up already (supervisor: process {self._control.pid()}) with other ports: {ports}. "
                "Set the same, or take it down first."
            )

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Let one process at a time bring the stack up."""
        with _explained(self.settings.data):
            self._make_folders()
            lock = hold(self._folder("run"), "up")
        if lock is None:
            raise StackError(f"another process is bringing up the stack in {self.settings.data}. Wait for it.")
        try:
            yield
        finally:
            os.close(lock)

    def _make_folders(self) -> None:
        # Run by root, the database server is another user, who must be able to pass the data folder.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self.settings.data.mkdir(parents=True, exist_ok=True, mode=mode)
        for name in ("secrets", "log", "run"):
            self._folder(name).mkdir(exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self.settings.data).free
        if free < SMALLEST_DISK:
            raise OSError(errno.ENOSPC, f"only {free // 1024**2} MB are free")

    def _folder(self, name: str) -> Path:
        return self.settings.data / name

    def _passwords(self) -> passwords.Passwords:
        return passwords.load(self._folder("secrets"))


def _check_installed(services: Iterable[str]) -> None:
    for service in services:
        if service not in SERVICES:
            raise StackError(f"there is no service {service}. There are: {', '.join(SERVICES)}.")
        if importlib.util.find_spec(f"oms_{service}") is None:
            raise StackError(f"the service {service} is not installed here. Install the workspace (`make setup`), then try again.")


@contextmanager
def _explained(folder: Path) -> Generator[None]:
    """Say what to do about a disk that is full or closed to us."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StackError(
                f"no space left at {place} ({error.strerror}). Free some, or set OMS_STACK_DATA to a folder on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise StackError(f"cannot write {place}: {error.strerror}. Set OMS_STACK_DATA to a folder you may write to.") from error
        raise


def _says_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=3)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            address: Any = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # not everybody may know
    return ""


def _tail(log: Path, lines: int = 12) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(empty)"
