"""Programs in other languages, written from the published contract alone, each place an order and follow it to its end.

Their toolchains come with the machine, their libraries from npm, Go's proxy and Maven, once, into `.orderstream/outsiders`.
"""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from oms_client.publisher import Publisher
from oms_contracts.message import encode, key_of
from oms_contracts.samples import example_order
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_demo.responses import responses_by_user
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local.stack import Stack
from oms_runtime.clock import utc_now

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PUBLISHED = ROOT / "libs/contracts/published"
BUILD_TIMEOUT_SECONDS = 300
FOLLOW_TIMEOUT_SECONDS = 90
STATUSES = ["accepted", "confirmed", "in_fulfillment", "shipped", "delivered", "completed"]


def _run(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}"


def _javascript(folder: Path) -> list[str]:
    _run(["npm", "ci", "--silent"], folder)
    return ["node", "client.mjs"]


def _go(folder: Path) -> list[str]:
    _run(["go", "build", "-o", "client", "."], folder)
    return ["./client"]


def _java(folder: Path) -> list[str]:
    _run(["mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath"], folder)
    return ["java", "-cp", f"target/classes:{(folder / 'classpath').read_text().strip()}", "Client"]


LANGUAGES: dict[str, tuple[tuple[str, ...], Callable[[Path], list[str]]]] = {
    "javascript": (("node", "npm"), _javascript),
    "go": (("go",), _go),
    "java": (("java", "javac", "mvn"), _java),
}
"""By the folder of a program: what it needs, and how it is built; returns how it is started there."""


@pytest.fixture
def program(language: str) -> tuple[Path, list[str]]:
    """Where a program is, and how it is started."""
    needed, build = LANGUAGES[language]
    if missing := [tool for tool in needed if not shutil.which(tool)]:
        # `.ci/run` installs the toolchains wherever it may: a skip is for a bare machine.
        pytest.skip(f"{' and '.join(missing)} missing: the {language} program is not run")
    source = HERE / language
    files = sorted(file for file in source.rglob("*") if file.is_file() and not {"node_modules", "target"} & {*file.parts})
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = ROOT / ".orderstream/outsiders" / f"{language}-{digest}"
    for file in files:
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return folder, build(folder)


@pytest.fixture
async def goods(stack: Stack) -> AsyncIterator[None]:
    """What the orders need is in stock, and warehouse and carrier do their part."""
    [line] = example_order().lines
    location = example_order().location or "BER-1"
    async with make_app(lambda user: settings_of(stack.kafka(user)), responses_by_user([location])):
        async with Publisher(settings_of(stack.kafka(f"warehouse:{location}")), "/test/warehouse", utc_now) as publisher:
            lines = (StockLine(sku=line.sku, location=location, quantity=100),)
            await publisher.publish([ReceiveStock(receipt_id="GOODS", lines=lines)])
        yield


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.usefixtures("goods")
async def test_a_program_places_an_order_and_follows_it_to_its_end(stack: Stack, language: str, program: tuple[Path, list[str]]) -> None:
    folder, command = program
    order = replace(example_order(), channel_reference=f"OUTSIDE-{language}")
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka("channel:web")["bootstrap_servers"],
        "CHANNEL_PASSWORD": stack.kafka("channel:web").get("password", ""),
        "DOWNSTREAM_PASSWORD": stack.kafka("downstream").get("password", ""),
        "PUBLISHED": str(PUBLISHED),
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(FOLLOW_TIMEOUT_SECONDS):
            printed, errors = await process.communicate(encode(order))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, errors.decode()
    seen: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    assert [found["status"] for found in seen] == STATUSES
    assert {found["key"] for found in seen} == {key_of(order)}
    assert all(package["tracking_number"] for package in seen[-1]["packages"])
    assert seen[-1]["packages"]
