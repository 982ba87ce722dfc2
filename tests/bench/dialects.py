"""How a client of each kind of desk speaks: hand-made and quick, because the generator must not be the bottleneck.

Every message's text begins with `c` and its number and a full stop, so that it is known again in whatever stands
around it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

_MARK: Final = re.compile(rb"c(\d+)\. ")
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # ip(7); lets more than 28,000 connections share the local ports
_SOURCES: Final = itertools.cycle(f"127.0.0.{last}" for last in range(2, 6))


class Told(Protocol):
    """Whoever is told what happened."""

    def accepted(self, number: int) -> None: ...

    def seen(self, number: int) -> None: ...

    def lost(self, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """One client's connection. `device` 0 is the one that says things."""

    def __init__(self, told: Told, account: Any, device: int, job: dict[str, Any]) -> None:
        self.told = told
        self.account = account
        self.device = device
        self.job = job
        self.transport: asyncio.Transport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_left = False

    async def connect(self) -> None:
        """OSError, EOFError: it did not come so far as to be signed in."""
        loop = asyncio.get_running_loop()
        if "socket" in self.job:
            await loop.create_unix_connection(lambda: self, self.job["socket"])
        else:
            link = socket.socket()
            link.setblocking(False)
            link.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            link.bind((next(_SOURCES), 0))
            await loop.sock_connect(link, (self.job["host"], self.job["port"]))
            await loop.create_connection(lambda: self, sock=link)
        await self.ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(EOFError("closed before it was signed in"))
        elif not self.has_left:
            self.told.lost(self)

    def leave(self, *, abrupt: bool) -> None:
        self.has_left = True
        if abrupt:
            self.transport.abort()
        else:
            self.transport.close()

    def is_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def begin(self) -> None:
        """The connection is there: say what comes first."""
        raise NotImplementedError

    def say(self, number: int, text: str) -> None:
        raise NotImplementedError


class HttpHead:
    """Reads an HTTP answer's head off a stream of bytes."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """(head, what follows) once it is whole."""
        self._bytes += data
        head, end, rest = self._bytes.partition(b"\r\n\r\n")
        return (head, rest) if end else None


class SocketLink(Link):
    """A WebSocket (RFC 6455). Subclasses say what is in the frames."""

    path = "/api/v1/ws"

    def begin(self) -> None:
        self._head: HttpHead | None = HttpHead()
        self._rest = b""
        path = self.job.get("path", self.path)
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.job['port']}" if "port" in self.job else "localhost"

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            found = self._head.feed(data)
            if found is None:
                return
            head, data = found
            self._head = None
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.transport.abort()
                return
            self.opened()
        data = self._rest + data
        start = 0
        while (frame := frame_at(data, start)) is not None:
            opcode, payload, start = frame
            if opcode == 1:
                self.hear(payload)
            elif opcode == 9:
                self.transport.write(bytes([0x8A, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
            elif opcode == 8:
                self.transport.close()
        self._rest = data[start:]

    def tell(self, text: bytes) -> None:
        self.transport.write(masked(text))

    def opened(self) -> None:
        raise NotImplementedError

    def hear(self, payload: bytes) -> None:
        raise NotImplementedError


def masked(text: bytes) -> bytes:
    """A client's text frame; the mask is zero, which is allowed and costs nothing."""
    size = len(text)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    else:
        raise ValueError("too long for a benchmark")
    return head + b"\0\0\0\0" + text


def frame_at(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """(opcode, payload, where the next one begins) of a frame of a server's; None while it is not whole."""
    if len(data) < start + 2:
        return None
    size, at = data[start + 1], start + 2
    if size == 126:
        size, at = int.from_bytes(data[at : at + 2], "big"), at + 2
    elif size == 127:
        size, at = int.from_bytes(data[at : at + 8], "big"), at + 8
    if len(data) < at + size:
        return None
    return data[start] & 0x0F, data[at : at + size], at + size


class Desk(SocketLink):
    """Our own protocol (web/socket.py), which the references in `peers/` speak as well. `account`: a token."""

    def opened(self) -> None:
        after = {"after": self.job["after"]} if "after" in self.job else {}
        self.tell(json.dumps({"type": "auth", "token": self.account, **after}).encode())

    def say(self, number: int, text: str) -> None:
        self.tell(b'{"type":"message","content":"%b","id":"c%d"}' % (text.encode(), number))

    def hear(self, payload: bytes) -> None:
        if b'"type":"ack"' in payload:
            self.told.accepted(_number(payload))
        elif b'"type":"message"' in payload:
            self.told.seen(_number(payload))
        elif b'"type":"ready"' in payload:
            self.is_ready()


class Echo(SocketLink):
    """Whatever is said comes back: the ceiling."""

    path = "/echo"

    def opened(self) -> None:
        self.is_ready()

    def say(self, number: int, text: str) -> None:
        self.tell(text.encode())

    def hear(self, payload: bytes) -> None:
        self.told.accepted(_number(payload))


class SocketIo(SocketLink):
    """Socket.IO 5 over Engine.IO 4, WebSocket alone. `account`: a token, given with the connect packet."""

    path = "/socket.io/?EIO=4&transport=websocket"

    def opened(self) -> None:
        pass

    def say(self, number: int, text: str) -> None:
        self.tell(b'42["message",{"content":"%b","id":"c%d"}]' % (text.encode(), number))

    def hear(self, payload: bytes) -> None:
        if payload.startswith(b"42"):
            number = _number(payload)
            if payload.startswith(b'42["ack"'):
                self.told.accepted(number)
            else:
                self.told.seen(number)
        elif payload.startswith(b"0"):
            self.tell(b'40{"token":"%b"}' % self.account.encode())
        elif payload.startswith(b"40"):
            self.is_ready()
        elif payload == b"2":
            self.tell(b"3")


class Http(Link):
    """`POST /api/v1/chat/send` on a kept connection. `account`: a token; with none, `GET` of the job's path."""

    def begin(self) -> None:
        self._bytes = b""
        self._number = 0
        self.is_ready()

    def say(self, number: int, text: str) -> None:
        self._number = number
        head = f"Host: 127.0.0.1:{self.job.get('port', 80)}\r\n"
        if not self.account:
            self.transport.write(f"GET {self.job['path']} HTTP/1.1\r\n{head}\r\n".encode())
            return
        body = json.dumps({"message": text}).encode()
        head += f"Authorization: Bearer {self.account}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(f"POST /api/v1/chat/send HTTP/1.1\r\n{head}".encode() + body)

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, end, rest = self._bytes.partition(b"\r\n\r\n")
        if not end:
            return
        found = _LENGTH.search(head)
        if len(rest) < (int(found[1]) if found else 0):
            return
        self._bytes = b""
        if head[9:10] == b"2":
            self.told.accepted(self._number)
        else:
            self.told.lost(self)


_LENGTH: Final = re.compile(rb"(?i)content-length: *(\d+)")


class Stream(Link):
    """The page for browsers without scripts: `/chat/live`, which never ends. `account`: the token, as the cookie."""

    def begin(self) -> None:
        self._tail = b""
        host = f"127.0.0.1:{self.job['port']}"
        self.transport.write(f"GET /chat/live HTTP/1.1\r\nHost: {host}\r\nCookie: veil={self.account}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        known = len(self._tail)
        data = self._tail + data
        if not self.ready.done():
            self._tail = data
            if not data.startswith(b"HTTP/1.1 200"[: len(data)]):
                self.transport.abort()
            elif b"<style nonce" in data:  # the first heartbeat: it is live from here on
                self._tail = b""
                self.is_ready()
            return
        for found in _MARK.finditer(data):
            if found.end() > known:
                self.told.seen(int(found[1]))
        self._tail = data[-16:]


def _number(payload: bytes) -> int:
    found = _MARK.search(payload)
    return int(found[1]) if found else 0


DIALECTS: Final[dict[str, Callable[[Told, Any, int, dict[str, Any]], Link]]] = {
    "desk": Desk,
    "echo": Echo,
    "socketio": SocketIo,
    "http": Http,
    "stream": Stream,
}
