"""The chat that people would write first: FastAPI and aiosqlite, one shared connection, a commit for each message.

Plain text, and SQLite's own pragmas: a rollback journal (journal_mode=DELETE) with synchronous=FULL, so it is durable.
On a shared connection one's commit takes along what others have half done; nobody is acked before their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import aiosqlite
from fastapi import FastAPI, Header, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

from tests.bench.peers import accounts, running

given = running.told()
known = accounts.read(given.accounts)
sockets: defaultdict[str, list[WebSocket]] = defaultdict(list)
database: aiosqlite.Connection


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global database
    async with aiosqlite.connect(given.database) as database:
        await database.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, account TEXT NOT NULL, content TEXT NOT NULL, at TEXT)"
        )
        await database.execute("CREATE INDEX messages_of ON messages (account)")
        yield


app = FastAPI(lifespan=lifespan)


class Outgoing(BaseModel):
    message: str


async def keep(account: str, content: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    cursor = await database.execute(
        "INSERT INTO messages (account, content, at) VALUES (?, ?, ?)", (account, content, at)
    )
    await database.commit()
    return {"seq": cursor.lastrowid, "author": "visitor", "content": content, "at": at}


async def tell_others(account: str, kept: dict[str, Any], but: WebSocket | None = None) -> None:
    for socket in list(sockets[account]):
        if socket is not but:
            with suppress(WebSocketDisconnect, RuntimeError):
                await socket.send_json({"type": "message", **kept})


@app.websocket("/api/v1/ws")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    first = await socket.receive_json()
    account = accounts.hash_of(first["token"])
    if account not in known:
        await socket.close(4001)
        return
    sockets[account].append(socket)
    try:
        await socket.send_json({"type": "ready"})
        while True:
            frame = await socket.receive_json()
            kept = await keep(account, frame["content"])
            await socket.send_json({"type": "ack", "id": frame["id"], **kept})
            await tell_others(account, kept, but=socket)
    except WebSocketDisconnect:
        pass
    finally:
        sockets[account].remove(socket)


@app.post("/api/v1/chat/send")
async def send(outgoing: Outgoing, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    account = accounts.hash_of(authorization.removeprefix("Bearer "))
    if account not in known:
        raise HTTPException(401)
    kept = await keep(account, outgoing.message)
    await tell_others(account, kept)
    return {"message": kept}


if __name__ == "__main__":
    running.serve(app, given)
