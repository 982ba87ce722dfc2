"""Health and numbers for programs on this machine: a server of its own on a loopback port, when the operator asks.

    GET /live     200 as long as the loop turns
    GET /ready    200, or 503 while a part is not ready; JSON with each part's state
    GET /metrics  Prometheus's text format

It has no way to the desk, and the onion service no way to it: another socket, another application. Browsers on
this machine are kept out, for any page that they show could ask us: the Host must be exactly ours, so that no name of
somebody else's that points here will do (DNS rebinding); nobody else's page may read an answer or tell from one whether
it failed; and no answer holds an address or a name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from veilsupport.errors import SetupError, StoreError
from veilsupport.web.server import serve

_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
_TAKEN: Final = SetupError(
    "The port for health checks is taken, or not allowed.", hint="Choose another one with --health-port."
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from; StoreError: the disk does not give what an answer needs."""

    health: Callable[[], Mapping[str, Any]]  # with `ready`, whether every part is
    metrics: Callable[[], str]


class Health:
    """The ASGI application."""

    def __init__(self, sources: Sources, *, port: int) -> None:
        self._sources = sources
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            status, kind, content = self._answer(scope)
            await _send(send, status, kind, content, with_body=scope["method"] != "HEAD")

    def end_streams(self) -> None:
        """There are none."""

    def misbehaved(self, circuit: str) -> None:
        """Nobody comes here over a circuit."""

    def _answer(self, scope: Scope) -> tuple[int, bytes, bytes]:
        """(status, type, content). A body that came along is not read: the connection is closed on it."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return _refused(421, "wrong_host")
        if scope["method"] not in ("GET", "HEAD"):
            return _refused(405, "method")
        try:
            return self._found(scope["path"])
        except StoreError:
            return _refused(503, "store")

    def _found(self, path: str) -> tuple[int, bytes, bytes]:
        match path:
            case "/live":
                return 200, _JSON, _written({"live": True})
            case "/ready":
                health = self._sources.health()
                return 200 if health["ready"] else 503, _JSON, _written(health)
            case "/metrics":
                return 200, _TEXT, self._sources.metrics().encode()
        return _refused(404, "not_found")


async def serve_health(sources: Sources, *, port: int, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """On 127.0.0.1 until `stop`; `ready` is set once connections are accepted. SetupError: the port is taken."""
    await serve(Health(sources, port=port), unix_socket=None, port=port, stop=stop, ready=ready, if_taken=_TAKEN)


def _refused(status: int, code: str) -> tuple[int, bytes, bytes]:
    return status, _JSON, _written({"error": code})


def _written(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


async def _send(send: Send, status: int, kind: bytes, content: bytes, *, with_body: bool) -> None:
    length = str(len(content)).encode()
    headers = [*_HEADERS, (b"content-type", kind), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content if with_body else b""})
