"""The web application: routes, what a body may be, and how long it may take."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sgdd_cli.decoding_options import Writing
from sgdd_cli.web.answers import Ask, answer, failure, failure_of, streamed
from sgdd_cli.web.batching import OnRow
from sgdd_cli.web.bodies import (
    BlendBody,
    EncodeBody,
    FillBody,
    GenerateBody,
    InterpolateBody,
    RefinedOptions,
    sentence_of,
)
from sgdd_cli.web.guard import LOOPBACK_NAMES, Guard
from sgdd_cli.web.openapi import CALLS, document, readable_page
from sgdd_cli.web.service import Limits, Service

# A client that sends its body more slowly than this is given up: 8 MiB in 20 s is a slow connection.
BODY_SECONDS = 20.0
Body = TypeVar("Body", bound=BaseModel)
_PAGE_FILES = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}


class _Refused(Exception):  # noqa: N818 - carries an answer
    """The request is wrong before its meaning is looked at."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def create_app(
    writing: Writing,
    *,
    names: frozenset[str] | None = LOOPBACK_NAMES,
    token: str | None = None,
    limits: Limits | None = None,
) -> Starlette:
    """The application for one model.

    Args:
        writing: The model, and how it writes where a request says nothing.
        names: Names that the server answers to; None for any.
        token: What requests must carry, if anything.
        limits: What one request may ask for.
    """
    limits = limits or Limits()
    service = Service(writing, limits)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    async def model(_: Request) -> Response:
        return answer(service.model())

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    async def docs(_: Request) -> Response:
        return Response(readable_page(), media_type="text/html")

    async def encode(request: Request) -> Response:
        return await _answered(
            request, limits, await _body(request, limits, EncodeBody), lambda b, _: service.encode(b)
        )

    def writes(
        kind: type[Body], ask: Callable[[Body, OnRow | None], Awaitable[BaseModel]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            return await _answered(request, limits, await _body(request, limits, kind), ask)

        return call

    async def read(request: Request) -> Response:
        content = await _content(request, limits)
        given = dict(request.query_params)
        name = given.pop("name", "")
        options = _validated(RefinedOptions, json.dumps(given), strict=False)
        return await _answered(
            request, limits, options, lambda found, on_row: service.read(name, content, found, on_row)
        )

    posts = {
        "/encode": encode,
        "/generate": writes(GenerateBody, service.generate),
        "/fill": writes(FillBody, service.fill),
        "/blend": writes(BlendBody, service.blend),
        "/interpolate": writes(InterpolateBody, service.interpolate),
        "/read": read,
    }
    assert posts.keys() == CALLS.keys()
    routes = [Route(path, _caught(call, limits), methods=["POST"]) for path, call in posts.items()]
    routes += [Route(f"/{path}", _file(*found)) for path, found in _PAGE_FILES.items()]
    routes += [
        Route("/model", model),
        Route("/health", health),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_failure, Exception: _bug},
    )
    app.add_middleware(Guard, names=names, token=token)
    return app


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files("sgdd_cli.web") / "page" / name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind)

    return serve


def _caught(
    call: Callable[[Request], Awaitable[Response]], limits: Limits
) -> Callable[[Request], Awaitable[Response]]:
    """The call, with what it raises as an answer."""

    async def caught(request: Request) -> Response:
        try:
            return await call(request)
        except _Refused as refused:
            return refused.response
        except Exception as error:
            return failure_of(error, limits.seconds)

    return caught


async def _answered(
    request: Request,
    limits: Limits,
    body: Body,
    ask: Callable[[Body, OnRow | None], Awaitable[BaseModel]],
) -> Response:
    """The answer to a body, streamed where it asks for that; given up where it takes too long or the client leaves."""
    if getattr(body, "stream", False):
        with_body: Ask = lambda on_row: ask(body, on_row)  # noqa: E731 - named for its type
        return streamed(with_body, limits.seconds, limits.send_seconds)
    computing = asyncio.ensure_future(ask(body, None))
    leaving = asyncio.create_task(_left(request))
    try:
        async with asyncio.timeout(limits.seconds):
            await asyncio.wait((computing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not computing.done():
            return Response(status_code=499)  # nobody reads it
        return answer(computing.result())
    finally:
        computing.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _content(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        _Refused: it is too long, or comes too slowly.
    """
    too_long = failure(
        413, f"The body is longer than {limits.body_bytes:,} bytes.", "Send it in several requests."
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise _Refused(too_long)
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > limits.body_bytes:
                    raise _Refused(too_long)
    except TimeoutError:
        raise _Refused(failure(408, f"The body did not arrive within {BODY_SECONDS:g} seconds.")) from None
    return bytes(content)


async def _body(request: Request, limits: Limits, kind: type[Body]) -> Body:
    """The checked JSON body of a request.

    Raises:
        _Refused: it is no JSON, or not of this kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(
            failure(415, "The body must be JSON.", "Send the header: Content-Type: application/json")
        )
    content = await _content(request, limits)
    # Off the event loop: 8 MiB of numbers take some tenths of a second.
    return await asyncio.to_thread(_validated, kind, content)


def _validated(kind: type[Body], content: bytes | str, strict: bool | None = None) -> Body:
    try:
        return kind.model_validate_json(content, strict=strict)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["type"] == "json_invalid":
            reason = str(fault.get("ctx", {}).get("error", "")).strip()
            raise _Refused(failure(400, f"The body is not JSON: {reason}.")) from None
        raise _Refused(failure(422, sentence_of(error), "GET /docs describes each call.")) from None


async def _http_failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "There is nothing here.", 405: "This address does not take this method."}
    return failure(
        error.status_code,
        sentences.get(error.status_code, str(error.detail)),
        "GET /docs lists the calls.",
        error.headers,
    )


async def _bug(_: Request, error: Exception) -> Response:
    return failure_of(error, 0)
