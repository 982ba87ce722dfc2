"""Every TCP connection of ours sends at once: Nagle's algorithm would keep a second part back for 40 ms."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from tests.browser import site_of
from tests.contactform import DOMAIN
from tests.desks import desk_in
from tests.ports import free_port
from tests.test_socks import Proxy
from tests.xmppedge import in_loop
from veilsupport.model import Private
from veilsupport.socks import SocksProxy, dial
from veilsupport.web import serve
from veilsupport.xmpp import ComponentAccount
from veilsupport.xmpp.component import Component


def sends_at_once(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def other_end(connection: socket.socket) -> socket.socket:
    """What this same process has accepted at the other end of that connection."""
    numbers = [int(each.name) for each in Path("/proc/self/fd").iterdir()]
    for number in numbers:
        with contextlib.suppress(OSError), socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as found:
            if found.getpeername() == connection.getsockname() and found.getsockname() == connection.getpeername():
                return found.dup()
    raise AssertionError("nobody in this process has accepted that connection")


def test_the_web_server_on_loopback_answers_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        stop, ready, port = asyncio.Event(), asyncio.Event(), free_port()
        async with desk_in(tmp_path) as desk, asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(site_of(desk).site, unix_socket=None, port=port, stop=stop, ready=ready))
            await ready.wait()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            with other_end(writer.get_extra_info("socket")) as accepted:
                assert sends_at_once(accepted)
            writer.close()
            stop.set()

    in_loop(story)


def test_a_connection_through_a_socks_port_sends_at_once() -> None:
    async def story() -> None:
        proxy = Proxy()
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
            where = SocksProxy(server.sockets[0].getsockname()[:2])
            connection = await dial(where, "far.example", 5222, credentials=None, timeout_seconds=5)
            _, writer = await asyncio.open_connection(sock=connection)
            assert sends_at_once(writer.get_extra_info("socket"))
            writer.close()
            await proxy.ended.wait()

    in_loop(story)


def test_a_connection_through_a_socks_port_on_a_unix_socket_has_no_such_thing_and_asks_for_none(
    tmp_path: Path,
) -> None:
    """The kernel makes no unix socket that says it is TCP."""

    async def story() -> None:
        proxy, path = Proxy(), tmp_path / "socks"
        async with await asyncio.start_unix_server(proxy.serve, path):
            connection = await dial(SocksProxy(path), "far.example", 5222, credentials=None, timeout_seconds=5)
            assert (connection.family, connection.proto) == (socket.AF_UNIX, 0)
            reader, writer = await asyncio.open_connection(sock=connection)
            assert await reader.readexactly(5) == b"first"
            writer.close()
            await proxy.ended.wait()

    in_loop(story)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_xmpp_server_on_this_machine_is_spoken_to_at_once(host: str) -> None:
    async def story() -> None:
        greeted = asyncio.Event()

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(1):
                greeted.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(listens, host, 0) as server:
            account = ComponentAccount(
                Private(DOMAIN), Private("secret"), host, port=server.sockets[0].getsockname()[1]
            )
            line = Component(account, admins=[], credentials=("a", "b"), dial_seconds=5, hear=lambda signal: None)
            line.open()
            await greeted.wait()
            assert line.transport is not None
            assert sends_at_once(line.transport.get_extra_info("socket"))
            line.drop()

    in_loop(story)
