"""WebSocket frames, from the handshake or from the sign-in on; over the same socket as HTTP."""

from __future__ import annotations

import contextlib
import json
import struct
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.fuzz.chance import SPLIT, Chance
from tests.fuzz.http import Visitor, exchange
from tests.fuzz.run import Take
from tests.test_wire import HANDSHAKE, frame, onion_in
from veilsupport.limits import Limits

_INTERNAL: Final = 1011  # uvicorn's word for an application that failed; ours for one that does not answer pings


def make(chance: Chance) -> bytes:
    handshake = chance.bent(HANDSHAKE, share=0.1)
    if chance.happens(0.1):
        query = chance.word("?token={{bearer}}", "?token={{bearer}}&after=0", "?after=1").encode("utf-8", "replace")
        handshake = handshake.replace(b"/ws HTTP", b"/ws" + query.replace(b" ", b"") + b" HTTP")
    auth = {"type": "auth", "token": "{{bearer}}", **({"after": 0} if chance.happens(0.2) else {})}
    # The place for the token is shorter than the token, so the length is filled in with it.
    first = b"{{auth}}" if not chance.happens(0.1) else _frame(chance, json.dumps(auth).encode())
    frames = [_any(chance) for _ in range(chance.random.choice((0, 1, 2, 5, 30)))]
    made = first + chance.bent(b"".join(frames), share=0.15)
    return handshake + SPLIT + (made.replace(first, first + SPLIT, 1) if chance.happens(0.3) else made)


def _any(chance: Chance) -> bytes:
    if chance.happens(0.4):
        said = {"type": "message", "content": chance.text() or "x", "id": chance.one_of("n1", "n2")}
        return frame(json.dumps(chance.one_of(said, {"type": "read", "seq": chance.number()})).encode())
    if chance.happens(0.7):
        fields = chance.fields(
            type=lambda: chance.word("message", "message", "read", "typing", "ping", "auth"),
            content=chance.text,
            id=lambda: chance.word("n1", "n2"),
            seq=chance.number,
        )
        for name in chance.random.sample(["content", "id", "seq"], k=2 if chance.happens(0.6) else 0):
            fields.pop(name, None)
        payload = json.dumps(fields).encode()
    else:
        payload = (
            json.dumps(chance.value()).encode() if chance.happens(0.7) else chance.text().encode("utf-8", "replace")
        )
    return _frame(chance, payload)


def _frame(chance: Chance, payload: bytes) -> bytes:
    if chance.happens(0.9):
        return frame(payload)
    opcode, length = chance.random.randrange(16), chance.one_of(None, None, 0, 1, 125, 65_535, 2**31, 2**63 - 1)
    return frame(chance.bent(payload, share=0.5), opcode, fin=chance.happens(0.7), length=length)


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Take]:
    async with onion_in(directory, Limits(())) as onion:
        visitor = Visitor(onion)

        async def take(case: bytes) -> None:
            case = await visitor.fill(case)
            auth = frame(json.dumps({"type": "auth", "token": onion.token}).encode())
            answer = await exchange(onion.path, case.replace(b"{{auth}}", auth), waits_for_head=True)
            assert not onion.served.bugs, "".join(traceback.format_exception(onion.served.bugs[0]))
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:12].decode()
            assert _close_code(answer.partition(b"\r\n\r\n")[2]) != _INTERNAL, "closed by a fault of ours"

        yield take


def _close_code(frames: bytes) -> int:
    """0: none."""
    while len(frames) >= 2:
        size, head = frames[1] & 127, 2
        if size == 126 and len(frames) >= 4:
            size, head = struct.unpack("!H", frames[2:4])[0], 4
        if frames[0] & 15 == 8 and size >= 2:
            return int(struct.unpack("!H", frames[head : head + 2].ljust(2, b"\0"))[0])
        frames = frames[head + size :]
    return 0
