"""The usual library for live chats: FastAPI, python-socketio and aiosqlite, a room for each account.

Stores as fastapichat does: plain text, one shared connection, a commit for each message, SQLite's own pragmas
(journal_mode=DELETE, synchronous=FULL).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiosqlite
import socketio
from fastapi import FastAPI

from tests.bench.peers import accounts, running

given = running.told()
known = accounts.read(given.accounts)
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


live = socketio.AsyncServer(async_mode="asgi")
app = FastAPI(lifespan=lifespan)
app.mount("/socket.io", socketio.ASGIApp(live))


@live.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    account = accounts.hash_of(auth["token"])
    if account not in known:
        raise socketio.exceptions.ConnectionRefusedError("unknown token")
    await live.save_session(sid, {"account": account})
    await live.enter_room(sid, account)


@live.event
async def message(sid: str, said: dict[str, str]) -> None:
    account = (await live.get_session(sid))["account"]
    at = datetime.now(UTC).isoformat()
    cursor = await database.execute(
        "INSERT INTO messages (account, content, at) VALUES (?, ?, ?)", (account, said["content"], at)
    )
    await database.commit()
    kept = {"seq": cursor.lastrowid, "author": "visitor", "content": said["content"], "at": at}
    await live.emit("ack", {"id": said["id"], **kept}, to=sid)
    await live.emit("message", kept, room=account, skip_sid=sid)


if __name__ == "__main__":
    running.serve(app, given)
