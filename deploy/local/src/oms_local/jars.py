"""The broker's jars: locked by version and SHA-256, fetched once, kept in the user's cache folder."""

import hashlib
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import platformdirs

from oms_local.errors import StackError

Progress = Callable[[str], None]

DOWNLOAD_SIZE = "46 MB"
DOWNLOAD_TIMEOUT_SECONDS = 60
JARS_PER_PROGRESS_LINE = 15


def cache_folder() -> Path:
    """The folder for files that are the same for every clone of the project; `OMS_STACK_CACHE` names another."""
    chosen = os.environ.get("OMS_STACK_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("orderstream")


def lock_digest() -> str:
    """A short digest that changes with the set of jars."""
    return hashlib.sha256(files("oms_local").joinpath("jars.lock").read_bytes()).hexdigest()[:12]


def fetch(progress: Progress) -> list[Path]:
    """All jars in class path order. Those that are not in the cache are downloaded and checked against the lock.

    A jar gets its name in the cache only after its hash was checked, so a file of that name needs no second check. Raises StackError if a
    jar cannot be downloaded or saved, or is not the locked one.
    """
    folder = cache_folder() / "jars"
    wanted = {_file_name(coordinates): (coordinates, digest) for coordinates, digest in _locked()}
    missing = [name for name in wanted if not (folder / name).exists()]
    if missing:
        progress(f"downloading Kafka's jars ({DOWNLOAD_SIZE}, once on this machine)")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot write to {folder}: {error.strerror}. Set OMS_STACK_CACHE to a folder you may write to.") from error
    for done, name in enumerate(missing, start=1):
        _download(*wanted[name], folder / name)
        if done % JARS_PER_PROGRESS_LINE == 0:
            progress(f"downloaded {done} of {len(missing)} jars")
    return [folder / name for name in wanted]


def _locked() -> list[tuple[str, str]]:
    lines = files("oms_local").joinpath("jars.lock").read_text().splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return [(coordinates, digest) for coordinates, digest in pairs]


def _file_name(coordinates: str) -> str:
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _download(coordinates: str, digest: str, target: Path) -> None:
    # jgo has the address of Maven Central and depends on requests; both are slow to import and needed once.
    import requests  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415

    group, artifact, version = coordinates.split(":")
    repository = os.environ.get("OMS_STACK_MAVEN_REPOSITORY", MAVEN_CENTRAL_URL)
    address = f"{repository}/{group.replace('.', '/')}/{artifact}/{version}/{target.name}"
    try:
        response = requests.get(address, timeout=DOWNLOAD_TIMEOUT_SECONDS)
        response.raise_for_status()
    except requests.RequestException as error:
        raise StackError(
            f"cannot download {coordinates}: {error}. Check the network (HTTPS_PROXY; REQUESTS_CA_BUNDLE), "
            "or set OMS_STACK_MAVEN_REPOSITORY to a mirror; what was downloaded so far is kept."
        ) from error
    found = hashlib.sha256(response.content).hexdigest()
    if found != digest:
        raise StackError(f"{coordinates} has SHA-256 {found}, not the locked {digest}. Do not use it; try another network or mirror.")
    arriving = target.with_suffix(f".{os.getpid()}")
    try:
        arriving.write_bytes(response.content)
        arriving.replace(target)  # in one step: a file with a jar's name is complete
    except OSError as error:
        arriving.unlink(missing_ok=True)
        raise StackError(f"cannot write {target}: {error.strerror}. Free some space, or set OMS_STACK_CACHE to another folder.") from error
