"""The SOCKS5 handshake, against a real (and often badly behaved) proxy on a unix socket or loopback port."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from veilsupport.errors import SetupError, Unavailable
from veilsupport.socks import SocksProxy, dial

HOST = "secret-destination.onion"
IPV4_REPLY = b"\x05\x00\x00\x01" + bytes(6)
IPV6_REPLY = b"\x05\x00\x00\x04" + bytes(18)
DOMAIN_REPLY = b"\x05\x00\x00\x03\x04host" + bytes(2)


@dataclass
class Proxy:
    """A SOCKS5 server that notes what it is asked and answers as the test tells it."""

    reply: bytes = IPV4_REPLY
    method: int | None = None  # None: the one that was offered
    version: int = 5
    login_status: int = 0
    byte_by_byte: bool = False
    methods_offered: bytes = b""
    credentials: tuple[bytes, bytes] | None = None
    destination: tuple[int, bytes, int] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
            await reader.read()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.ended.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        self.methods_offered = await reader.readexactly(count)
        method = self.methods_offered[0] if self.method is None else self.method
        await self._say(writer, bytes([self.version, method]))
        if method == 2:
            await reader.readexactly(1)
            self.credentials = (await self._counted(reader), await self._counted(reader))
            await self._say(writer, bytes([1, self.login_status]))
        _, _, _, kind = await reader.readexactly(4)
        name = await self._counted(reader)
        self.destination = (kind, name, int.from_bytes(await reader.readexactly(2), "big"))
        await self._say(writer, self.reply + b"first words of the other side")

    async def _counted(self, reader: asyncio.StreamReader) -> bytes:
        (count,) = await reader.readexactly(1)
        return await reader.readexactly(count)

    async def _say(self, writer: asyncio.StreamWriter, words: bytes) -> None:
        for piece in [words[i : i + 1] for i in range(len(words))] if self.byte_by_byte else [words]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)


def through(
    proxy: Proxy,
    path: Path,
    *,
    credentials: tuple[str, str] | None = ("user", "pass"),
    host: str = HOST,
    timeout_seconds: float = 5,
) -> bytes:
    """Dial through the proxy and return all that the other side says first."""

    async def conversation() -> bytes:
        server = await asyncio.start_unix_server(proxy.serve, path)
        async with server:
            connection = await dial(
                SocksProxy(path), host, 5222, credentials=credentials, timeout_seconds=timeout_seconds
            )
            assert connection.getblocking() is False
            connection.shutdown(socket.SHUT_WR)
            reader, writer = await asyncio.open_connection(sock=connection)
            words = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()
            await asyncio.wait_for(proxy.ended.wait(), 5)
            return words

    return asyncio.run(conversation())


def refusal(proxy: Proxy, path: Path, *, timeout_seconds: float = 5) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        through(proxy, path, timeout_seconds=timeout_seconds)
    assert HOST not in str(caught.value)
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socks"


@pytest.mark.parametrize("reply", [IPV4_REPLY, IPV6_REPLY, DOMAIN_REPLY], ids=["ipv4", "ipv6", "domain"])
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_reply_is_read_to_its_end_and_no_further(path: Path, reply: bytes, byte_by_byte: bool) -> None:
    proxy = Proxy(reply=reply, byte_by_byte=byte_by_byte)
    assert through(proxy, path) == b"first words of the other side"


def test_host_name_goes_to_the_proxy_unresolved(path: Path) -> None:
    proxy = Proxy()
    through(proxy, path)
    assert proxy.destination == (3, HOST.encode(), 5222)


def test_ip_address_goes_to_the_proxy_as_a_name_too(path: Path) -> None:
    proxy = Proxy()
    through(proxy, path, host="127.0.0.1")
    assert proxy.destination == (3, b"127.0.0.1", 5222)


def test_international_name_goes_as_punycode(path: Path) -> None:
    proxy = Proxy()
    through(proxy, path, host="bücher.example")
    assert proxy.destination == (3, b"xn--bcher-kva.example", 5222)


def test_credentials_are_the_only_method_offered(path: Path) -> None:
    proxy = Proxy()
    through(proxy, path, credentials=("xmpp", "lane 1"))
    assert (proxy.methods_offered, proxy.credentials) == (b"\x02", (b"xmpp", b"lane 1"))


def test_without_credentials_none_are_offered(path: Path) -> None:
    proxy = Proxy()
    through(proxy, path, credentials=None)
    assert (proxy.methods_offered, proxy.credentials) == (b"\x00", None)


def test_loopback_port_is_dialled_like_a_unix_socket() -> None:
    async def conversation() -> tuple[int, bytes, int] | None:
        proxy = Proxy()
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        async with server:
            where = server.sockets[0].getsockname()
            connection = await dial(SocksProxy(where), HOST, 80, credentials=None, timeout_seconds=5)
            connection.close()
            await asyncio.wait_for(proxy.ended.wait(), 5)
            return proxy.destination

    assert asyncio.run(conversation()) == (3, HOST.encode(), 80)


@pytest.mark.parametrize("code", [*range(1, 9), *range(0xF0, 0xF8), 0x99])
def test_every_refusal_has_words_of_its_own(path: Path, code: int) -> None:
    refused = refusal(Proxy(reply=bytes([5, code, 0, 1]) + bytes(6)), path)
    assert refused.temporary is (code not in {0x07, 0x08, 0xF4, 0xF5, 0xF6})


def test_refused_connection_says_so(path: Path) -> None:
    refused = refusal(Proxy(reply=b"\x05\x05\x00\x01" + bytes(6)), path)
    assert refused.message == "the other side refused the connection"


def test_wrong_version_is_not_retried(path: Path) -> None:
    assert refusal(Proxy(version=4), path).temporary is False
    assert refusal(Proxy(reply=b"\x04\x00\x00\x01" + bytes(6)), path.with_name("second")).temporary is False


def test_proxy_that_would_ignore_the_credentials_is_refused(path: Path) -> None:
    assert "sign in" in refusal(Proxy(method=0), path).message


def test_refused_credentials_are_not_retried(path: Path) -> None:
    assert refusal(Proxy(login_status=1), path).temporary is False


def test_unknown_address_type_is_refused(path: Path) -> None:
    assert "understood" in refusal(Proxy(reply=b"\x05\x00\x00\x07" + bytes(6)), path).message


def test_proxy_that_hangs_up_is_unavailable(path: Path) -> None:
    async def conversation() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_unix_server(hang_up, path):
            await dial(SocksProxy(path), HOST, 80, credentials=None, timeout_seconds=5)

    with pytest.raises(Unavailable):
        asyncio.run(conversation())


def test_silent_proxy_times_out(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with listener, pytest.raises(Unavailable, match="in time"):
        asyncio.run(dial(SocksProxy(path), HOST, 80, credentials=None, timeout_seconds=0.05))


def test_missing_proxy_is_unavailable(path: Path) -> None:
    with pytest.raises(Unavailable, match="does not take connections"):
        asyncio.run(dial(SocksProxy(path), HOST, 80, credentials=None, timeout_seconds=5))


@pytest.mark.parametrize(("host", "port"), [("", 80), ("a" * 256, 80), (HOST, 0), (HOST, 70000), ("ü" * 80, 80)])
def test_impossible_destination_is_never_dialled(path: Path, host: str, port: int) -> None:
    with pytest.raises(Unavailable, match="cannot be dialled") as caught:
        asyncio.run(dial(SocksProxy(path), host, port, credentials=None, timeout_seconds=5))
    assert caught.value.temporary is False


@pytest.mark.parametrize("address", ["192.0.2.1", "localhost", "proxy.example", "0.0.0.0"])
def test_proxy_elsewhere_is_a_setup_error(address: str) -> None:
    with pytest.raises(SetupError):
        SocksProxy((address, 9050))
