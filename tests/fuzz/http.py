"""HTTP as tor would pass it on: bytes on the unix socket, with the shim, uvicorn and all of the web edge behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from tests.browser import ONION
from tests.desks import KEY, NOON
from tests.fuzz.chance import SPLIT, Chance
from tests.fuzz.run import Take
from tests.test_wire import LINE, Onion, onion_in
from veilsupport.limits import Limits
from veilsupport.model import Private, Session
from veilsupport.web import TABLE
from veilsupport.web.api import ROOT
from veilsupport.web.api import TABLE as API
from veilsupport.web.forms import Tokens

CLIENTS: Final = 24
_IDLE_SECONDS: Final = 0.05  # whoever has sent half a request waits no longer for an answer
_BEARER: Final = b"{{bearer}}"
_TOKEN: Final = re.compile(rb"\{\{token:(\w*)\}\}")
_LENGTH: Final = b"{{length}}"
_STATUS: Final = re.compile(rb"(?:\A|\r\n)HTTP/1\.1 (\d\d\d)")
_MORE_PAGES: Final = ("/chat/live", "/badge/{site}.png", "/check", "/api", "/api/openapi.json", "/nowhere")
_PAGES: Final = (*(row.path for row in TABLE), *_MORE_PAGES)
_PURPOSES: Final = ("start", "return", "account", "keep", "say", "leave", "arrive", "embed")
_METHODS: Final = ("GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get")


# ---- made ----------------------------------------------------------------------------------------------------------


def make(chance: Chance) -> bytes:
    if chance.happens(0.04):
        return chance.bent(chance.text().encode("utf-8", "replace") * chance.random.randrange(1, 40), share=0.9)
    made = _request(chance)
    if chance.happens(0.05):
        made += _request(chance)  # behind the first, on the same connection
    return _in_pieces(chance, chance.bent(made, share=0.25))


def _request(chance: Chance) -> bytes:
    path, kind, body = chance.pick((_page, _page, _program))(chance)
    is_api = kind == "application/json"
    method = chance.pick(_METHODS) if chance.happens(0.2) else "POST" if body else "GET"
    headers = {
        "Host": chance.word(ONION) if chance.happens(0.1) else ONION,
        "Cookie": "veil={{bearer}}" if not chance.happens(0.1) else f"veil={chance.text()}; {chance.text()}",
        "Connection": chance.word("close", "close", "keep-alive") if chance.happens(0.2) else "close",
    }
    if is_api:
        headers["Authorization"] = "Bearer {{bearer}}" if not chance.happens(0.1) else chance.text()
    if body:
        headers["Content-Type"] = chance.word(kind) if chance.happens(0.1) else kind
    if chance.happens(0.3):
        headers["Origin"] = chance.word(f"http://{ONION}", "null", "https://shop.example")
    for _ in range(chance.random.choice((0, 0, 0, 1, 2, 60))):
        headers[chance.word("Expect", "Upgrade", "Range", "Via", "Accept", "X-Forwarded-For", "TE", "Trailer")] = (
            chance.word("100-continue", "websocket", "bytes=0-", "h2c")
        )
    return _written(chance, method, path, headers, body)


def _written(chance: Chance, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    if body and chance.happens(0.15):
        headers["Transfer-Encoding"] = chance.word("chunked", "chunked", "chunked", "gzip, chunked", "identity")
        body = _chunked(chance, body)
        if chance.happens(0.1):
            headers["Content-Length"] = str(chance.number())
    elif body:
        headers["Content-Length"] = (
            "{{length}}" if not chance.happens(0.05) else chance.word("5", "-1", "+3", "9999999")
        )
    version = "1.1" if not chance.happens(0.05) else chance.word("1.0", "2", "0.9", "1.11")
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers.items())]
    if not chance.happens(0.1):  # else the parser refuses it, and nobody behind it is asked
        lines = [re.sub("[^\x20-\U0010ffff]", "", line) for line in lines]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body


def _page(chance: Chance) -> tuple[str, str, bytes]:
    """(path, content type, body)"""
    site = quote(chance.word("shop", "shop", ""), safe="")
    path = str(chance.pick(_PAGES)).replace("{site}", site)
    if chance.happens(0.3):
        path += "?" + urlencode({chance.word("before", "w", "site"): chance.word("3", "0", "-1")}, errors="replace")
    if chance.happens(0.3):
        return path, "application/x-www-form-urlencoded", b""
    row = next((row for row in TABLE if row.path.replace("{site}", site) == path.partition("?")[0]), None)
    purpose = row.purpose if row and not chance.happens(0.1) else chance.pick(_PURPOSES)
    fields: dict[str, Any] = chance.fields(
        message=chance.text, code=chance.text, here=lambda: f"http://{ONION}/", text=chance.text
    )
    if purpose == "account" and chance.happens(0.02):  # each costs a tenth of a second and 64 MiB
        fields |= {"email": chance.word("a@b.example"), "password": chance.text(), chance.word("create"): "1"}
    if chance.happens(0.2):
        fields[chance.word("session", "longer", "enter", "draft")] = chance.word("{{bearer}}", "1")
    text = urlencode({name: str(value) for name, value in fields.items()}, errors="replace", safe="{}:")
    return path, "application/x-www-form-urlencoded", f"{text}&token={{{{token:{purpose}}}}}".encode()


def _program(chance: Chance) -> tuple[str, str, bytes]:
    row = chance.pick(API)
    path = ROOT + row.path.replace("{id}", quote(chance.word("0" * 16), safe=""))
    if row.path in ("/account", "/auth/logout", "/auth/refresh") and chance.happens(0.9):
        path += "x"  # else hardly anyone would stay signed in
    if row.path in ("/auth/register", "/auth/login", "/auth/password") and chance.happens(0.95):
        path += "/"  # each costs a tenth of a second and 64 MiB
    if row.method == "GET" or chance.happens(0.1):
        query = {chance.word(*row.asks.model_fields): chance.word("1", "0", "200", "shop") for _ in range(2)}
        path += "?" + urlencode(query, errors="replace")
    if row.method == "GET" and chance.happens(0.9):
        return path, "application/json", b""
    plausible = {
        "id": lambda: chance.word("n1", "n2"),
        "seq": chance.number,
        "email": lambda: chance.word("a@b.example"),
    }
    usual = {name: plausible.get(name, chance.text) for name in row.asks.model_fields}
    body = json.dumps(chance.fields(**usual) if not chance.happens(0.1) else chance.value()).encode()
    return path, "application/json", b"[" * 16_000 if chance.happens(0.005) else body


def _chunked(chance: Chance, body: bytes) -> bytes:
    written = b""
    while body:
        size = chance.random.randrange(1, 40) * chance.random.choice((1, 1, 500))
        piece, body = body[:size], body[size:]
        said = len(piece) if not chance.happens(0.03) else chance.number()
        extra = f";{chance.text()}".encode("utf-8", "replace") if chance.happens(0.1) else b""
        written += f"{said:x}".encode() + extra + b"\r\n" + piece + b"\r\n"
    return written + (b"0\r\n\r\n" if not chance.happens(0.1) else b"0\r\n" + b"a: b\r\n" * 40 + b"\r\n")


def _in_pieces(chance: Chance, made: bytes) -> bytes:
    """As a slow sender gives them, one after the other."""
    if not chance.happens(0.15):
        return made
    for _ in range(chance.random.randrange(1, 6)):
        at = chance.random.randrange(len(made) + 1)
        made = made[:at] + SPLIT + made[at:]
    return made


# ---- taken ---------------------------------------------------------------------------------------------------------


class Visitor:
    """Someone who is signed in, in whose name the cases come; anew when a case has signed them out."""

    def __init__(self, onion: Onion) -> None:
        self.onion = onion
        self._tokens = Tokens(KEY.forms)

    async def fill(self, case: bytes) -> bytes:
        """With a session, form tokens that are good, and true lengths in the places for them."""
        token = self.onion.token
        session = self._session()
        if session is None:
            signed, _ = await self.onion.desk.visitor_arrives(now=NOON)
            token = self.onion.token = signed.token.reveal()
            session = self._session()
        assert session is not None
        bound_to = session.token_hash

        def issued(found: re.Match[bytes]) -> bytes:
            purpose = found[1].decode()
            bound = bound_to if purpose in ("keep", "say", "leave", "burn") else b""
            return self._tokens.issue(purpose, bound, now=NOON).encode()

        filled = _TOKEN.sub(issued, case.replace(_BEARER, token.encode()))
        body = filled.partition(b"\r\n\r\n")[2]
        return filled.replace(_LENGTH, str(len(body.replace(SPLIT, b""))).encode())

    def _session(self) -> Session | None:
        return self.onion.desk.open_session(Private(self.onion.token))


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Take]:
    """Without limits: else most cases would be told to wait, and nothing else."""
    async with onion_in(directory, Limits(())) as onion:
        visitor = Visitor(onion)

        async def take(case: bytes) -> None:
            answer = await exchange(onion.path, await visitor.fill(case))
            assert not onion.served.bugs, "".join(traceback.format_exception(onion.served.bugs[0]))
            for status in map(int, _STATUS.findall(answer)):
                on_purpose = status == 503 and b"retry-after" in answer.lower()
                assert status < 500 or on_purpose, f"answered with {status}"

        yield take


async def exchange(path: Path, sent: bytes, *, waits_for_head: bool = False) -> bytes:
    """What comes back until it is whole, or nothing more comes. `waits_for_head`: after the first piece."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    received = b""
    try:
        writer.write(LINE)
        for piece in sent.split(SPLIT):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002 if SPLIT in sent else 0)
            if waits_for_head and not received:
                async with asyncio.timeout(1):
                    received = await reader.readuntil(b"\r\n\r\n")
        while not _is_whole(received):
            async with asyncio.timeout(_IDLE_SECONDS):
                more = await reader.read(65_536)
            if not more:
                break
            received += more
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()
    return received


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    if not end or b"connection: close" in head.lower():
        return False
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
