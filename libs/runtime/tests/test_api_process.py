"""What an API's process counts of its responses."""

import httpx
from oms_runtime.api_process import ApiProcess
from starlette.responses import PlainTextResponse


async def no_fault() -> str:
    return ""


async def test_responses_are_counted_by_status_and_those_to_named_parts_apart() -> None:
    process = ApiProcess(no_fault, ["webhooks"])

    def counted(part: str, status: int) -> float | None:
        return process.registry.get_sample_value("oms_http_responses_total", {"part": part, "status": str(status)})

    assert [counted(part, 401) for part in ("", "webhooks")] == [0, 0]  # there from the start, so that the first is seen as an increase
    process.app = PlainTextResponse("no", 401)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=process), base_url="http://api") as client:
        for path in ("/webhooks/web", "/webhooks/web/more", "/orders/webhooks", "/nowhere", "/"):
            await client.get(path)
    assert [counted(part, 401) for part in ("", "webhooks")] == [3, 2]
    assert counted("nowhere", 401) is None
