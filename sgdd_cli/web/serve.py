"""Serving the page until Ctrl-C or SIGTERM."""

import contextlib
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator

import uvicorn

from sgdd_cli.console import say
from sgdd_cli.decoding_options import Writing
from sgdd_cli.web.app import create_app
from sgdd_cli.web.guard import LOOPBACK_NAMES
from sgdd_engine.errors import ConfigError, SgddError

# Bytes that cannot be guessed: `python -c "import secrets; print(secrets.token_urlsafe())"` gives 43 characters.
MIN_TOKEN = 16
# Connections at once; more are refused before they take memory.
_CONNECTIONS = 256
# How long answers that are under way may take when the server ends.
_GRACE_SECONDS = 3


def check_address(host: str, token: str | None) -> None:
    """Refuse to serve others without a token.

    Raises:
        ConfigError: the address is not a loopback one and there is no token, or the token is too short.
    """
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            f"The token must have at least {MIN_TOKEN} printable ASCII characters.",
            'Make one: python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    if token is None and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in, and no token was given.",
            "Give one in the environment variable SGDD_TOKEN or with --token, or leave --host out.",
        )


def serve(writing: Writing, host: str, port: int, token: str | None, open_page: bool | None) -> None:
    """Serve one model until the process is asked to stop.

    Args:
        writing: The model, and how it writes by default.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        token: What requests must carry.
        open_page: Whether to open the page in a browser; None where there is a terminal and a display.

    Raises:
        ConfigError: as `check_address`.
        SgddError: the address cannot be had.
    """
    check_address(host, token)
    with _listening(host, port) as listening:
        bound, number = listening.getsockname()[:2]
        names = LOOPBACK_NAMES | {host.lower(), bound} if _is_loopback(host) else None
        app = create_app(writing, names=names, token=token)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                server_header=False,
            )
        )
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{number}/"
        say(f"Page: {url}\nAPI:  {url}docs\nEnd with Ctrl-C.")
        if _has_browser() if open_page is None else open_page:
            # Without the token, which the page asks for: others can read the command line of a browser.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        server.run(sockets=[listening])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SgddError(
            f"There is no address `{host}` on this machine: {error.strerror}.", "--host"
        ) from error
    with socket.socket(family, kind, protocol) as listening:
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SgddError(
                    f"Port {port} of {host} is in use.", f"Choose another: sgdd play --web --port {port + 1}"
                ) from error
            raise SgddError(
                f"Port {port} of {host} cannot be used by the server: {error.strerror}."
            ) from error
        yield listening


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def _has_browser() -> bool:
    """Whether somebody sits at a screen: a browser in a terminal would take it away from the messages."""
    display = sys.platform in ("win32", "darwin") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    return sys.stderr.isatty() and display
