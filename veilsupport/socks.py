"""Dialling through a SOCKS5 proxy, which is always our own tor or one on this machine.

The host name travels to the proxy as it is and is resolved at the far end: nothing is looked up here, ever.
This module knows nothing of what is spoken over the connection afterwards.

python-socks is not used: it reaches its sans-I/O part only through private modules, and it offers "no
authentication" beside the credentials, so that a proxy may ignore them, while ours are what gives a dial a
circuit of its own (tor's IsolateSOCKSAuth).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from veilsupport.errors import SetupError, Unavailable

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_PASSWORD: Final = 2  # RFC 1929
_CONNECT: Final = 1


class _AddressType(IntEnum):
    IPV4 = 1
    DOMAIN = 3
    IPV6 = 4


# RFC 1928 §6; from 0xF0 on tor's own (proposal 304), sent when its SocksPort has ExtendedErrors.
_REFUSALS: Final = {
    0x01: "the SOCKS proxy reports a general failure",
    0x02: "the SOCKS proxy does not allow this connection",
    0x03: "the network of the other side is unreachable",
    0x04: "the host of the other side is unreachable",
    0x05: "the other side refused the connection",
    0x06: "the connection to the other side timed out in the network",
    0x07: "the SOCKS proxy cannot make connections",
    0x08: "the SOCKS proxy does not take host names",
    0xF0: "the onion service's descriptor cannot be found",
    0xF1: "the onion service's descriptor is invalid",
    0xF2: "the onion service did not answer the introduction",
    0xF3: "the rendezvous with the onion service failed",
    0xF4: "the onion service asks for a client key",
    0xF5: "the onion service does not accept the client key",
    0xF6: "the onion address is not a valid one",
    0xF7: "the introduction to the onion service timed out",
}
_PERMANENT: Final = {0x07, 0x08, 0xF4, 0xF5, 0xF6}  # Trying again will not help.


@dataclass(frozen=True, slots=True)
class SocksProxy:
    """Where a SOCKS5 proxy listens: a unix socket, or (loopback IP address, port).

    Raises SetupError for anything but loopback: an address elsewhere would show our traffic to the network.
    """

    where: Path | tuple[str, int]

    def __post_init__(self) -> None:
        if isinstance(self.where, tuple) and not _is_loopback(self.where[0]):
            raise SetupError("the SOCKS proxy is not on this machine", hint="give 127.0.0.1 and its port")

    @property
    def family(self) -> socket.AddressFamily:
        if isinstance(self.where, Path):
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.where[0] else socket.AF_INET


async def dial(
    proxy: SocksProxy, host: str, port: int, *, credentials: tuple[str, str] | None, timeout_seconds: float
) -> socket.socket:
    """A connected, non-blocking socket to `host`; nothing of what the other side has said is read yet.

    Equal credentials may share a circuit, different ones never do; None shares with all others who give none.
    Raises Unavailable, whose message never holds the host name.
    """
    request = _connect_request(host, port)
    login = None if credentials is None else _login_request(*credentials)
    # asyncio turns Nagle's algorithm off only where TCP is said outright; else a second stanza waits for up to 40 ms.
    protocol = 0 if proxy.family is socket.AF_UNIX else socket.IPPROTO_TCP
    connection = socket.socket(proxy.family, socket.SOCK_STREAM, protocol)
    connection.setblocking(False)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(connection.close)
        try:
            async with asyncio.timeout(timeout_seconds):
                await _connect(connection, proxy)
                await _shake_hands(connection, request, login)
        except TimeoutError:
            raise Unavailable("the SOCKS proxy did not connect in time") from None
        except OSError:
            raise Unavailable("the connection to the SOCKS proxy broke") from None
        on_failure.pop_all()
    return connection


async def _connect(connection: socket.socket, proxy: SocksProxy) -> None:
    where = str(proxy.where) if isinstance(proxy.where, Path) else proxy.where
    try:
        await asyncio.get_running_loop().sock_connect(connection, where)
    except OSError:
        raise Unavailable("the SOCKS proxy does not take connections") from None


async def _shake_hands(connection: socket.socket, request: bytes, login: bytes | None) -> None:
    loop = asyncio.get_running_loop()
    # Only one method is offered: a proxy that ignores credentials must refuse instead of sharing circuits.
    method = _NO_AUTHENTICATION if login is None else _PASSWORD
    await loop.sock_sendall(connection, bytes([_VERSION, 1, method]))
    version, chosen = await _read(connection, 2)
    if version != _VERSION:
        raise Unavailable("the SOCKS port does not speak SOCKS5", temporary=False)
    if chosen != method:
        raise Unavailable("the SOCKS proxy does not take our way to sign in", temporary=False)
    if login is not None:
        await loop.sock_sendall(connection, login)
        if (await _read(connection, 2))[1] != 0:
            raise Unavailable("the SOCKS proxy refused the credentials", temporary=False)
    await loop.sock_sendall(connection, request)
    await _read_reply(connection)


async def _read_reply(connection: socket.socket) -> None:
    """Read the answer to CONNECT, and not a byte more; the bound address in it is of no use to anyone.

    tor answers with an IPv6 address (22 bytes in all) where others send 10: the type decides the length.
    """
    version, reply = await _read(connection, 2)
    if version != _VERSION:
        raise Unavailable("the SOCKS port does not speak SOCKS5", temporary=False)
    if reply != 0:
        reason = _REFUSALS.get(reply, "the SOCKS proxy refused for a reason of its own")
        raise Unavailable(reason, temporary=reply not in _PERMANENT)
    _, address_type = await _read(connection, 2)
    match address_type:
        case _AddressType.IPV4:
            length = 4
        case _AddressType.IPV6:
            length = 16
        case _AddressType.DOMAIN:
            (length,) = await _read(connection, 1)
        case _:
            raise Unavailable("the SOCKS proxy's answer cannot be understood", temporary=False)
    await _read(connection, length + 2)


async def _read(connection: socket.socket, size_bytes: int) -> bytes:
    got = b""
    while len(got) < size_bytes:
        piece = await asyncio.get_running_loop().sock_recv(connection, size_bytes - len(got))
        if not piece:
            raise Unavailable("the SOCKS proxy hung up")
        got += piece
    return got


def _connect_request(host: str, port: int) -> bytes:
    """RFC 1928 §4, always with address type DOMAIN, also for IP addresses: tor takes both that way."""
    try:
        name = host.encode("ascii") if host.isascii() else host.encode("idna")
    except UnicodeError:
        name = b""
    if not 0 < len(name) <= 255 or not 0 < port < 65536:
        raise Unavailable("this host name or port cannot be dialled", temporary=False) from None
    return bytes([_VERSION, _CONNECT, 0, _AddressType.DOMAIN, len(name)]) + name + port.to_bytes(2, "big")


def _login_request(username: str, password: str) -> bytes:
    """RFC 1929 §2. Both parts take 1 to 255 bytes."""
    fields = [part.encode() for part in (username, password)]
    if not all(0 < len(part) <= 255 for part in fields):
        raise ValueError("SOCKS credentials take 1 to 255 bytes each")
    return b"\x01" + b"".join(bytes([len(part)]) + part for part in fields)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
