"""A program in miniature: speaks JSON and WebSocket to the ASGI application, as an integrator's would over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message

from tests.browser import OWN, Answer, Browser, Hook, Served, site_of
from tests.desks import desk_in
from veilsupport.desk import Desk
from veilsupport.limits import Limits
from veilsupport.model import Site

SHOP = Site("shop", "The Shop", "Ask us.", "#aa0000", ("de", "en"), ("https://shop.example", "http://other.example:81"))
SITES = {"": OWN, "shop": SHOP}
HOST = "127.0.0.1:8080"
EMAIL, PASSWORD = "jo@mail.example", "long enough"


@dataclass
class Reply:
    """One answer; `json` is None when it has no body."""

    status: int
    json: Any
    answer: Answer

    def header(self, name: str) -> str:
        return self.answer.header(name)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def field(self) -> str | None:
        found: str | None = self.json["error"]["field"]
        return found


class Program:
    """On loopback by default; `token` goes along with everything once it is there."""

    def __init__(self, app: ASGIApp, *, token: str = "", circuit: tuple[str, int] | None = None, host: str = HOST):
        self.app = app
        self.token = token
        self.browser = Browser(app, circuit=circuit, host=host)

    async def call(self, method: str, path: str, body: object = None, *, raw: bytes = b"", **headers: Any) -> Reply:
        """`body` is sent as JSON, `raw` as it is."""
        sent = json.dumps(body).encode() if body is not None else raw
        headers.setdefault("content_type", "application/json" if sent else "")
        if self.token:
            headers.setdefault("authorization", f"Bearer {self.token}")
        answer = await self.browser.request(method, f"/api/v1{path}", body=sent, **headers)
        return Reply(answer.status, json.loads(answer.text) if answer.text else None, answer)

    async def get(self, path: str, **headers: Any) -> Reply:
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: object = None, **headers: Any) -> Reply:
        return await self.call("POST", path, body, **headers)

    async def starts(self) -> Reply:
        """Anonymously; keeps the token."""
        reply = await self.post("/auth/anonymous")
        assert reply.status == 201
        self.token = reply.json["token"]
        return reply

    async def says(self, text: str, **more: str) -> Reply:
        reply = await self.post("/chat/send", {"message": text, **more})
        assert reply.status == 200, reply.json
        return reply

    def socket(self, query: str = "", *, before_send: Hook | None = None, **headers: Any) -> Socket:
        path = f"/api/v1/ws{query}"
        scope = {**self.browser.scope("GET", path, **headers), "type": "websocket", "subprotocols": []}
        return Socket(self.app, scope, before_send)

    def signed(self, *, after: int | None = None, **headers: Any) -> Socket:
        """A socket that signs itself in."""
        socket = self.socket(**headers)
        socket.say(type="auth", token=self.token, **({} if after is None else {"after": after}))
        return socket


class Socket:
    """An open WebSocket. `async with` ends with the client going away."""

    def __init__(self, app: ASGIApp, scope: Any, before_send: Hook | None) -> None:
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._before_send = before_send
        self._sent = 0
        self.left = False
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(scope, self._in.get, self._send))

    async def _send(self, message: Message) -> None:
        if self.left:
            raise OSError
        if self._before_send is not None:
            await self._before_send(self._sent)
        self._sent += 1
        if message["type"] == "websocket.close":
            self._in.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        self._out.put_nowait(message)

    def say(self, **frame: object) -> None:
        self.say_text(json.dumps(frame))

    def say_text(self, text: str) -> None:
        self._in.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data: bytes) -> None:
        self._in.put_nowait({"type": "websocket.receive", "bytes": data})

    def leave(self) -> None:
        self.left = True
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def event(self) -> Message:
        """What the application sends next."""
        return await asyncio.wait_for(self._out.get(), 5)

    async def next(self, *kinds: str) -> Any:
        """The next frame, or the next of these kinds."""
        while True:
            event = await self.event()
            if event["type"] == "websocket.accept":
                continue
            assert event["type"] == "websocket.send", event
            frame = json.loads(event["text"])
            if not kinds or frame["type"] in kinds:
                return frame

    async def messages(self, count: int) -> list[str]:
        """The contents of the next messages and acks."""
        return [(await self.next("message", "ack"))["content"] for _ in range(count)]

    async def closed(self) -> int:
        """The close code, whatever comes before."""
        while True:
            event = await self.event()
            if event["type"] == "websocket.close":
                return int(event["code"])

    async def __aenter__(self) -> Socket:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()
        await asyncio.wait_for(self.task, 5)


Story = Callable[[Program, Desk, Served], Awaitable[None]]


def tell(
    tmp_path: Path, story: Story, *, limits: Limits | None = None, sites: Mapping[str, Site] = SITES, prefix: str = ""
) -> None:
    """Tell a program's story to a fresh desk; a bug of ours fails it."""

    async def run() -> None:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk, limits=limits, sites=sites, prefix=prefix)
            await story(Program(served.site), desk, served)
            assert served.bugs == []

    asyncio.run(run())
