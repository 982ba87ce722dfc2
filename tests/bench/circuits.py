"""HTTP over many circuits, as tor hands them on: to the web server's own socket, or through a real tor's SOCKS port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

FORM = "application/x-www-form-urlencoded"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Way:
    """How a circuit's connections reach the page at `host`."""

    def __init__(self, host: str, *, socket: Path | None = None, socks: tuple[str, int] | None = None) -> None:
        self.host = host
        self._socket = socket
        self._socks = socks

    @contextlib.asynccontextmanager
    async def connection(self, circuit: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """OSError, EOFError: it was refused or is over."""
        if self._socket is not None:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            high, low = circuit >> 16, circuit & 0xFFFF
            line = f"PROXY TCP6 fc00:dead:beef:4dad::{high:x}:{low:x} ::1 {low} 80\r\n"
            writer.write(line.encode())
        else:
            assert self._socks is not None
            reader, writer = await asyncio.open_connection(*self._socks)
        try:
            if self._socks is not None:
                await _greet(reader, writer, self.host, circuit)
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(
        self,
        circuit: int,
        method: str,
        path: str,
        *,
        fields: dict[str, str] | None = None,
        json_body: object = None,
        token: str = "",
        cookie: str = "",
        seconds: float = 60,
    ) -> Reply:
        """One request on a connection of its own. OSError, EOFError, TimeoutError: there is no answer."""
        head = {"host": self.host, "connection": "close"}
        body = b""
        if fields is not None:
            body = urlencode(fields).encode()
            head |= {"content-type": FORM, "origin": f"http://{self.host}"}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            head["content-type"] = "application/json"
        head |= {"authorization": f"Bearer {token}"} if token else {}
        head |= {"cookie": f"veil={cookie}"} if cookie else {}
        head["content-length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        async with asyncio.timeout(seconds), self.connection(circuit) as (reader, writer):
            writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    length = headers.get("content-length")
    body = await reader.readexactly(int(length)) if length is not None else b""
    return Reply(int(head[0].split(" ")[1]), headers, body)


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, circuit: int) -> None:
    """RFC 1928 and 1929: credentials of its own give each circuit its own."""
    writer.write(b"\5\1\2")
    assert await reader.readexactly(2) == b"\5\2"
    name, password = f"flood-{circuit}".encode(), b"x"
    writer.write(b"\1" + bytes([len(name)]) + name + bytes([len(password)]) + password)
    if (await reader.readexactly(2))[1] != 0:
        raise OSError("the SOCKS port refuses")
    target = host.encode()
    writer.write(b"\5\1\0\3" + bytes([len(target)]) + target + struct.pack("!H", 80))
    if (await reader.readexactly(10))[1] != 0:
        raise OSError("the onion cannot be reached")
