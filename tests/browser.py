"""A visitor's browser in miniature: speaks ASGI to the application, keeps its cookie, reads forms. No scripts."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Scope

from tests.desks import ADA, KEY, NOON, desk_in, intake
from veilsupport import model
from veilsupport.breaker import Breaker
from veilsupport.desk import Desk
from veilsupport.limits import Limits
from veilsupport.web import Site, build

ONION = "a" * 56 + ".onion"
CIRCUIT = ("circ-0000003a", 80)
Hook = Callable[[int], Awaitable[None]]
FORM = "application/x-www-form-urlencoded"


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Served:
    """An application and what a test needs to know of it."""

    site: Site
    clock: Clock
    bugs: list[BaseException]


OWN = model.Site("", "Harbour Support", "Write to us.")


def site_of(
    desk: Desk,
    *,
    limits: Limits | None = None,
    onion: str | None = ONION,
    sites: Mapping[str, model.Site] = MappingProxyType({"": OWN}),
    prefix: str = "",
    breaker: Breaker | None = None,
    on_flood: Callable[[int], None] = lambda circuit: None,
) -> Served:
    clock = Clock()
    bugs: list[BaseException] = []
    site = build(
        desk,
        Limits() if limits is None else limits,
        key=KEY.forms,
        sites=lambda: sites,
        prefix=prefix,
        onion=lambda: onion,
        clock=clock,
        on_bug=bugs.append,
        breaker=breaker,
        on_flood=on_flood,
    )
    return Served(site, clock, bugs)


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str:
        return "; ".join(value for key, value in self.headers if key == name)

    @property
    def place(self) -> str:
        return self.header("location")

    def hidden(self) -> dict[str, str]:
        """The hidden fields of the page's form."""
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.text)
        return {name: html.unescape(value) for name, value in fields}


class Browser:
    """One profile. `circuit=None` comes over loopback."""

    def __init__(
        self, app: ASGIApp, *, host: str = ONION, circuit: tuple[str, int] | None = CIRCUIT, cookie: str = ""
    ) -> None:
        self.app = app
        self.host = host
        self.circuit = circuit
        self.cookie = cookie

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, body=b"", **headers)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        headers.setdefault("origin", f"http://{self.host}")
        return await self.request("POST", path, body=urlencode(fields).encode(), **headers)

    async def send_form(self, page: str, **fields: str) -> Answer:
        """Open the page, fill in its form, press the button."""
        shown = await self.get(page)
        return await self.post(page, {**shown.hidden(), **fields})

    async def start(self, text: str = "is anyone there?") -> Answer:
        answer = await self.send_form("/", message=text)
        assert (answer.status, answer.place) == (303, "/chat")
        return answer

    async def say(self, text: str) -> Answer:
        return await self.send_form("/chat/compose", message=text)

    async def request(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> Answer:
        exchange = Exchange(self.scope(method, path, body=body, **headers), body)
        await asyncio.wait_for(self.app(exchange.scope, exchange.receive, exchange.send), 10)
        return self._keep_cookie(exchange.answer())

    def scope(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> Scope:
        given = {"host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookie:
            given.setdefault("cookie", self.cookie)
        if body:
            given.setdefault("content-type", FORM)
            given.setdefault("content-length", str(len(body)))
        path, _, query = path.partition("?")
        return {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "client": self.circuit or ("127.0.0.1", 4000),
            "server": None,
            "headers": [(name.encode(), value.encode("utf-8")) for name, value in given.items() if value],
        }

    def _keep_cookie(self, answer: Answer) -> Answer:
        if given := answer.header("set-cookie"):
            name_value, _, attributes = given.partition(";")
            self.cookie = "" if "max-age=0" in attributes.lower() else name_value
        return answer

    def stream(
        self, path: str = "/chat/live", *, fields: dict[str, str] | None = None, before_send: Hook | None = None
    ) -> Stream:
        """With `fields`, the endless answer to a form."""
        body = urlencode(fields or {}).encode()
        return Stream(self.app, self.scope("POST" if fields else "GET", path, body=body), body, before_send)


class Exchange:
    """One request's `receive` and `send`; `before_send` runs while the application waits to send."""

    def __init__(self, scope: Scope, body: bytes | Iterable[Message] = b"", before_send: Hook | None = None) -> None:
        self.scope = scope
        self._before_send = before_send
        messages: Iterable[Message] = (
            [{"type": "http.request", "body": body, "more_body": False}] if isinstance(body, bytes) else body
        )
        self._incoming = iter(messages)
        self.left = asyncio.Event()
        self.sent: list[Message] = []
        self.news = asyncio.Event()

    async def receive(self) -> Message:
        for message in self._incoming:
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._before_send is not None:
            await self._before_send(len(self.sent))
        self.sent.append(message)
        self.news.set()

    def answer(self) -> Answer:
        start = self.sent[0]
        return Answer(
            start["status"],
            [(name.decode().lower(), value.decode("latin-1")) for name, value in start["headers"]],
            self.text(),
        )

    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent[1:]).decode()


class Stream:
    """An open live view."""

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes, before_send: Hook | None) -> None:
        self._exchange = Exchange(scope, body, before_send=before_send)
        self._task = asyncio.ensure_future(app(scope, self._exchange.receive, self._exchange.send))

    async def __aenter__(self) -> Stream:
        await self.until("</html>", "tabindex")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._exchange.left.set()
        await asyncio.wait_for(self._task, 5)

    @property
    def text(self) -> str:
        return self._exchange.text() if self._exchange.sent else ""

    @property
    def window(self) -> str:
        """The name that the view carries over its reconnections."""
        found = re.search(r"url=/chat/live\?w=([\w-]+)", self.text)
        assert found
        return found[1]

    async def until(self, *any_of: str) -> str:
        """All that came so far, as soon as one of these stands in it."""
        async with asyncio.timeout(5):
            while not any(words in self.text for words in any_of):
                self._exchange.news.clear()
                await self._exchange.news.wait()
        return self.text

    async def end(self) -> str:
        """Wait until the server ends it by itself."""
        await asyncio.wait_for(asyncio.shield(self._task), 5)
        return self.text


Story = Callable[[Browser, Desk, Served], Awaitable[None]]


def tell(tmp_path: Path, story: Story) -> None:
    async def run() -> None:
        async with desk_in(tmp_path) as desk:
            served = site_of(desk)
            await story(Browser(served.site), desk, served)
            assert served.bugs == []

    asyncio.run(run())


async def answers(desk: Desk, body: str) -> None:
    await desk.admin_says(ADA, desk.open_aliases()[0], body, intake=intake(), now=0.0)


def bodies(text: str) -> list[str]:
    return [html.unescape(body) for body in re.findall(r'<p class="body" dir="auto">(.*?)</p>', text, re.DOTALL)]


def words_of(text: str) -> str:
    found = re.search(r'<p class="words">([a-z -]+)</p>', text)
    assert found
    return found[1]
