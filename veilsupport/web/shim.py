"""What stands between the socket and uvicorn: tor's line about the circuit, and an end to patience.

With `HiddenServiceExportCircuitID haproxy` tor writes one line before the client's first byte:

    PROXY TCP6 fc00:dead:beef:4dad::HHHH:LLLL ::1 <source port> <virtual port>\\r\\n

HHHHLLLL is the circuit's number, the same that the control port uses. `OnionProtocol` eats the line and hands the
connection to uvicorn's own HTTP protocol over a transport that says its peer is ("circ-HHHHLLLL", virtual port),
so that `scope["client"]` is the circuit. No valid line in time, no connection: were the line optional, a client could
send one itself whenever the option is missing in the torrc.

`PatientProtocol` is uvicorn's protocol with three ends that uvicorn does not have: headers must be complete within
some seconds and bytes (slow loris), and a client that does not read what we write is cut off. `guard` times bodies.
"""

from __future__ import annotations

import asyncio
import re
import resource
from typing import Any, Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

# torspec's rend-spec, and src/core/or/connection_edge.c (export_hs_client_circuit_id).
_LINE: Final = re.compile(
    rb"PROXY TCP6 fc00:dead:beef:4dad::([0-9a-f]{1,4}):([0-9a-f]{1,4}) ::1 (\d{1,5}) (\d{1,5})\r\n"
)
_LINE_MAX_BYTES: Final = 107  # The longest line of the PROXY protocol, version 1.
_LINE_SECONDS: Final = 10.0
HEADER_SECONDS: Final = 20.0  # Over a bad circuit a request's few hundred bytes take seconds, not minutes.
HEADER_MAX_BYTES: Final = 16 * 1024
DRAIN_SECONDS: Final = 60.0

CIRCUIT_PREFIX: Final = "circ-"

# File descriptors that pages never take: the database, tor, the line to the admins and the operator's own questions.
_RESERVED: Final = 64
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nRetry-After: 30\r\n"
    b"Cache-Control: no-store\r\nReferrer-Policy: same-origin\r\nConnection: close\r\n\r\n"
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Please wait</title>%b<p>There are too many people here at"
    b" this moment. Please try again in half a minute; to keep what you have written, go back first.</html>"
)
_AGAIN: Final = b"<meta http-equiv=refresh content=30>"


def circuit_of(scope: Scope) -> str | None:
    """The circuit a request came over; None on loopback."""
    client = scope.get("client")
    return client[0] if client and client[0].startswith(CIRCUIT_PREFIX) else None


def is_one_too_many(transport: asyncio.BaseTransport) -> bool:
    """Whether that connection leaves too few descriptors for the rest: of those that are free the lowest is taken."""
    socket = transport.get_extra_info("socket")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return socket is not None and socket.fileno() >= limit - min(_RESERVED, limit // 4)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits of time and size for headers and of time for reading our answer."""

    _header_timer: asyncio.TimerHandle | None = None
    _drain_timer: asyncio.TimerHandle | None = None
    _in_headers = False
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()
        if is_one_too_many(transport):  # Through tor it had its answer already.
            transport.abort()

    def data_received(self, data: bytes) -> None:
        cycle = cast(RequestResponseCycle | None, self.cycle)  # None before the first request, whatever it says.
        if cycle is None or cycle.response_complete:
            self._expect_headers()  # Even blank lines, which begin no request, start the clock.
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > HEADER_MAX_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        # Also while an answer is being streamed: a second request may follow on the same connection.
        self._expect_headers()
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            self.transport.abort()  # Trailers (RFC 9110 §6.5): no browser sends them, and uvicorn keeps them all.
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        self._in_headers = False
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()  # uvicorn would let both write into one connection, and forget the first.
            return
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # It refers to us, and keeps some kilobytes until somebody looks for garbage.

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP; the application never sees it, but is told that this circuit sends such things."""
        if self.client is not None and self.client[0].startswith(CIRCUIT_PREFIX):
            self.config.loaded_app.misbehaved(self.client[0])
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drain_timer = self.loop.call_later(DRAIN_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_drain_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_drain_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it, and so us, after a reset

    def _expect_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_drain_timer(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None


class _CircuitTransport:
    """The real transport, except for who it says is at the other end."""

    __slots__ = ("_peer", "_transport")

    def __init__(self, transport: asyncio.Transport, peer: tuple[str, int]) -> None:
        self._transport = transport
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "peername":
            return self._peer
        if name == "socket":  # uvicorn would ask the unix socket and get no address.
            return None
        return self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OnionProtocol(asyncio.Protocol):
    """Reads tor's line, then is replaced by `PatientProtocol`."""

    def __init__(self, **uvicorn: Any) -> None:
        self._uvicorn = uvicorn
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(_LINE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        if b"\r\n" not in self._received[:_LINE_MAX_BYTES] and len(self._received) < _LINE_MAX_BYTES:
            return
        self._stop_timer()
        line = _LINE.match(self._received)
        if line is None:
            self._transport.abort()
            return
        if is_one_too_many(self._transport):
            is_read = self._received[line.end() :].startswith(b"GET ")  # A form's answer is not fetched by itself.
            self._transport.write(_TOO_MANY % (_AGAIN if is_read else b""))
            self._transport.close()
            return
        self._hand_over(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()

    def _hand_over(self, line: re.Match[bytes]) -> None:
        assert self._transport is not None
        circuit = int(line[1], 16) << 16 | int(line[2], 16)
        peer = (f"{CIRCUIT_PREFIX}{circuit:08x}", int(line[4]))
        http = PatientProtocol(**self._uvicorn)
        self._transport.set_protocol(http)
        http.connection_made(cast(asyncio.Transport, _CircuitTransport(self._transport, peer)))
        if rest := self._received[line.end() :]:
            http.data_received(rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
