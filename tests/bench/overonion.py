"""Through a private Tor network: from saying something on one device to seeing it on the other one, beside the bare
round trip of the same onion.

    python -m tests.bench.overonion [--quick]

What is bare: a ping of the WebSocket protocol (RFC 6455 §5.5.2) on the very connections that carry the message. The
server answers it below the application, before any of our code, in a few microseconds. An echo service behind an onion
of its own would have other circuits, over other relays at another time, and their difference is greater
than what is looked for; so would a request on a connection of its own. A message travels up the first device's circuit
and down the second one's; so the bare trip of a pair is half of the one's round trip and half of the other's, asked
before the message and after it. Messages and pings fit into one cell of tor's each.

Before each there is silence for a quarter of a second. Without it every cell waits for the acknowledgement of the one
before it somewhere on tor's own links, 40 ms on loopback, and the bare pings do so as well (6 ms and 40): a message,
which passes two circuits, waits twice. On a real network these 40 ms drown in the round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import websockets

from tests.bench.figures import Figures, Scale, alone, percentile
from tests.live.appliance import Appliance
from tests.live.maindesk import write_torrc_lines
from tests.live.privnet import PrivateTorNetwork
from veilsupport.config import FILE_NAME
from veilsupport.socks import SocksProxy, dial

_PAUSE_SECONDS: Final = 0.25  # five of them for each message: thirty stay within what a person may say
_SECONDS: Final = 30.0
_TEXT: Final = "x" * 100
_SETTINGS: Final = "[desk]\nrequest_messages = 0\n"  # nobody answers here
_WARM_UP: Final = 3
Device = websockets.ClientConnection


def measure(scale: Scale) -> Figures:
    with PrivateTorNetwork() as net, tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir(mode=0o700)
        (data / FILE_NAME).write_text(_SETTINGS)
        write_torrc_lines(data, net.torrc_lines)
        with Appliance(data) as appliance:
            host = re.sub("^http://", "", appliance.wait_for_onion()).partition("/")[0]
            pairs = asyncio.run(_pairs(net.socks, host, scale.pairs))
    bare, seen = [one for one, _ in pairs], [two for _, two in pairs]
    return {
        "onion_pairs": len(pairs),
        "onion_bare_round_trip_ms": statistics.median(bare),
        "onion_send_to_seen_ms": statistics.median(seen),
        "onion_bare_round_trip_p95_ms": percentile(bare, 0.95),
        "onion_send_to_seen_p95_ms": percentile(seen, 0.95),
        "onion_above_bare_ms": statistics.median(seen) - statistics.median(bare),
        "onion_above_bare_of_pairs_ms": statistics.median(two - one for one, two in pairs),
    }


async def _pairs(socks: tuple[str, int], host: str, many: int) -> list[tuple[float, float]]:
    """(bare round trip, send to seen), milliseconds."""
    token = await _account(socks, host)
    found = []
    async with _device(socks, host, token, "first") as first, _device(socks, host, token, "second") as second:
        for _ in range(_WARM_UP):
            await _bare(first, second)
        for number in range(many):
            before = await _bare(first, second)
            seen = await _seen(first, second, f"m{number}")
            found.append((statistics.mean((before, await _bare(first, second))), seen))
    return found


async def _bare(first: Device, second: Device) -> float:
    taken = []
    for device in (first, second):
        await asyncio.sleep(_PAUSE_SECONDS)
        began = time.monotonic()
        await asyncio.wait_for(await device.ping(), _SECONDS)
        taken.append(time.monotonic() - began)
    return statistics.mean(taken) * 1000


async def _seen(first: Device, second: Device, id: str) -> float:
    await asyncio.sleep(_PAUSE_SECONDS)
    began = time.monotonic()
    await first.send(json.dumps({"type": "message", "content": f"{id} {_TEXT}", "id": id}))
    async with asyncio.timeout(_SECONDS):
        while not str((await _frame(second, "message"))["content"]).startswith(f"{id} "):
            pass
        seconds = time.monotonic() - began
        await _frame(first, "ack")
    return seconds * 1000


async def _frame(device: Device, kind: str) -> dict[str, Any]:
    """The next of that kind."""
    while True:
        frame: dict[str, Any] = json.loads(await device.recv())
        if frame["type"] == kind:
            return frame
        if frame["type"] == "error":
            raise RuntimeError(f"refused: {frame}")


@contextlib.asynccontextmanager
async def _device(socks: tuple[str, int], host: str, token: str, name: str) -> AsyncIterator[Device]:
    """A signed-in socket with a circuit of its own."""
    link = await dial(SocksProxy(socks), host, 80, credentials=(name, "x"), timeout_seconds=_SECONDS)
    async with websockets.connect(f"ws://{host}/api/v1/ws", sock=link, compression=None, proxy=None) as device:
        await device.send(json.dumps({"type": "auth", "token": token}))
        await _frame(device, "ready")
        yield device


async def _account(socks: tuple[str, int], host: str) -> str:
    link = await dial(SocksProxy(socks), host, 80, credentials=("first", "x"), timeout_seconds=_SECONDS)
    reader, writer = await asyncio.open_connection(sock=link)
    head = f"POST /api/v1/auth/anonymous HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    answer = await asyncio.wait_for(reader.read(), _SECONDS)
    writer.close()
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["token"])


if __name__ == "__main__":
    alone(measure)
