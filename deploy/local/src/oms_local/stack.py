"""The local stack: start it, stop it, look at it, and take its parts away for tests.

The services, their broker and their database server run as processes of this machine. Everything a stack has is in its data folder:

    kafka/ postgres/    data
    secrets/            passwords, and the broker's configuration, which holds some
    log/                one file for each part
    run/                the supervisor's lock, socket and process list
"""

import errno
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
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from oms_contracts.catalogue import APIS, GATEWAY, PERSONAL_DATA_PROCESSES, PROGRAMS, QUERY_TOKEN_PROCESSES, TOPICS, party_topics
from oms_contracts.parties import party_of
from oms_provision import broker, databases, parties, passwords
from oms_provision.passwords import ADMIN, Passwords
from oms_provision.sql import database_is_ready, run_to_end

from oms_local import jars, kafka_server, postgres_server, shops
from oms_local.control import Control
from oms_local.errors import StackError, as_stack_errors
from oms_local.parts import Part
from oms_local.ports import LOOPBACK, accepts_connections, http_is_ready, is_free, user_of
from oms_local.run_folder import take_lock
from oms_local.settings import StackSettings
from oms_local.tls import Tls, programs_with_tls

__all__ = ["PartStatus", "Stack", "StackError", "StackSettings"]

SERVERS = (postgres_server.NAME, kafka_server.NAME)
PORT_SETTINGS = {kafka_server.NAME: "OMS_STACK_KAFKA_PORT", postgres_server.NAME: "OMS_STACK_POSTGRES_PORT"}
READY_TIMEOUT_SECONDS = 120
SERVICE_STOP_TIMEOUT_SECONDS = 30
MIN_FREE_DISK_BYTES = 300 * 1024 * 1024
MAX_RESTARTS = 3
"""A part that ended this often while we waited for it will not become ready."""
LOG_EXCERPT_LINES = 12
PARTIES_FILE = "parties.json"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """The state of a part. `ready` means that it responds, not only that its process runs.

    `port` is where a server or an API is used, and where a service has health and metrics.
    """

    name: str
    pid: int | None
    state: Literal["running", "starting", "restarting", "stopped"]
    restarts: int
    port: int
    ready: bool


def print_progress(text: str) -> None:
    """Progress as a line on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # it is for a person


class Stack:
    """One stack, up or not. Several of these objects, in several processes, may refer to the same stack."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self._control = Control(settings.data / "run")

    def up(
        self,
        *,
        services: Iterable[str] | None = None,
        environment: Mapping[str, str] | None = None,
        progress: Progress = print_progress,
        owner: int | None = None,
    ) -> None:
        """Start what does not run yet, and return when every part is ready.

        `services` are those to start, each with its API, and the gateway (None: all; empty: only broker and database). `environment` is for
        those that this call starts.
        With `owner`, a process id, the stack goes down by itself when that process has ended. Raises StackError; if the stack was down
        before, it is down again then.
        """
        chosen = tuple(PROGRAMS if services is None else services)
        _check_installed(chosen)
        parts = tuple(self.settings.parts_of(chosen))
        with self._locked(), as_stack_errors(self.settings.data):
            was_down = not self._control.running()
            if was_down:
                self._start_supervisor(owner, progress)
            try:
                self._check_same_ports()
                self._start(parts, environment or {}, progress)
            except BaseException:  # also an interrupted start must leave no process behind; the exception is raised again
                if was_down:
                    self._control.end()
                raise

    def down(self) -> None:
        """Stop everything in order: services, broker, database. All data is kept. Does nothing if nothing runs."""
        if not self._folder("run").exists():
            return
        self._control.end()
        if self._folder("kafka").exists():
            kafka_server.keep_start_cache(self._folder("kafka"))

    def abandon(self) -> None:
        """Kill everything at once, as a crash would: for a stack whose data is thrown away next."""
        self._control.abandon()

    def status(self) -> list[PartStatus]:
        """Every part that the stack was asked to run; empty while the stack is down."""
        result: list[PartStatus] = []
        for report in self._control.reports():
            ready = report.state == "running" and self._is_ready(report.name)
            state = "starting" if report.state == "running" and not ready else report.state
            result.append(
                PartStatus(
                    name=report.name,
                    pid=report.pid,
                    state=state,
                    restarts=report.restarts,
                    port=self._ports_of(report.name)[0],
                    ready=ready,
                )
            )
        order = (*SERVERS, *self.settings.parts_of(PROGRAMS))
        return sorted(result, key=lambda part: order.index(part.name))

    def kill(self, part: str, signal: int = signal.SIGKILL) -> None:
        """Send a signal to a part. If that ends it, the supervisor starts it again."""
        self._control.signal(part, int(signal))

    def stop_part(self, part: str) -> None:
        """Stop a part in order. It stays down until `start_part`."""
        self._control.stop_part(part)

    def start_part(self, part: str) -> None:
        """Start a part that was stopped, and wait until it is ready."""
        self._control.start_part(part)
        self._wait_until_ready(part)

    def kafka(self, user: str) -> dict[str, str]:
        """How a broker user (or `admin`) connects: `bootstrap_servers`; `username` and `password` if the broker authenticates.

        A party's user, such as `channel:web`, is made where it is missing, with its topics. With TLS also
        `security_protocol`, `ca_file`, `certificate_file` and `key_file`. The names are the ends of `OMS_KAFKA_…` variables.
        """
        if (party := party_of(user)) is not None:
            return self._party(user, *party)
        if self.settings.brokers is not None:
            return dict(self.settings.brokers)
        by_user = self._passwords().kafka
        if user not in by_user:
            raise StackError(f"there is no broker user {user}. There are: {', '.join(by_user)}.")
        connection = {"bootstrap_servers": f"{LOOPBACK}:{self.settings.kafka_port}", "username": user, "password": by_user[user]}
        return connection | (self._tls.of_kafka_client() if self._tls is not None else {})

    def _party(self, user: str, kind: str, name: str) -> dict[str, str]:
        """How a party connects. Where its password is not known here, it is made, or gets a new one."""
        file = self._folder("secrets") / PARTIES_FILE
        with as_stack_errors(self._folder("secrets")):
            known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
            if user not in known and not self._runs_itself(kafka_server.NAME):
                broker.provision_topics(self._admin, party_topics(kind, name))
            elif user not in known:
                _, password = parties.add(self._admin, kind, name, parties.make_password())
                known[user] = password or ""
                passwords.write_secret(file, json.dumps(known, indent=1))
        if self.settings.brokers is not None:
            return dict(self.settings.brokers)
        return self.kafka(ADMIN) | {"username": user, "password": known[user]}

    def database_url(self, service: str) -> str:
        """The URL by which a service opens its own database; for `admin` the superuser's."""
        if service in self.settings.databases:
            return self.settings.databases[service]
        by_service = self._passwords().postgres
        if service not in by_service:
            raise StackError(f"there is no database of {service}. There are: {', '.join(by_service)}.")
        role, database = (postgres_server.SUPERUSER, "postgres") if service == ADMIN else (f"oms_{service}",) * 2
        url = f"postgresql://{role}:{by_service[service]}@{LOOPBACK}:{self.settings.postgres_port}/{database}"
        return url + (self._tls.of_database_url() if self._tls is not None else "")

    def query_url(self) -> str:
        """The URL of projection's query API."""
        return f"http://{LOOPBACK}:{self.settings.http_port_of('projection')}"

    def query_token(self) -> str:
        """The credential of projection's query API."""
        return self._passwords().query_token

    def shops(self) -> dict[str, dict[str, Any]]:
        """The shops that send webhooks, by channel, as `OMS_SHOPS` has them. Their secrets are made once, like passwords."""
        with as_stack_errors(self._folder("secrets")):
            return shops.load_or_make(self._folder("secrets"))

    def environment(self, part: str) -> dict[str, str]:
        """The variables of a service's process, of an API's, or of `provision`, the super user's: no more than it needs."""
        if part == "provision":
            return {f"KAFKA_{name.upper()}": value for name, value in self.kafka(ADMIN).items()}
        program, replica = self.settings.parts_of(PROGRAMS)[part]
        variables = {
            "OMS_HTTP_HOST": LOOPBACK,
            "OMS_OPERATIONS_PORT": str(self.settings.operations_port_of(part)),
            "OMS_LOG_LEVEL": os.environ.get("OMS_LOG_LEVEL", "INFO"),
        }
        if part in APIS:
            variables["OMS_HTTP_PORT"] = str(self.settings.http_port_of(program))
        else:
            variables["OMS_INSTANCE"] = str(replica)  # its successor need not wait until a killed one's session has timed out
        if part != "projection-api":
            variables |= {f"OMS_KAFKA_{name.upper()}": value for name, value in self.kafka(program).items()}
        if part == GATEWAY:
            variables["OMS_SHOPS"] = json.dumps(self.shops())
            variables["OMS_QUERY_URL"] = self.query_url()
            variables["OMS_SESSION_COOKIE_SECURE"] = "false"  # it is reached by http, on this machine alone
        variables["OMS_DATABASE_URL"] = self.database_url(program)
        if (part if part in APIS else program) in PERSONAL_DATA_PROCESSES:
            variables["OMS_PERSONAL_DATA_KEY"] = self._passwords().personal_data_key
        if part in QUERY_TOKEN_PROCESSES:
            variables["OMS_QUERY_TOKEN"] = self.query_token()
        return variables

    def _start_supervisor(self, owner: int | None, progress: Progress) -> None:
        killed = self._control.start(self._folder("log") / "supervisor.log", owner)
        if killed:
            progress(f"killed {killed} processes that an earlier stack had left behind")
        ports = {name: getattr(self.settings, name) for name in ("kafka_port", "postgres_port", "http_port", "tls")}
        (self._folder("run") / "ports").write_text(json.dumps(ports))

    def _start(self, parts: tuple[str, ...], environment: Mapping[str, str], progress: Progress) -> None:
        running = {report.name for report in self._control.reports() if report.state != "stopped"}
        servers = [name for name in SERVERS if self._runs_itself(name)]
        missing = [name for name in (*servers, *parts) if name not in running]
        self._check_ports(missing)
        all_passwords = passwords.load_or_make(self._folder("secrets"))
        if self._tls is not None:
            self._tls.make()
        self._start_servers([name for name in servers if name in missing], progress)
        self._provision(all_passwords, progress)
        missing_parts = [name for name in parts if name in missing]
        if missing_parts:
            progress(f"starting {', '.join(missing_parts)}")
        for name in missing_parts:
            self._control.run(self._service_part(name, environment))
        for name in (*servers, *parts):
            self._wait_until_ready(name)
        progress("the stack is up" if missing else "the stack was up already")

    def _start_servers(self, names: list[str], progress: Progress) -> None:
        if postgres_server.NAME in names:
            server = self._postgres_server()
            postgres_server.prepare(server, progress)
            self._control.run(postgres_server.part(server, stage=0))
        if kafka_server.NAME in names:
            server = self._kafka_server()
            class_path = jars.fetch(progress)
            kafka_server.prepare(server, class_path, progress)
            self._control.run(kafka_server.part(server, class_path, stage=1))
        if names:
            progress(f"starting {' and '.join(names)}")
        for name in names:
            self._wait_until_ready(name)

    def _provision(self, all_passwords: Passwords, progress: Progress) -> None:
        progress("checking topics, users and databases")
        admin, count = self._admin, self.settings.partitions
        topics = [replace(topic, partitions=count or topic.partitions) for topic in TOPICS]
        broker.provision_topics(admin, [*topics, *broker.topics_of_parties(admin)])
        if self._runs_itself(kafka_server.NAME):
            broker.provision_users(admin, all_passwords.kafka)
        if self._runs_itself(postgres_server.NAME):
            roles = {program: all_passwords.postgres[program] for program in PROGRAMS if program not in self.settings.databases}
            run_to_end(lambda: databases.provision_databases(self.database_url(ADMIN), roles))

    def _service_part(self, part: str, environment: Mapping[str, str]) -> Part:
        program, _ = self.settings.parts_of(PROGRAMS)[part]
        command = (sys.executable, "-P", "-m", f"oms_{program}")
        return Part(
            name=part,
            arguments=(*command, "api") if part in APIS and part != program else command,
            environment={**os.environ, **environment, **self.environment(part), "PYTHONUNBUFFERED": "1"},
            folder=str(self.settings.data),
            log=str(self._log_of(part)),
            stage=2,
            stop_timeout_seconds=SERVICE_STOP_TIMEOUT_SECONDS,
        )

    def _kafka_server(self) -> kafka_server.Broker:
        return kafka_server.Broker(
            folder=self._folder("kafka"),
            secret=self._folder("secrets") / "kafka.properties",
            log=self._log_of(kafka_server.NAME),
            port=self.settings.kafka_port,
            controller_port=self._controller_port(),
            password=self._passwords().kafka[ADMIN],
            tls=self._tls,
        )

    def _controller_port(self) -> int:
        """The next free port above the broker's. It may change with every start: only the broker itself uses it."""
        taken = {port for name in (*SERVERS, *self.settings.parts_of(PROGRAMS)) for port in self._ports_of(name)}
        return next(port for port in range(self.settings.kafka_port + 1, 65_536) if port not in taken and is_free(port))

    def _postgres_server(self) -> postgres_server.Server:
        return postgres_server.Server(
            folder=self._folder("postgres"),
            log=self._log_of(postgres_server.NAME),
            port=self.settings.postgres_port,
            password=self._passwords().postgres[ADMIN],
            programs=self.settings.postgres_programs if self._tls is None else programs_with_tls(self.settings.postgres_programs),
            tls=self._tls,
        )

    @cached_property
    def _admin(self) -> Any:
        """One client for the life of this object: making one for each look at the broker, while that dies, has killed processes."""
        return broker.make_admin(self.kafka(ADMIN))

    @property
    def _tls(self) -> Tls | None:
        return Tls(self._folder("secrets") / "tls") if self.settings.tls else None

    def _runs_itself(self, server: str) -> bool:
        """Whether the stack runs this server, rather than using one that exists already."""
        if server == kafka_server.NAME:
            return self.settings.brokers is None
        return not set(PROGRAMS) <= set(self.settings.databases)

    def _ports_of(self, part: str) -> tuple[int, ...]:
        """The ports of a part, first the one by which it is used."""
        if part == kafka_server.NAME:
            return (self.settings.kafka_port,)
        if part == postgres_server.NAME:
            return (self.settings.postgres_port,)
        operations = (self.settings.operations_port_of(part),)
        return (self.settings.http_port_of(APIS[part]), *operations) if part in APIS else operations

    def _is_ready(self, part: str) -> bool:
        if part == kafka_server.NAME:
            return accepts_connections(self.settings.kafka_port) and broker.responds(self._admin)
        if part == postgres_server.NAME:
            return database_is_ready(self.database_url(ADMIN))
        return http_is_ready(self.settings.operations_port_of(part))

    def _wait_until_ready(self, name: str) -> None:
        """Wait until a part responds. Raises StackError if it keeps ending, or is not ready after READY_TIMEOUT_SECONDS."""
        restarts_before = {report.name: report.restarts for report in self._control.reports()}
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not self._is_ready(name):
            report = next((report for report in self._control.reports() if report.name == name), None)
            if report is None:
                raise StackError(f"the supervisor ended while {name} was starting. Its log may say why: {self._log_of('supervisor')}")
            keeps_ending = report.restarts - restarts_before.get(name, 0) >= MAX_RESTARTS
            if keeps_ending or time.monotonic() > deadline:
                unready = f"is not ready after {READY_TIMEOUT_SECONDS} s"
                problem = f"keeps ending (exit code {report.last_exit})" if keeps_ending else unready
                raise StackError(f"{name} {problem}. The end of its log, {self._log_of(name)}:\n{_end_of(self._log_of(name))}")
            time.sleep(0.05)

    def _check_ports(self, parts: Iterable[str]) -> None:
        for part in parts:
            for port in (port for port in self._ports_of(part) if not is_free(port)):
                setting = PORT_SETTINGS.get(part, "OMS_STACK_HTTP_PORT")
                user = user_of(port)
                in_use = f"in use by {user}" if user else "in use"
                raise StackError(f"port {port}, which {part} needs, is {in_use}. Stop that program, or set {setting} to another port.")

    def _check_same_ports(self) -> None:
        try:
            ports: dict[str, int] = json.loads((self._folder("run") / "ports").read_text())
        except (FileNotFoundError, ValueError):
            return
        other = {name: port for name, port in ports.items() if getattr(self.settings, name) != port}
        if other:
            variables = ", ".join(f"OMS_STACK_{name.upper()}={int(port)}" for name, port in other.items())
            raise StackError(
                f"the stack in {self.settings.data} is up already (supervisor: process {self._control.pid()}) with other settings: "
                f"{variables}. Set the same, or take it down first."
            )

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the lock that only one process at a time gets: to bring the stack up. Raises StackError if another process has it."""
        with as_stack_errors(self.settings.data):
            self._make_folders()
            lock = take_lock(self._folder("run"), "up")
        if lock is None:
            raise StackError(f"another process is bringing up the stack in {self.settings.data}. Wait for it.")
        try:
            yield
        finally:
            os.close(lock)

    def _make_folders(self) -> None:
        # If root runs the stack, the database server runs as another user, who must be able to pass through the data folder.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self.settings.data.mkdir(parents=True, exist_ok=True, mode=mode)
        for name in ("secrets", "log", "run"):
            self._folder(name).mkdir(exist_ok=True, mode=0o700)
        free_bytes = shutil.disk_usage(self.settings.data).free
        if free_bytes < MIN_FREE_DISK_BYTES:
            raise OSError(errno.ENOSPC, f"only {free_bytes // 1024**2} MB are free")

    def _folder(self, name: str) -> Path:
        return self.settings.data / name

    def _log_of(self, part: str) -> Path:
        return self._folder("log") / f"{part}.log"

    def _passwords(self) -> Passwords:
        folder = self._folder("secrets")
        if not (folder / passwords.FILE).exists():
            raise StackError(f"there is no stack in {self.settings.data} yet. `oms stack up` makes one.")
        with as_stack_errors(folder):
            return passwords.load(folder)


def _check_installed(services: Iterable[str]) -> None:
    for service in services:
        if service not in PROGRAMS:
            raise StackError(f"there is no service {service}. There are: {', '.join(PROGRAMS)}.")
        if importlib.util.find_spec(f"oms_{service}") is None:
            raise StackError(f"the service {service} is not installed here. Install the workspace (`make setup`), then try again.")


def _end_of(log: Path) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_EXCERPT_LINES:])
    except FileNotFoundError:
        return "(empty)"
