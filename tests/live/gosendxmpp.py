"""go-sendxmpp, a client of one line at a time that is none of ours and not slixmpp.

It dials 127.0.0.1 only, takes any certificate and asks no DNS, for host and port are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from typing import Final

from tests.live.xmppserver import XmppServer

_SECONDS: Final = 20


class GoSendXmpp:
    """Each line is a connection of its own: it signs in, speaks and is gone. It answers no receipts."""

    def __init__(self, server: XmppServer, name: str, password: str = "pw", *, direct_tls: bool = False) -> None:
        self.jid = server.jid(name)
        port = server.tls_port if direct_tls else server.port
        self._command = ["go-sendxmpp", "-n", "-j", f"127.0.0.1:{port}", "-u", self.jid, "-p", password]
        self._command += ["-t"] if direct_tls else []
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(server.directory)}

    async def say(self, jid: str, text: str) -> None:
        await self._send(text, jid)

    async def room_say(self, room: str, text: str, *, nick: str) -> None:
        """It joins, says the line and leaves."""
        await self._send(text, "-c", "-a", nick, room)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Heard]:
        """Signed in for the length of the block; everything that is said to it stands in what is yielded."""
        process = await asyncio.create_subprocess_exec(
            *self._command, "-l", env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        assert process.stdout is not None
        heard = Heard()
        reading = asyncio.create_task(heard.read(process.stdout))
        try:
            yield heard
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            async with asyncio.timeout(_SECONDS):
                await process.wait()
                await reading

    async def _send(self, text: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, env=self._environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        try:
            async with asyncio.timeout(_SECONDS):
                output, _ = await process.communicate(text.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"go-sendxmpp: {output.decode()}")


class Heard:
    """What a listening go-sendxmpp prints: an instant, the bare JID, a colon, the words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = asyncio.Condition()

    async def text(self, part: str, *, seconds: float = _SECONDS) -> str:
        """The first line with that in it, already here or still to come."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: any(part in line for line in self.lines))
            return next(line for line in self.lines if part in line)

    async def read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            async with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
