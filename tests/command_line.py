"""`oms` as a person runs it: a process of its own, whose output is nobody else's."""

import asyncio
import os
import sys

from oms_local.stack import Stack


async def oms(stack: Stack, *words: str, code: int = 0, given: bytes | None = None) -> str:
    """What `oms` prints about a stack, with `given` on its standard input; fails unless its exit code is `code`."""
    settings = stack.settings
    variables = {"DATA": settings.data, "KAFKA_PORT": settings.kafka_port, "POSTGRES_PORT": settings.postgres_port}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OMS_"))}
    environment |= {f"OMS_STACK_{name}": str(value) for name, value in (variables | {"HTTP_PORT": settings.http_port}).items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "oms_cli", *words),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    assert process.returncode == code, err.decode()
    return out.decode()
