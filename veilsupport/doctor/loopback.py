"""A visitor of our own: comes through Tor, writes one marked message, sees it handed over, burns it, sees it gone.

All of it goes the way that any program of a visitor's goes, by the REST API, over one fresh circuit. Knows HTTP, and
the SOCKS port that leads to Tor; knows nothing of the desk within.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from veilsupport.doctor.checks import Finding, look, ok, wrong
from veilsupport.errors import Unavailable
from veilsupport.model import Private
from veilsupport.socks import SocksProxy, dial

_ANSWER_MAX_BYTES: Final = 1 << 20
_ABOUT: Final = "loop-back"
_MESSAGE: Final = "This is a test of the desk by its operator (doctor {mark}). Nothing has to be done."
_API: Final = "/api/v1"
_KEPT: Final = "kept"  # how far a message has come, in the API's words, until it is handed over


@dataclass(frozen=True, slots=True)
class Door:
    """Where the visitor comes in: an onion through our own tor, or the loopback port."""

    host: str = field(repr=False)  # an onion address, or 127.0.0.1
    port: int
    proxy: SocksProxy | None  # None: dialled directly, on loopback
    prefix: str = ""

    @property
    def authority(self) -> str:
        """The Host header's value."""
        return self.host if self.port == 80 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step may take, in seconds. A cold onion circuit can take half a minute, a new room a few more."""

    request: float = 60
    hand_over: float = 90
    pause: float = 0.5  # between two looks at how far the message has come


OVER_TOR: Final = Patience()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the hand-over needs. `unproved`: why it cannot be seen here, in words; empty: it can."""

    unproved: str = ""


class Failed(Exception):
    """A step that did not come about, as the finding that says so."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.words)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Remember = Callable[[Private | None], Awaitable[None]]  # the token that must be burned; None: it is gone


async def loop_back(
    door: Door, expected: Expected, *, remember: Remember, patience: Patience = OVER_TOR
) -> AsyncGenerator[Finding, None]:
    """Each hop as it is done, with its time. However it ends, nothing of the test is left.

    `remember` is told before anything is written and after it is gone. What could not be removed from out here stays
    remembered; the last finding says so.
    """
    visitor = _Visitor(door, patience, remember)
    try:
        yield await visitor.sees_the_page()
        yield await visitor.writes()
        yield await visitor.waits(expected)
        yield await visitor.burns()
    except Failed as failed:
        yield failed.finding
        if visitor.token is not None:
            yield await visitor.tries_to_burn()
    finally:
        if visitor.token is not None:  # interrupted
            with contextlib.suppress(Failed):
                await visitor.burns()


class _Visitor:
    def __init__(self, door: Door, patience: Patience, remember: Remember) -> None:
        self.token: Private | None = None  # while there is something to burn
        self._door = door
        self._patience = patience
        self._remember = remember
        self._mark = secrets.token_hex(2)
        self._credentials = (
            "doctor",
            secrets.token_hex(8),
        )  # never used before: a circuit of its own (IsolateSOCKSAuth)
        self._seq = 0

    async def sees_the_page(self) -> Finding:
        began = time.monotonic()
        reply = await self._asks("GET", "/", what="The page did not come")
        if reply.status != 200:
            raise Failed(wrong(_ABOUT, "The page came as an error.", "Look at the log of the desk."))
        way = "through Tor, on a fresh circuit" if self._door.proxy else "on loopback"
        return ok(_ABOUT, f"The page came {way}: {_since(began)}.")

    async def writes(self) -> Finding:
        began = time.monotonic()
        started = await self._asks("POST", f"{_API}/auth/anonymous", {}, what="No conversation could be begun")
        if started.status != 201:
            raise Failed(_refused("No conversation could be begun", started.status))
        self.token = Private(str(started.json["token"]))
        await self._remember(self.token)
        body = {"message": _MESSAGE.format(mark=self._mark), "id": f"doctor-{self._mark}"}
        sent = await self._asks("POST", f"{_API}/chat/send", body, what="The message was not taken")
        if sent.status != 200:
            raise Failed(_refused("The message was not taken", sent.status))
        self._seq = int(sent.json["message"]["seq"])
        return ok(_ABOUT, f"A marked message ({self._mark}) was accepted: {_since(began)}.")

    async def waits(self, expected: Expected) -> Finding:
        """Until the XMPP server has acknowledged it."""
        if expected.unproved:
            return look(_ABOUT, f"Not proved that it is handed over: {expected.unproved}.", "See the lines above.")
        began = time.monotonic()
        while await self._state() == _KEPT:
            if time.monotonic() - began > self._patience.hand_over:
                words = f"The XMPP server did not acknowledge it within {self._patience.hand_over:.0f} s."
                raise Failed(wrong(_ABOUT, words, "Look at the lines on XMPP, rooms and OMEMO above."))
            await asyncio.sleep(self._patience.pause)
        return ok(_ABOUT, f"It was handed over to the admins' server: {_since(began)}.")

    async def burns(self) -> Finding:
        began = time.monotonic()
        gone = await self._asks("DELETE", f"{_API}/account", what="The test could not be removed")
        if gone.status not in (204, 401):  # 401: it was taken already, and only the answer was lost
            raise Failed(_refused("The test could not be removed", gone.status))
        if (await self._asks("GET", f"{_API}/chat/history", what="It was not seen to be gone")).status != 401:
            raise Failed(wrong(_ABOUT, "The test was burned, and can still be read.", "Please report this bug."))
        self.token = None
        await self._remember(None)
        return ok(_ABOUT, f"It was burned, and is gone: {_since(began)}.")

    async def tries_to_burn(self) -> Finding:
        """After something else has failed."""
        try:
            return await self.burns()
        except Failed:
            self.token = None  # Not a third time; it is remembered.
            return look(_ABOUT, "The test could not be burned this way.", "The desk removes it by itself.")

    async def _state(self) -> str:
        told = await self._asks("GET", f"{_API}/chat/status", what="The message's state could not be asked")
        if told.status == 429:  # limits hold for us, too
            return _KEPT
        if told.status != 200:
            raise Failed(_refused("The message's state could not be asked", told.status))
        return next((str(each["state"]) for each in told.json["states"] if each["seq"] == self._seq), _KEPT)

    async def _asks(self, method: str, path: str, body: object = None, *, what: str) -> _Reply:
        """Failed: no answer in time, or none that is HTTP."""
        try:
            async with asyncio.timeout(self._patience.request):
                return await self._exchanged(method, self._door.prefix + path, body)
        except TimeoutError:
            words = f"{what} within {self._patience.request:.0f} s."
        except Unavailable as error:
            words = f"{what}: {error.message}."
        except (OSError, EOFError, ValueError, http.client.HTTPException):
            words = f"{what}: the connection broke."
        where = "Look at the lines on tor above" if self._door.proxy else "Look at the log of the desk"
        raise Failed(wrong(_ABOUT, words, f"{where}, and try it again."))

    async def _exchanged(self, method: str, path: str, body: object) -> _Reply:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._door.authority}",
            "Connection: close",
            f"Content-Length: {len(content)}",
            *(["Content-Type: application/json"] if content else []),
            *([f"Authorization: Bearer {self.token.reveal()}"] if self.token else []),
        ]
        reader, writer = await self._dialled()
        try:
            writer.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + content)
            return _parsed(await _all_of(reader), method)
        finally:
            writer.close()

    async def _dialled(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        door = self._door
        if door.proxy is None:
            return await asyncio.open_connection(door.host, door.port)
        connection = await dial(
            door.proxy, door.host, door.port, credentials=self._credentials, timeout_seconds=self._patience.request
        )
        return await asyncio.open_connection(sock=connection)


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    """To the connection's end. ValueError: too much."""
    got = b""
    while piece := await reader.read(1 << 16):
        got += piece
        if len(got) > _ANSWER_MAX_BYTES:
            raise ValueError("too long")
    return got


class _Bytes:
    """What http.client takes for a socket."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _parsed(raw: bytes, method: str) -> _Reply:
    """http.client.HTTPException: that is no answer, or not a whole one."""
    response = http.client.HTTPResponse(cast(Any, _Bytes(raw)), method=method)
    response.begin()
    return _Reply(response.status, response.read())


def _refused(what: str, status: int) -> Finding:
    if status == 429:
        return look(_ABOUT, f"{what}: the desk has too much to do just now.", "Try it again in a minute.")
    if status == 503:
        return wrong(_ABOUT, f"{what}: the disk does not take it.", "Look at the lines on the disk above.")
    return wrong(_ABOUT, f"{what}: the desk answers {status}.", "Look at the log of the desk.")


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.2f} s"
