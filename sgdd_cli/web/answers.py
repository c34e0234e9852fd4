"""Answers of the HTTP API: JSON, one sentence for each failure, and server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse, Response

from sgdd_cli.error_messages import describe_error
from sgdd_cli.web.batching import OnRow, QueueFull, RowEvent
from sgdd_cli.web.bodies import Failure
from sgdd_engine.errors import SgddError
from sgdd_engine.events import CanvasChanged

# Events of a stream that wait for a slow client; beyond so many, canvases are left out and the result is not.
MAX_WAITING_EVENTS = 256

Ask = Callable[[OnRow | None], Awaitable[BaseModel]]
"""What computes an answer; it is told whom to tell of rows meanwhile."""


def answer(found: BaseModel) -> Response:
    """A result as JSON, without what is empty."""
    return JSONResponse(found.model_dump(exclude_none=True))


def failure(
    status: int, error: str, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Why there is no answer, in one sentence."""
    return JSONResponse(Failure(error=error, hint=hint).model_dump(exclude_none=True), status, headers)


def failure_of(error: BaseException, seconds: float) -> Response:
    """The answer for what was raised; `seconds` is how long a request may take."""
    if isinstance(error, TimeoutError):
        return failure(
            504, f"It took longer than {seconds:g} seconds, and was stopped.", "Ask for fewer texts at once."
        )
    if isinstance(error, QueueFull):
        return failure(
            503,
            "Too many requests are waiting already.",
            f"Try again in {error.seconds} s.",
            {"retry-after": str(error.seconds)},
        )
    message, hint = describe_error(error)
    return failure(422 if isinstance(error, SgddError) else 500, message, hint)


def streamed(ask: Ask, seconds: float, send_seconds: float) -> Response:
    """An answer as server-sent events: `canvas` and `round` while it is computed, then `result`, or `error`.

    Args:
        ask: What computes it; cancelled when the client goes away.
        seconds: That it may take.
        send_seconds: That the client may leave an event unread; then it is taken for gone.
    """
    return EventSourceResponse(
        _events(ask, seconds), ping=15, send_timeout=send_seconds, headers={"x-accel-buffering": "no"}
    )


async def _events(ask: Ask, seconds: float) -> AsyncIterator[ServerSentEvent]:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[ServerSentEvent | None] = asyncio.Queue()

    def put(event: ServerSentEvent) -> None:
        if events.qsize() < MAX_WAITING_EVENTS:
            events.put_nowait(event)

    def on_row(row: int, event: RowEvent) -> None:  # in the worker's thread, which never waits for a client
        loop.call_soon_threadsafe(put, _of_row(row, event))

    async def compute() -> ServerSentEvent:
        try:
            async with asyncio.timeout(seconds):
                found = await ask(on_row)
        except Exception as error:
            response = failure_of(error, seconds)
            return _event("error", {"status": response.status_code, **json.loads(bytes(response.body))})
        return _event("result", found.model_dump(exclude_none=True))

    computing = asyncio.create_task(compute())
    computing.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        yield computing.result()
    finally:
        computing.cancel()


def _of_row(row: int, event: RowEvent) -> ServerSentEvent:
    if isinstance(event, CanvasChanged):
        tokens = (
            [[piece, round(probability, 4)] for piece, probability in event.tokens[0]]
            if event.tokens
            else None
        )
        data = {
            "row": row,
            "step": event.step,
            "steps": event.num_steps,
            "text": event.texts[0],
            "tokens": tokens,
        }
        return _event("canvas", data)
    return _event("round", {"row": row, "done": event.done, "note": event.note})


def _event(kind: str, data: Mapping[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False, allow_nan=False), event=kind)
