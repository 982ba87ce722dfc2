"""The bare path of our product: sealed twice, kept durably, told to the other devices. No limits, no pages.

WebSocket `/api/v1/ws` and `POST /api/v1/chat/send`, in the product's protocol as far as a message needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nacl.bindings
from starlette.types import Receive, Scope, Send

from tests.bench.peers import accounts, running
from veilsupport import garbage

_PAD_BYTES: Final = 256
_BATCH_MAX: Final = 512
_SCHEMA: Final = Path(__file__).with_name("sealed.sql")
_MESSAGE: Final = "INSERT INTO message (conversation, seq, minute, sealed) VALUES (?, ?, ?, ?)"
_OUTBOX: Final = "INSERT INTO outbox (conversation, seq, sealed) VALUES (?, ?, ?)"

Places = list[Send]


@dataclass(slots=True)
class Account:
    conversation: bytes
    public_key: bytes
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    places: Places = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    conversation: bytes
    seq: int
    minute: int
    sealed: bytes
    for_admins: bytes


class Store(threading.Thread):
    """Group commit, as in veilsupport/store/writer.py: all that waits goes into one transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA.read_text())
        self._waiting: queue.SimpleQueue[tuple[Row, asyncio.Future[None]]] = queue.SimpleQueue()

    async def keep(self, row: Row) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.put((row, done))
        await done

    def run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _BATCH_MAX:
                    batch.append(self._waiting.get_nowait())
            rows = [row for row, _ in batch]
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_MESSAGE, [(row.conversation, row.seq, row.minute, row.sealed) for row in rows])
            self._db.executemany(_OUTBOX, [(row.conversation, row.seq, row.for_admins) for row in rows])
            self._db.execute("COMMIT")
            batch[0][1].get_loop().call_soon_threadsafe(_resolve, [done for _, done in batch])


def _resolve(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class Skeleton:
    """The ASGI application."""

    def __init__(self, given: running.Told) -> None:
        self._store = Store(given.database)
        self._store.start()
        self._outbox_key = os.urandom(32)
        self._accounts = {
            token_hash: Account(bytes.fromhex(token_hash)[:16], key)
            for token_hash, key in accounts.read(given.accounts).items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/api/v1/ws":
            await self._socket(receive, send)
        elif scope["type"] == "http" and scope["path"] == "/api/v1/chat/send":
            await self._post(scope, receive, send)
        elif scope["type"] != "lifespan":
            await _answer(send, 404, {})

    async def _socket(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        first = json.loads((await receive()).get("text") or "{}")
        account = self._accounts.get(accounts.hash_of(first.get("token", "")))
        if account is None:
            await send({"type": "websocket.close", "code": 4001})
            return
        await _tell(send, {"type": "ready"})
        account.places.append(send)
        try:
            while (event := await receive())["type"] == "websocket.receive":
                frame = json.loads(event["text"])
                kept = await self._say(account, frame["content"])
                await _tell(send, {"type": "ack", "id": frame["id"], **kept})
                await _tell_all(account.places, {"type": "message", **kept}, but=send)
        finally:
            account.places.remove(send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        account = self._accounts.get(accounts.hash_of(token))
        if account is None:
            await _answer(send, 401, {})
            return
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            if not event["more_body"]:
                break
        kept = await self._say(account, json.loads(body)["message"])
        await _answer(send, 200, {"message": kept})
        await _tell_all(account.places, {"type": "message", **kept})

    async def _say(self, account: Account, content: str) -> dict[str, Any]:
        """What is told of it, once it is on the disk."""
        seq, minute = next(account.numbers), int(time.time()) // 60
        padded = nacl.bindings.sodium_pad(content.encode(), _PAD_BYTES)
        sealed = nacl.bindings.crypto_box_seal(padded, account.public_key)
        nonce = os.urandom(24)
        wrapped = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            padded, account.conversation, nonce, self._outbox_key
        )
        await self._store.keep(Row(account.conversation, seq, minute, sealed, nonce + wrapped))
        return {"seq": seq, "author": "visitor", "content": content, "at": minute}


async def _tell_all(places: Places, frame: dict[str, Any], *, but: Send | None = None) -> None:
    for place in [place for place in places if place is not but]:
        await _tell(place, frame)


async def _tell(send: Send, frame: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # It has gone.
        await send({"type": "websocket.send", "text": json.dumps(frame, separators=(",", ":"))})


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    raw = json.dumps(body, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


if __name__ == "__main__":
    given = running.told()
    app = Skeleton(given)
    garbage.look_seldom()  # as the product does: else its ratio to this would be that of two collectors
    running.serve(app, given)
