"""WebSockets through the real server, over tor's socket and over loopback: clients that behave, and that do not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket as sockets
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.browser import ONION, Served, site_of
from tests.desks import FREELY, desk_in
from tests.ports import free_port
from tests.program import SITES
from veilsupport.desk import Desk
from veilsupport.limits import Limits
from veilsupport.model import Private
from veilsupport.web import serve, server, wire
from veilsupport.web.frames import FRAME_MAX_BYTES, Close

LINE = b"PROXY TCP6 fc00:dead:beef:4dad::0:3a ::1 1234 80\r\n"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455's own example
HANDSHAKE = (
    f"GET /api/v1/ws HTTP/1.1\r\nHost: {ONION}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class Onion:
    """A served desk behind tor's socket, one visitor's token, and ways to speak to it."""

    def __init__(self, path: Path, desk: Desk, served: Served, token: str, stop: asyncio.Event) -> None:
        self.path = path
        self.desk = desk
        self.served = served
        self.token = token
        self.stop = stop

    async def client(self, query: str = "", **options: Any) -> ClientConnection:
        plain = sockets.socket(sockets.AF_UNIX)
        plain.connect(str(self.path))
        plain.sendall(LINE)
        return await connect(f"ws://{ONION}/api/v1/ws{query}", sock=plain, proxy=None, **options)

    async def signed(self, **options: Any) -> ClientConnection:
        client = await self.client(**options)
        await client.send(json.dumps({"type": "auth", "token": self.token}))
        assert json.loads(await client.recv())["type"] == "ready"
        return client

    async def raw(self, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(LINE + sent)
        return reader, writer

    async def raw_signed(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Signed in, all that was answered so far read."""
        reader, writer = await self.raw(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(json.dumps({"type": "auth", "token": self.token}).encode()))
        assert b'"ready"' in (await read_frame(reader))[1]
        return reader, writer


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, length: int | None = None) -> bytes:
    """One masked frame; `length` lies about it."""
    size = len(payload) if length is None else length
    if size < 126:
        head = bytes([fin << 7 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([fin << 7 | opcode, 0x80 | 126]) + struct.pack("!H", size)
    else:
        head = bytes([fin << 7 | opcode, 0x80 | 127]) + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, payload)"""
    first, size = await asyncio.wait_for(reader.readexactly(2), 5)
    if size == 126:
        size = struct.unpack("!H", await reader.readexactly(2))[0]
    return first & 15, await reader.readexactly(size)


async def close_code(reader: asyncio.StreamReader) -> int:
    """Of the next close frame, whatever comes before it."""
    while True:
        opcode, payload = await read_frame(reader)
        if opcode == 8:
            return int(struct.unpack("!H", payload[:2])[0])


@contextlib.asynccontextmanager
async def onion_in(directory: Path, limits: Limits | None = None) -> AsyncIterator[Onion]:
    stop, ready = asyncio.Event(), asyncio.Event()
    path = directory / "run" / "web.sock"
    async with desk_in(directory) as desk, asyncio.TaskGroup() as tasks:
        served = site_of(desk, sites=SITES, limits=limits)
        tasks.create_task(serve(served.site, unix_socket=path, port=None, stop=stop, ready=ready))
        await ready.wait()
        signed, _ = await desk.visitor_arrives(now=served.clock.now)
        try:
            yield Onion(path, desk, served, signed.token.reveal(), stop)
        finally:
            stop.set()
    assert served.bugs == []


Story = Callable[[Onion], Awaitable[None]]


def tell(tmp_path: Path, story: Story, *, limits: Limits | None = None) -> None:
    async def run() -> None:
        async with onion_in(tmp_path, limits) as onion, asyncio.timeout(20):
            await story(onion)

    asyncio.run(run())


# ---- those who behave ----------------------------------------------------------------------------------------


def test_a_websocket_opens_through_the_shim_and_talks(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        async with await onion.signed() as client:
            assert client.protocol.extensions == []
            await client.send(json.dumps({"type": "message", "content": "hello", "id": "c1"}))
            assert json.loads(await client.recv())["type"] == "ack"
            await (await client.ping())

    tell(tmp_path, story)


def test_the_handshakes_answer_tells_no_clock_and_no_software(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        bad = HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key")
        for sent, status in (
            (HANDSHAKE, b"101"),
            (bad, b"400"),
            (HANDSHAKE.replace(ONION.encode(), b"evil.example"), b"421"),
        ):
            reader, writer = await onion.raw(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.split()[1] == status
            for name in (b"date:", b"server:", b"extensions"):
                assert name not in head
            writer.close()

    tell(tmp_path, story)


def test_a_refused_handshake_carries_the_error_and_our_headers(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        with pytest.raises(InvalidStatus) as caught:
            await onion.client(origin="https://evil.example")
        response = caught.value.response
        assert (response.status_code, response.headers["x-content-type-options"]) == (403, "nosniff")
        assert json.loads(response.body or b"")["error"]["code"] == "wrong_origin"

    tell(tmp_path, story)


def test_loopback_speaks_websocket_too(tmp_path: Path) -> None:
    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        port = free_port()
        async with desk_in(tmp_path) as desk, asyncio.TaskGroup() as tasks:
            served = site_of(desk)
            tasks.create_task(serve(served.site, unix_socket=None, port=port, stop=stop, ready=ready))
            await ready.wait()
            signed, _ = await desk.visitor_arrives(now=0.0)
            token = signed.token.reveal()
            async with connect(f"ws://127.0.0.1:{port}/api/v1/ws?token={token}", proxy=None) as client:
                assert json.loads(await client.recv())["type"] == "ready"
            stop.set()

    asyncio.run(run())


def test_the_circuit_counts_for_the_limits(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        for _ in range(30):
            await (await onion.signed()).close()
        async with await onion.client(f"?token={onion.token}") as client:
            assert json.loads(await client.recv())["error"]["code"] == "too_fast"

    tell(tmp_path, story)


def test_a_message_in_pieces_is_one_message(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        async with await onion.signed() as client:
            text = json.dumps({"type": "message", "content": "in pieces", "id": "c1"})
            await client.send([text[:5], text[5:9], text[9:]])
            assert json.loads(await client.recv())["content"] == "in pieces"

    tell(tmp_path, story)


def test_the_longest_message_fits_however_it_is_written(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        async with await onion.signed() as client:
            for ascii_only in (True, False):
                frame = {"type": "message", "content": "😀" * 4000, "id": f"c{ascii_only}"}
                await client.send(json.dumps(frame, ensure_ascii=ascii_only))
                assert json.loads(await client.recv())["type"] == "ack"

    tell(tmp_path, story)


# ---- those who do not ----------------------------------------------------------------------------------------


def test_a_frame_of_a_megabyte_is_refused_and_the_client_learns_why(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        client = await onion.signed()  # Not `async with`: the client's library stumbles over closing it twice.
        with contextlib.suppress(ConnectionClosed):
            await client.send("x" * 1_000_000)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == Close.TOO_LARGE

    tell(tmp_path, story)


def test_a_lie_about_the_length_is_refused_at_its_head(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        for size in (FRAME_MAX_BYTES + 1, 2**40, 2**63 - 1):
            reader, writer = await onion.raw_signed()
            writer.write(frame(b"", length=size))
            assert await close_code(reader) == Close.TOO_LARGE
            writer.close()

    tell(tmp_path, story)


def test_pieces_that_never_end_are_refused(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"x" * 40_000, fin=False) + frame(b"x" * 40_000, 0, fin=False))
        assert await close_code(reader) == Close.TOO_LARGE
        writer.close()
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"", fin=False) + frame(b"", 0, fin=False) * 200)
        assert await close_code(reader) == Close.TOO_FAST
        writer.close()

    tell(tmp_path, story)


@pytest.mark.parametrize("sent", [frame(b"\xff"), frame(b"\xed\xa0\x80"), frame(b"{", fin=False) + frame(b"\xc3", 0)])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, sent: bytes) -> None:
    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        writer.write(sent)
        assert await close_code(reader) == Close.NOT_UTF8
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x81\x02{}",  # not masked
        b"\xc1\x80\0\0\0\0",  # a reserved bit
        frame(b"", 3),  # no such opcode
        frame(b"", 0),  # goes on with nothing
        frame(b"x" * 126, 9),  # a ping too long
    ],
)
def test_what_is_no_websocket_is_refused(tmp_path: Path, sent: bytes) -> None:
    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        writer.write(sent)
        assert await close_code(reader) == 1002
        writer.close()

    tell(tmp_path, story)


def test_what_ends_while_we_answer_is_no_bug_of_ours(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        for end in (frame(b"\xff"), frame(b"", length=2**40), frame(b"", 3), frame(struct.pack("!H", 1000), 8)):
            reader, writer = await onion.raw_signed()
            writer.write(frame(b'{"type": "ping"}') + end)
            await close_code(reader)
            writer.close()
        async with await onion.signed() as client:  # and the desk goes on
            await (await client.ping())

    tell(tmp_path, story)


def test_after_our_close_frame_we_go_on_reading_for_a_while(tmp_path: Path) -> None:
    """A reset, sent for what nobody reads, could overtake the close frame."""

    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"", length=10**6))
        assert await close_code(reader) == Close.TOO_LARGE
        for _ in range(10):
            writer.write(b"x" * 100_000)
            await writer.drain()
        assert await reader.read() == b""
        writer.close()

    tell(tmp_path, story)


class Pipe(asyncio.Transport):
    """Takes everything, and never comes to the end of it."""

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def piped(onion: Onion, pipe: Pipe | None = None) -> wire.SocketProtocol:
    """A connection whose handshake is done, by itself."""
    config = server._config(onion.served.site, behind_tor=True)
    config.load()
    connection = wire.SocketProtocol(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(pipe or Pipe({"peername": ("circ-0000003a", 80)}))
    connection.data_received(HANDSHAKE.replace(b"Host:", b"host:"))  # as the HTTP parser passes it on
    while not connection.handshake_complete:
        await asyncio.sleep(0)
    return connection


def test_a_stop_just_after_the_clients_close_frame_is_no_trouble(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        connection = await piped(onion)
        connection.data_received(frame(struct.pack("!H", 1000), 8))
        connection.shutdown()
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)

    tell(tmp_path, story)


def test_a_close_frame_right_behind_what_is_not_utf_8_is_no_fault_of_ours(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        faults: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["message"]))
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"\xff") + frame(struct.pack("!H", 1000), 8))
        assert await close_code(reader) == Close.LEFT
        assert await reader.read() == b""
        writer.close()
        assert faults == []

    tell(tmp_path, story)


def test_a_ping_right_behind_what_is_not_utf_8_is_no_fault_of_ours(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        faults: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["message"]))
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"\xff") + frame(b"there?", 9))
        assert await close_code(reader) == 1007
        assert await reader.read() == b""
        writer.close()
        assert faults == []

    tell(tmp_path, story)


def test_whoever_waits_to_send_while_the_connection_fails_is_told_that_the_client_is_gone(tmp_path: Path) -> None:
    """The connection can be written to, is full again before it is their turn, and fails while they wait on."""

    async def story(onion: Onion) -> None:
        connection = await piped(onion)
        connection.pause_writing()
        sending = asyncio.create_task(connection.send({"type": "websocket.send", "text": "{}"}))
        await asyncio.sleep(0)
        connection.resume_writing()
        connection.pause_writing()
        await asyncio.sleep(0)
        connection.data_received(frame(b"\xff"))
        connection.resume_writing()
        with pytest.raises(ClientDisconnected):
            await sending
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)

    tell(tmp_path, story)


class Reads(Pipe):
    """Tells whether it is to be read from, and how often that was changed."""

    def __init__(self, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._reads = True
        self.changes = 0

    def is_reading(self) -> bool:
        return self._reads

    def pause_reading(self) -> None:
        self.changes += self._reads
        self._reads = False

    def resume_reading(self) -> None:
        self.changes += not self._reads
        self._reads = True


def test_no_more_is_read_while_three_messages_wait_and_reading_goes_on_once_they_are_taken(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        reads = Reads({"peername": ("circ-0000003a", 80)})
        connection = await piped(onion, reads)
        ping = frame(b'{"type": "ping"}')
        connection.data_received(frame(json.dumps({"type": "auth", "token": onion.token}).encode()) + ping)
        assert reads.is_reading()  # two may wait, without two system calls for each
        connection.data_received(ping)
        assert not reads.is_reading()
        while not reads.is_reading():
            await asyncio.sleep(0)
        assert connection.queue.empty()
        connection.data_received(ping)
        assert (reads.is_reading(), reads.changes) == (True, 2)
        connection.data_received(ping * 20)
        assert not reads.is_reading()
        while not reads.is_reading():
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)

    tell(tmp_path, story)


def test_after_our_close_frame_we_go_on_reading_although_messages_wait(tmp_path: Path) -> None:
    """What is unread when the connection ends makes the kernel reset it, and the client may lose our close frame."""

    async def story(onion: Onion) -> None:
        reads = Reads({"peername": ("circ-0000003a", 80)})
        connection = await piped(onion, reads)
        connection.data_received(frame(b"{}") * 3 + frame(b"\xff") + frame(b"{}"))
        assert reads.is_reading()
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)

    tell(tmp_path, story)


def test_fifty_messages_in_one_piece_are_all_acked_in_their_order_and_those_behind_them_too(tmp_path: Path) -> None:
    def said(numbers: range) -> bytes:
        each = ({"type": "message", "content": f"number {number}", "id": f"c{number}"} for number in numbers)
        return b"".join(frame(json.dumps(message).encode()) for message in each)

    async def story(onion: Onion) -> None:
        onion.desk.sites = FREELY
        reader, writer = await onion.raw_signed()
        for numbers in (range(50), range(50, 60)):  # the second piece is read once the first one was taken
            writer.write(said(numbers))
            heard = [json.loads((await read_frame(reader))[1]) for _ in numbers]
            assert [(each["type"], each["id"]) for each in heard] == [("ack", f"c{number}") for number in numbers]
            assert [each["seq"] for each in heard] == [number + 1 for number in numbers]
        writer.close()

    tell(tmp_path, story, limits=Limits(()))


def test_ten_thousand_frames_at_once_close_and_lose_nothing_acked(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        async with await onion.signed() as client:
            kept: list[int] = []
            refused: list[Any] = []

            async def hears() -> None:
                async for text in client:
                    heard = json.loads(text)
                    if heard["type"] == "ack":
                        kept.append(heard["seq"])
                    else:
                        refused.append(heard["error"]["code"])

            listening = asyncio.create_task(hears())
            with contextlib.suppress(ConnectionClosed):
                for number in range(10_000):
                    await client.send(json.dumps({"type": "message", "content": f"{number}", "id": f"c{number}"}))
            with contextlib.suppress(ConnectionClosed):
                await listening
            assert client.close_code == Close.TOO_FAST
            assert set(refused) <= {"too_fast"}
        session = onion.desk.open_session(Private(onion.token))
        assert session is not None
        stored = [message.seq for message in onion.desk.history(session, limit=200)]
        assert set(kept) <= set(stored)
        assert len(stored) <= 20
        async with await onion.signed() as again:
            await (await again.ping())

    tell(tmp_path, story)


@pytest.mark.parametrize("opcode", [9, 10])
def test_a_flood_of_pings_or_pongs_closes(tmp_path: Path, opcode: int) -> None:
    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"", opcode) * 500)
        assert await close_code(reader) == Close.TOO_FAST
        writer.close()

    tell(tmp_path, story)


def test_who_answers_no_ping_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PING_SECONDS", 0.05)

    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw_signed()
        assert (await read_frame(reader))[0] == 9
        assert await close_code(reader) == Close.NO_PONG
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        while len(onion.served.site._sockets):
            await asyncio.sleep(0.01)

    monkeypatch.setattr("veilsupport.web.server.PONG_SECONDS", 0.05)
    tell(tmp_path, story)


def test_who_answers_pings_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PING_SECONDS", 0.02)
    monkeypatch.setattr("veilsupport.web.server.PONG_SECONDS", 1.0)

    async def story(onion: Onion) -> None:
        async with await onion.signed() as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.3)
            await (await client.ping())

    tell(tmp_path, story)


def test_who_reads_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "DRAIN_SECONDS", 0.1)

    async def story(onion: Onion) -> None:
        session = onion.desk.open_session(Private(onion.token))
        assert session is not None
        onion.desk.sites = FREELY
        for number in range(200):
            await onion.desk.visitor_says(session, "x" * 4000, once=str(number).encode(), now=0.0)
        reader, writer = await onion.raw(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(json.dumps({"type": "auth", "token": onion.token, "after": 0}).encode()))
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not len(onion.served.site._sockets):
            await asyncio.sleep(0.01)
        while len(onion.served.site._sockets):
            await asyncio.sleep(0.01)
        assert len(onion.desk.listeners) == 0
        writer.transport.abort()

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "sent",
    [
        HANDSHAKE.replace(b"GET", b"POST", 1),
        HANDSHAKE.replace(b"/api/v1/ws", b"/api/v1/ws\xff"),
        HANDSHAKE.replace(b"Version: 13", b"Version: 99"),
        HANDSHAKE.replace(KEY.encode(), b"short"),
        HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * 300 + b"\r\n"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nX: \xff\r\n\r\n"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_whatever_the_handshake_is_it_is_answered_or_ended(tmp_path: Path, sent: bytes) -> None:
    async def story(onion: Onion) -> None:
        reader, writer = await onion.raw(sent)
        head = await asyncio.wait_for(reader.read(4096), 5)
        assert not head.startswith(b"HTTP/1.1 5")
        assert b"date:" not in head.lower()
        writer.close()
        async with await onion.signed() as client:  # and the desk goes on
            await (await client.ping())

    tell(tmp_path, story)


def test_an_upgrade_behind_an_open_stream_ends_the_connection(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        cookie = f"Cookie: veil={onion.token}\r\n\r\n".encode()
        reader, writer = await onion.raw(f"GET /chat/live HTTP/1.1\r\nHost: {ONION}\r\n".encode() + cookie)
        await reader.readuntil(b"<body")
        writer.write(HANDSHAKE)
        with contextlib.suppress(ConnectionError):
            while await asyncio.wait_for(reader.read(4096), 5):
                pass
        writer.close()
        while len(onion.desk.listeners):
            await asyncio.sleep(0.01)

    tell(tmp_path, story)


def test_whoever_leaves_at_whatever_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(onion: Onion) -> None:
        auth = frame(json.dumps({"type": "auth", "token": onion.token, "after": 0}).encode())
        say = frame(json.dumps({"type": "message", "content": "x", "id": "c"}).encode())
        for cut in range(0, len(HANDSHAKE) + 1, 23):
            _, writer = await onion.raw(HANDSHAKE[:cut])
            await asyncio.sleep(0)
            writer.transport.abort()
        frames = auth + say * 3 + frame(struct.pack("!H", 1000), 8)
        for cut in (*range(0, len(frames), 23), len(frames)):
            reader, writer = await onion.raw(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frames[:cut])
            await asyncio.sleep(0)
            writer.transport.abort()
        async with asyncio.timeout(5):
            while len(onion.served.site._sockets) or len(onion.desk.listeners):
                await asyncio.sleep(0.01)

    tell(tmp_path, story, limits=Limits(()))


# ---- the server's end ----------------------------------------------------------------------------------------


def test_stop_says_going_away_and_takes_less_than_two_seconds(tmp_path: Path) -> None:
    async def run() -> float:
        async with onion_in(tmp_path) as onion:
            clients = [await onion.signed() for _ in range(5)]
            waiting = await onion.client()
            _, stubborn = await onion.raw_signed()  # answers no close frame
            began = asyncio.get_running_loop().time()
            onion.stop.set()
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == Close.GOING_AWAY
            with pytest.raises(ConnectionClosed):
                await waiting.recv()
            assert waiting.close_code in (Close.GOING_AWAY, Close.RESTART)
            stubborn.close()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) < 2


def test_what_framed_a_connection_goes_with_it_and_waits_for_no_look_for_garbage(tmp_path: Path) -> None:
    """We look seldom, and at what has lived for an hour hardly ever."""

    async def story(onion: Onion) -> None:
        connection = await piped(onion)
        connection.data_received(frame(b"")[:1])  # and the rest of it never comes
        framing = weakref.ref(connection.conn)
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)
        del connection
        gc.disable()
        try:
            while framing() is not None:  # what ran last lets go of it in the next turns of the loop
                await asyncio.sleep(0)
        finally:
            gc.enable()

    tell(tmp_path, story)


def test_no_log_holds_a_path_or_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(onion: Onion) -> None:
        caplog.clear()
        async with await onion.client(f"?token={onion.token}") as client:
            await client.recv()
            await client.send("secret")
            await client.recv()
        reader, writer = await onion.raw_signed()
        writer.write(frame(b"\xff secret"))
        await close_code(reader)
        writer.close()
        ours = [record for record in caplog.records if not record.name.startswith("websockets.client")]
        assert [record for record in ours if record.name not in ("asyncio",)] == []

    tell(tmp_path, story)
