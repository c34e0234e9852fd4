"""Who may ask: the names of a local server, the origin of a page, the token; and headers of safety."""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sgdd_cli.web.answers import failure

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Nothing on the page comes from elsewhere, and nothing of it is shown inside another page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# What a browser fetches before a user could give the token; the page asks for it.
_OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/docs", "/openapi.json", "/health"})


class Guard:
    """Refuses what does not come from a user of this server.

    A page of another site can make a browser send requests to a server on this machine: under a name of its own that
    it lets lead here (DNS rebinding), so a server on the loopback answers to loopback names only; or across origins,
    so a request that names another origin is refused.

    Args:
        app: What is guarded.
        names: Names of this server; None for any, as behind a token.
        token: Where it is given, requests carry it as `Authorization: Bearer TOKEN`.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None, token: str | None) -> None:
        self._app, self._names, self._token = app, names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, path: str, headers: Headers) -> ASGIApp | None:
        host = headers.get("host", "")
        if self._names is not None and _name_of(host) not in self._names:
            return failure(
                403, f"This server does not answer to the name `{host}`.", "Ask for localhost or 127.0.0.1."
            )
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != host:
            return failure(
                403, f"Requests of pages from `{origin}` are refused.", "Open the page of this server."
            )
        if self._token is not None and path not in _OPEN_PATHS:
            kind, _, given = headers.get("authorization", "").partition(" ")
            # Takes as long for a token that is nearly right.
            same = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if kind.lower() != "bearer" or not same:
                return failure(
                    401,
                    "The token is missing or wrong.",
                    "Send the header: Authorization: Bearer TOKEN",
                    {"www-authenticate": "Bearer"},
                )
        return None


def _place_of(origin: str) -> str | None:
    """The name and port in an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
