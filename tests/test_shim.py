"""The shim and the server on a real unix socket: tor's line, patience, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import select
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from veilsupport.errors import SetupError
from veilsupport.web import server, shim
from veilsupport.web.server import serve

LINE = b"PROXY TCP6 fc00:dead:beef:4dad::12:3a ::1 58 80\r\n"
REQUEST = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo:
    """Answers with who is at the other end; /stream does not end by itself."""

    def __init__(self) -> None:
        self.stop_streams = asyncio.Event()
        self.streams = 0
        self.misbehaving: list[str] = []

    def end_streams(self) -> None:
        self.stop_streams.set()

    def misbehaved(self, circuit: str) -> None:
        self.misbehaving.append(circuit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            self.streams += 1
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await self.stop_streams.wait()
        await send({"type": "http.response.body", "body": f"client={scope['client']}".encode()})


@contextlib.asynccontextmanager
async def served(path: Path, app: Echo) -> AsyncIterator[asyncio.Event]:
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, unix_socket=path, port=None, stop=stop, ready=ready))
        await asyncio.wait_for(ready.wait(), 5)
        try:
            yield stop
        finally:
            stop.set()


async def answer_to(path: Path, *pieces: bytes) -> bytes:
    """What comes back until the server closes or has answered."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        received = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n0\r\n\r\n" not in received:
                more = await asyncio.wait_for(reader.read(65536), 5)
                if not more:
                    break
                received += more
        return received
    finally:
        writer.close()


async def write_without_end(writer: asyncio.StreamWriter, data: bytes) -> None:
    for _ in range(10_000):
        writer.write(data)
        await writer.drain()


def run_with_server(tmp_path: Path, *pieces: bytes) -> bytes:
    async def talk() -> bytes:
        async with served(tmp_path / "run" / "web.sock", Echo()):
            return await answer_to(tmp_path / "run" / "web.sock", *pieces)

    return asyncio.run(talk())


def test_the_circuit_is_the_client(tmp_path: Path) -> None:
    assert b"client=('circ-0012003a', 80)" in run_with_server(tmp_path, LINE + REQUEST)


def test_a_line_that_comes_in_pieces_is_the_same_line(tmp_path: Path) -> None:
    assert b"client=('circ-0012003a', 80)" in run_with_server(tmp_path, LINE[:7], LINE[7:30], LINE[30:] + REQUEST)


@pytest.mark.parametrize(
    "sent",
    [
        REQUEST,
        b"PROXY TCP4 10.0.0.1 10.0.0.2 58 80\r\n" + REQUEST,
        b"PROXY TCP6 fc00:dead:beef:4dad::12:3a ::1 58 80\n" + REQUEST,
        b" " + LINE + REQUEST,
        b"PROXY TCP6 " + b"f" * 200,
        b"\r\n" + LINE + REQUEST,
    ],
)
def test_without_tors_line_there_is_no_answer(tmp_path: Path, sent: bytes) -> None:
    assert run_with_server(tmp_path, sent) == b""


def test_a_second_line_is_the_clients_own_and_refused(tmp_path: Path) -> None:
    assert run_with_server(tmp_path, LINE + LINE + REQUEST).startswith(b"HTTP/1.1 400")


def test_a_circuit_that_sends_no_http_is_told_of(tmp_path: Path) -> None:
    async def talk() -> list[str]:
        app = Echo()
        async with served(tmp_path / "web.sock", app):
            await answer_to(tmp_path / "web.sock", LINE, b"\x16\x03\x01 no HTTP\r\n\r\n")
            await answer_to(tmp_path / "web.sock", LINE, REQUEST)
        return app.misbehaving

    assert asyncio.run(talk()) == ["circ-0012003a"]


def test_no_header_names_the_software_or_the_time(tmp_path: Path) -> None:
    head = run_with_server(tmp_path, LINE + REQUEST).lower()
    assert b"server:" not in head
    assert b"date:" not in head


def test_silence_instead_of_the_line_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "_LINE_SECONDS", 0.05)
    assert run_with_server(tmp_path, b"PROXY") == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nA", b"\r\n\r\n", REQUEST + b"GET /hel"])
def test_headers_that_do_not_end_end_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(shim, "HEADER_SECONDS", 0.05)

    async def talk() -> None:
        async with served(tmp_path / "web.sock", Echo()):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web.sock"))
            writer.write(LINE + sent)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(-1), 5)
            writer.close()

    asyncio.run(talk())


def test_blank_lines_do_not_keep_a_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "HEADER_SECONDS", 0.05)

    async def talk() -> None:
        async with served(tmp_path / "web.sock", Echo()):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web.sock"))
            writer.write(LINE + REQUEST)
            await reader.readuntil(b"0\r\n\r\n")
            writer.write(b"\r\n")
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(-1), 5) == b""
            writer.close()

    asyncio.run(talk())


def test_endless_headers_end_the_connection_even_behind_an_open_stream(tmp_path: Path) -> None:
    async def talk() -> None:
        async with served(tmp_path / "web.sock", Echo()):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web.sock"))
            writer.write(LINE + b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n")
            await reader.readuntil(b"begun")
            with pytest.raises(ConnectionError):
                await write_without_end(writer, b"X-Filler: " + b"x" * 1000 + b"\r\n")
            writer.close()

    asyncio.run(talk())


def test_trailers_end_the_connection(tmp_path: Path) -> None:
    """uvicorn would keep every one of them; twelve megabytes of two-byte trailers took a quarter of a gigabyte."""
    path = tmp_path / "web" / "web.sock"

    async def sends_trailers() -> bytes:
        async with served(path, Echo()):
            begin = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(LINE + begin + b"a: b\r\n" * 100)
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer

    assert not asyncio.run(sends_trailers()).endswith(b")")


def test_a_reader_that_does_not_read_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "DRAIN_SECONDS", 0.05)

    class Flood(Echo):
        lost = asyncio.Event()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await receive()  # the request
            assert (await receive())["type"] == "http.disconnect"
            self.lost.set()

    async def talk() -> None:
        app = Flood()
        async with served(tmp_path / "web.sock", app):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "web.sock"))
            writer.write(LINE + REQUEST)
            await asyncio.wait_for(app.lost.wait(), 5)
            writer.close()

    asyncio.run(talk())


def test_only_we_may_reach_the_socket_and_it_goes_when_we_go(tmp_path: Path) -> None:
    path = tmp_path / "run" / "web.sock"
    path.parent.mkdir(mode=0o755)

    async def look() -> None:
        async with served(path, Echo()):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    asyncio.run(look())
    assert not path.exists()


def test_a_socket_left_by_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "web.sock").touch()
    assert b"client=" in run_with_server(tmp_path, LINE + REQUEST)


def test_stop_ends_open_streams_within_two_seconds(tmp_path: Path) -> None:
    async def talk() -> float:
        app = Echo()
        path = tmp_path / "web.sock"
        async with served(path, app) as stop:
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(LINE + b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"begun")
            began = asyncio.get_running_loop().time()
            stop.set()
            assert b"client=" in await asyncio.wait_for(reader.read(-1), 5)  # it was ended, not cut
            writer.close()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(talk()) < 2


def test_stop_does_not_wait_for_a_stream_that_will_not_end(tmp_path: Path) -> None:
    class Stubborn(Echo):
        def end_streams(self) -> None:
            pass

    async def talk() -> float:
        async with served(tmp_path / "web.sock", Stubborn()) as stop:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web.sock"))
            writer.write(LINE + b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"begun")
            began = asyncio.get_running_loop().time()
            stop.set()
            writer.close()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(talk()) < 2.5


def test_loopback_needs_no_line(tmp_path: Path) -> None:
    async def talk() -> bytes:
        stop, ready = asyncio.Event(), asyncio.Event()
        listening = server._listen_loopback(0)
        port = listening.getsockname()[1]
        listening.close()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(Echo(), unix_socket=None, port=port, stop=stop, ready=ready))
            await ready.wait()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            answer = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            stop.set()
        return answer

    assert b"client=('127.0.0.1'" in asyncio.run(talk())


def test_a_taken_port_is_the_operators_to_solve() -> None:
    taken = server._listen_loopback(0)
    taken.listen()
    try:
        with pytest.raises(SetupError) as caught:
            server._listen_loopback(taken.getsockname()[1])
        assert caught.value.hint
    finally:
        taken.close()


def test_a_path_too_long_for_a_socket_is_the_operators_to_solve(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        server._listen_unix(tmp_path / ("x" * 120))


def test_uvicorn_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run_with_server(tmp_path, LINE + b"GET /secret-path HTTP/1.1\r\nHost: x\r\n\r\n")
    run_with_server(tmp_path, LINE + b"secret garbage\r\n\r\n")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert "secret" not in caplog.text


def test_connection_for_which_no_descriptor_should_be_left_is_told_to_come_later(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"

    async def answered(request: bytes) -> bytes:
        async with served(path, Echo()):
            with few_descriptors():
                refused = await answer_to(path, LINE + request)
            assert b"200 OK" in await answer_to(path, LINE + REQUEST)
            return refused

    asked = asyncio.run(answered(REQUEST))
    posted = asyncio.run(answered(b"POST /chat HTTP/1.1\r\nContent-Length: 9\r\n\r\nmessage=a"))
    assert asked.startswith(b"HTTP/1.1 503 ")
    assert b"refresh" in asked
    assert posted.startswith(b"HTTP/1.1 503 ")
    assert b"refresh" not in posted


def test_of_a_connection_that_was_reset_nothing_stays_until_it_would_have_timed_out(tmp_path: Path) -> None:
    """A stranger makes a hundred of them in a second."""

    def open_ones() -> int:
        gc.collect()
        return sum(isinstance(each, shim.PatientProtocol) for each in gc.get_objects())

    async def story() -> None:
        path = tmp_path / "web.sock"
        async with served(path, Echo()), asyncio.timeout(5):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(LINE + REQUEST)
                while not select.select([client], [], [], 0)[0]:  # answered, and it does not read the answer
                    await asyncio.sleep(0)
                assert open_ones() == 1
            while open_ones():
                await asyncio.sleep(0.01)

    asyncio.run(story())


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """All but a quarter of what this process may open is open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        while opened.enter_context(Path("/dev/null").open()).fileno() < 76:
            pass
        yield
