"""The broker's jars come from a registry that may be unreachable or wrong."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
from oms_local import jars
from oms_local.errors import StackError
from oms_local.ports import find_free


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMS_STACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry that responds to every request with the same bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"not a jar")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OMS_STACK_MAVEN_REPOSITORY", f"http://127.0.0.1:{server.server_port}")
        yield "not a jar"
        server.shutdown()
        thread.join()


def no_progress(text: str) -> None:
    del text


def test_an_unreachable_registry_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    monkeypatch.setenv("OMS_STACK_MAVEN_REPOSITORY", f"http://127.0.0.1:{find_free()}")
    with pytest.raises(StackError, match=r"cannot download .*OMS_STACK_MAVEN_REPOSITORY"):
        jars.fetch(no_progress)
    assert list((empty_cache / "jars").iterdir()) == []


def test_a_jar_that_is_not_the_locked_one_is_refused(registry: str, empty_cache: Path) -> None:
    with pytest.raises(StackError, match=rf"SHA-256 {hashlib.sha256(registry.encode()).hexdigest()}, not the locked"):
        jars.fetch(no_progress)
    assert list((empty_cache / "jars").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OMS_STACK_CACHE", str(tmp_path / "file"))
    with pytest.raises(StackError, match="OMS_STACK_CACHE"):
        jars.fetch(no_progress)


def test_the_lock_has_versions_and_hashes_and_no_address() -> None:
    lines = files("oms_local").joinpath("jars.lock").read_text().splitlines()
    assert "http" not in "".join(lines)
    for line in lines[1:]:
        coordinates, digest = line.split()
        assert len(coordinates.split(":")) == 3
        assert len(bytes.fromhex(digest)) == 32
