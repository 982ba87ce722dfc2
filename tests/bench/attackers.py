"""Those who flood, in a process of their own: starts, log-ins, streams, sends and what is no HTTP.

    python -m tests.bench.attackers JSON      {"host", "socket" or "socks", "seconds", "scale"}

Each kind goes as fast as so many at once can, every try of most kinds over a circuit that was never used before. The
last line on stdout is JSON: per kind how many of which answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.bench.circuits import Way

# At once, by kind. Ten times what the table of limits lets through needs fewer than these.
_AT_ONCE = {"start": 10, "page": 6, "login": 40, "stream": 10, "send": 16, "garbage": 4}


class Flood:
    def __init__(self, way: Way, *, until: float) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._way = way
        self._until = until
        self._circuits = itertools.count(1 << 24)
        self._tokens: list[tuple[str, int]] = []
        self._held = 0

    async def run(self, scale: float) -> None:
        kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "start": self._start,
            "page": self._page,
            "login": self._login,
            "stream": self._stream,
            "send": self._send,
            "garbage": self._garbage,
        }
        async with asyncio.TaskGroup() as tasks:
            for kind, act in kinds.items():
                for _ in range(max(1, round(_AT_ONCE[kind] * scale))):
                    tasks.create_task(self._repeat(kind, act))

    async def _repeat(self, kind: str, act: Callable[[], Awaitable[str]]) -> None:
        while time.monotonic() < self._until:
            try:
                outcome = await act()
            except (OSError, EOFError, TimeoutError) as error:
                outcome = type(error).__name__
                await asyncio.sleep(0.05)
            self.counts[kind][outcome] += 1

    async def _start(self) -> str:
        circuit = next(self._circuits)
        reply = await self._way.ask(circuit, "POST", "/api/v1/auth/anonymous", json_body={})
        if reply.status == 201:
            self._tokens.append((reply.json["token"], circuit))
        return str(reply.status)

    async def _page(self) -> str:
        return str((await self._way.ask(next(self._circuits), "GET", "/")).status)

    async def _login(self) -> str:
        body = {"email": f"{secrets.token_hex(4)}@mail.example", "password": "guessed it"}
        reply = await self._way.ask(next(self._circuits), "POST", "/api/v1/auth/login", json_body=body)
        return str(reply.status)

    async def _stream(self) -> str:
        """Opened and held, unread, until the flood is over."""
        if not self._tokens or self._held > 200:
            await asyncio.sleep(0.1)
            return "idle"
        token, circuit = secrets.choice(self._tokens)
        self._held += 1
        try:
            async with self._way.connection(circuit) as (reader, writer):
                head = f"GET /chat/live HTTP/1.1\r\nhost: {self._way.host}\r\ncookie: veil={token}\r\n\r\n"
                writer.write(head.encode())
                status = (await asyncio.wait_for(reader.readline(), 60)).split(b" ")[1].decode()
                await asyncio.sleep(min(5.0, max(0.0, self._until - time.monotonic())))
                return status
        finally:
            self._held -= 1

    async def _send(self) -> str:
        if not self._tokens:
            await asyncio.sleep(0.1)
            return "idle"
        token, circuit = secrets.choice(self._tokens)
        body = {"message": f"flood {secrets.token_hex(8)} " + "x" * 1000}
        reply = await self._way.ask(circuit, "POST", "/api/v1/chat/send", json_body=body, token=token)
        return str(reply.status)

    async def _garbage(self) -> str:
        """Always over the same circuits, so that they are closed."""
        async with self._way.connection(1000 + secrets.randbelow(4)) as (reader, writer):
            writer.write(secrets.token_bytes(200) + b"\r\n\r\n")
            return (await asyncio.wait_for(reader.read(), 60))[:12].decode("latin-1")


async def main(asked: dict[str, Any]) -> None:
    socket = Path(asked["socket"]) if asked.get("socket") else None
    socks = (asked["socks"][0], asked["socks"][1]) if asked.get("socks") else None
    way = Way(asked["host"], socket=socket, socks=socks)
    flood = Flood(way, until=time.monotonic() + asked["seconds"])
    await flood.run(asked["scale"])
    print(json.dumps({kind: dict(counts) for kind, counts in flood.counts.items()}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
