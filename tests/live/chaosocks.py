"""A SOCKS5 server that misbehaves on request: cuts, freezes in either direction, refuses. It knows who asked for what.

Names are looked up in a table only; nothing but loopback is ever dialled.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from veilsupport.socks import SocksProxy

_DOMAIN: Final = 3
_PASSWORD: Final = 2
_REFUSED: Final = b"\5\4\0\1" + b"\0" * 6
_CONNECTED: Final = b"\5\0\0\1" + b"\0" * 6


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: with which credentials, for which name and port."""

    credentials: tuple[str, str] | None
    by_name: bool
    host: str
    port: int


class ChaoticSocks:
    """`routes`: (name, port) → loopback port. `sent_up` is all that clients sent through the tunnels."""

    def __init__(self, routes: Mapping[tuple[str, int], int]) -> None:
        self._routes = dict(routes)
        self.refuse = False
        self.asked: list[Asked] = []
        self.sent_up = bytearray()
        self._frozen_up = False
        self._frozen_down = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._live: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> ChaoticSocks:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def proxy(self) -> SocksProxy:
        return SocksProxy(("127.0.0.1", self.port))

    # ---- faults ----------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, both halves of it."""
        for writer in self._live:
            writer.transport.abort()
        self._live.clear()

    def freeze(self, *, up: bool = True, down: bool = True) -> None:
        """Take bytes and pass none on: a half-open link. `up` is from client to server."""
        self._frozen_up, self._frozen_down = up, down
        self._thawed.clear()

    def thaw(self) -> None:
        self._frozen_up = self._frozen_down = False
        self._thawed.set()

    # ---- service ---------------------------------------------------------------------------------------------

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            asked = await _read_request(reader, writer)
            self.asked.append(asked)
            port = self._routes.get((asked.host, asked.port))
            if self.refuse or port is None:
                writer.write(_REFUSED)
                await writer.drain()
            else:
                await self._tunnel(reader, writer, port)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's streams would log a cancelled handler as an error
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_CONNECTED)
        self._live |= {writer, far_writer}
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(reader, far_writer, up=True))
            both.create_task(self._pump(far_reader, writer, up=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        try:
            while data := await reader.read(65536):
                while self._frozen_up if up else self._frozen_down:
                    await self._thawed.wait()
                if up:
                    self.sent_up += data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    """RFC 1928 §3 and §4, RFC 1929 §2."""
    _, count = await reader.readexactly(2)
    methods = await reader.readexactly(count)
    credentials = None
    if _PASSWORD in methods:
        writer.write(b"\5\2")
        await reader.readexactly(1)
        credentials = (await _counted(reader), await _counted(reader))
        writer.write(b"\1\0")
    else:
        writer.write(b"\5\0")
    _, _, _, kind = await reader.readexactly(4)
    host = await _counted(reader) if kind == _DOMAIN else (await reader.readexactly(4 if kind == 1 else 16)).hex()
    [port] = struct.unpack(">H", await reader.readexactly(2))
    return Asked(credentials, kind == _DOMAIN, host, port)


async def _counted(reader: asyncio.StreamReader) -> str:
    [length] = await reader.readexactly(1)
    return (await reader.readexactly(length)).decode()
