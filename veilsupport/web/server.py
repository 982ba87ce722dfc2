"""uvicorn, configured and run inside our own loop.

On a unix socket in a 0700 directory, where only tor comes, with the shim that eats tor's line; or on a loopback port
without it. No signal handlers (those live in `app`), no access log, no Server or Date header, and none of
uvicorn's own words in our log: it would print paths, and what it met in requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Final, Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from veilsupport.errors import SetupError
from veilsupport.web.frames import FRAME_MAX_BYTES
from veilsupport.web.shim import OnionProtocol, PatientProtocol
from veilsupport.web.wire import PING_SECONDS, PONG_SECONDS, SocketProtocol

_GRACE_SECONDS: Final = 1  # For answers under way; streams end by themselves before it.
_BACKLOG: Final = 2048  # of those who come back all at once, whoever finds no place tries again a second later
_UNIX_PATH_MAX_BYTES: Final = 107  # sun_path of unix(7), less its closing zero.
_TAKEN: Final = SetupError("The port for the page is taken, or not allowed.", hint="Choose another one with --port.")


class Site(Protocol):
    """What `build` makes: an ASGI application that can end its streams, and is told of circuits that send no HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def end_streams(self) -> None: ...

    def misbehaved(self, circuit: str) -> None: ...


class _Server(uvicorn.Server):
    """uvicorn's server, less its signal handlers, and with an event for "connections are accepted"."""

    def __init__(self, config: uvicorn.Config, ready: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


async def serve(
    app: Site,
    *,
    unix_socket: Path | None,
    port: int | None,
    stop: asyncio.Event,
    ready: asyncio.Event,
    if_taken: SetupError = _TAKEN,
) -> None:
    """Serve until `stop`, then return within about two seconds. Exactly one of `unix_socket` and `port` is set.

    `ready` is set once connections are accepted. SetupError: `if_taken`, the port is; or the socket cannot be made.
    """
    if (unix_socket is None) == (port is None):
        raise ValueError("give a unix socket or a port")
    _silence_uvicorn()
    listening = _listen_unix(unix_socket) if unix_socket is not None else _listen_loopback(port or 0, if_taken)
    server = _Server(_config(app, behind_tor=unix_socket is not None), ready)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listening]))
            await ready.wait()
            await stop.wait()
            _stop(server, app)
    finally:
        listening.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # Whoever has not read our last words by now.
        _remove(unix_socket)


def _config(app: Site, *, behind_tor: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=OnionProtocol if behind_tor else PatientProtocol,
        ws=SocketProtocol,
        ws_max_size=FRAME_MAX_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,  # It costs memory, and lengths tell what was said.
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,  # A new request on the open connection saves a round trip through six relays.
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
    )


def _stop(server: _Server, app: Site) -> None:
    """First no new connections, then the open streams: else their readers would be back before we are gone."""
    for listener in server.servers:
        listener.close()
    app.end_streams()
    server.should_exit = True


def _listen_unix(path: Path) -> socket.socket:
    if len(bytes(path)) > _UNIX_PATH_MAX_BYTES:
        raise SetupError(
            "The path of the web server's socket is too long.",
            hint="Use a data directory with a shorter path: 107 bytes is the system's limit for sockets.",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)  # Left by a run that was killed; the lock on the data directory makes it ours.
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def _listen_loopback(port: int, if_taken: SetupError = _TAKEN) -> socket.socket:
    # Said outright, because else asyncio leaves Nagle's algorithm on: an answer's second part would wait for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.close()
        raise if_taken from None
    return listening


def _silence_uvicorn() -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)  # So that it does not even put its lines together.
