"""A hundred visitors who begin at one moment and say ten messages each, as fast as they can, within the limits as
they ship.

    python -m tests.bench.rush [--quick]

Half of them over REST, the other half over a WebSocket, where up to ten may be under way at once. On loopback nobody
has a circuit, so the limits of a circuit are not asked; all others are. RuntimeError: a message was refused, or stands
in its conversation not exactly once and in its place.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import websockets

from tests.bench.asking import Line
from tests.bench.figures import Figures, Scale, alone, beside_the_server, spread
from tests.bench.product import Product

Taken = list[float]  # seconds from saying to being told that it is kept, of each message


def measure(scale: Scale) -> Figures:
    with (
        beside_the_server(),
        tempfile.TemporaryDirectory() as directory,
        Product(Path(directory) / "data", roomy=False) as product,
    ):
        began = time.monotonic()
        people = asyncio.run(_rush(product.port, scale.visitors, scale.messages))
        seconds = time.monotonic() - began
        for token, _ in people:
            _check(product.port, token, scale.messages)
    many = scale.visitors * scale.messages
    return {
        "rush_messages": many,
        "rush_seconds": seconds,
        "rush_messages_per_second": many / seconds,
        **spread([each * 1000 for _, taken in people for each in taken], "rush_accepted", "ms"),
    }


async def _rush(port: int, visitors: int, messages: int) -> list[tuple[str, Taken]]:
    """(token, times) of each."""
    async with asyncio.TaskGroup() as tasks:
        ways = [_over_rest if number % 2 else _over_socket for number in range(visitors)]
        running = [tasks.create_task(way(port, messages)) for way in ways]
    return [task.result() for task in running]


async def _over_rest(port: int, messages: int) -> tuple[str, Taken]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = await _begin(reader, writer, port)
    taken = []
    for number in range(messages):
        began = time.monotonic()
        body = {"message": f"message {number}", "id": f"m{number}"}
        await _post(reader, writer, port, "/api/v1/chat/send", body, token)
        taken.append(time.monotonic() - began)
    writer.close()
    return token, taken


async def _over_socket(port: int, messages: int) -> tuple[str, Taken]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = await _begin(reader, writer, port)
    writer.close()
    taken: Taken = []
    async with websockets.connect(f"ws://127.0.0.1:{port}/api/v1/ws", compression=None, proxy=None) as link:
        await link.send(json.dumps({"type": "auth", "token": token}))
        began = time.monotonic()
        for number in range(messages):
            await link.send(json.dumps({"type": "message", "content": f"message {number}", "id": f"m{number}"}))
        while len(taken) < messages:
            frame = json.loads(await link.recv())
            if frame["type"] == "error":
                raise RuntimeError(f"refused: {frame}")
            if frame["type"] == "ack":
                taken.append(time.monotonic() - began)
    return token, taken


async def _begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> str:
    return str((await _post(reader, writer, port, "/api/v1/auth/anonymous", {}, ""))["token"])


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, path: str, body: object, token: str
) -> dict[str, object]:
    """RuntimeError: it was refused."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    answered = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    told = await reader.readexactly(length)
    if answered[9:10] != b"2":
        raise RuntimeError(f"refused: {told!r}")
    found: dict[str, object] = json.loads(told)
    return found


def _check(port: int, token: str, messages: int) -> None:
    with Line(port, token) as line:
        found = [each["content"] for each in line.must("GET", "/api/v1/chat/history?limit=200").json["messages"]]
    if found != [f"message {number}" for number in range(messages)]:
        raise RuntimeError(f"not as it was said: {found}")


if __name__ == "__main__":
    alone(measure)
