"""The programs of the README: they are the files in `examples`, and they run on a real stack, each as the broker user it is meant for."""

import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode, key_of
from oms_contracts.samples import sample
from oms_local.stack import Stack
from oms_local.testing import local_stack

CLIENT = Path(__file__).parents[1]
EXAMPLES = CLIENT / "examples"
TIMEOUT_SECONDS = 60
KEY = "key-of-the-gateway-in-this-test-"


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack with the services that take an order, publish its status and show it."""
    with local_stack(request.config.rootpath / ".orderstream" / "test") as running:
        running.up(services=("capture", "tracking", "projection", "gateway"), environment={"OMS_GATEWAY_KEY": KEY}, owner=os.getpid())
        yield running


def environment(stack: Stack, user: str) -> Mapping[str, str]:
    """The variables of a client that is a broker user."""
    return {**os.environ, **{f"OMS_KAFKA_{name.upper()}": value for name, value in stack.kafka(user).items()}}


@contextmanager
def running(stack: Stack, user: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """An example as a process of its own."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=EXAMPLES, env=environment(stack, user), stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_programs_in_the_readme_are_the_files() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks == [(EXAMPLES / name).read_text() for name in ("status_consumer.py", "channel.py")]


def test_an_order_of_the_channel_shows_in_the_query_api_and_in_the_consumer(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: OrderPlaced = sample(OrderPlaced)
    file = tmp_path / "order.json"
    file.write_bytes(encode(order))
    monkeypatch.setenv("OMS_KEY", KEY)
    url = f"http://127.0.0.1:{stack.settings.http_port_of('gateway')}/api/v1"
    with running(stack, "channel:web", "channel.py", str(file), url) as channel:
        output, _ = channel.communicate(timeout=TIMEOUT_SECONDS)
    assert output == f"{key_of(order)} accepted\n"

    with running(stack, "downstream", "status_consumer.py") as consumer:
        assert consumer.stdout is not None
        # FastStream's log is on standard output, too.
        assert next(line for line in consumer.stdout if line.startswith(key_of(order))) == f"{key_of(order)} 1 accepted\n"
