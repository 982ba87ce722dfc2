"""The browser in miniature against a real server: an ASGI application that passes each request on over HTTP.

By way of a SOCKS port the server may be an onion service.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import struct
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from tests.browser import Browser


def browser_at(page: str, *, socks: tuple[str, int] | None = None) -> Browser:
    """A fresh profile for the page at that address: on loopback, or an onion through a SOCKS port."""
    return Browser(_passing_on_to(page, socks), host=urlsplit(page).netloc, circuit=None)


def _passing_on_to(page: str, socks: tuple[str, int] | None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        status, headers, answer = await asyncio.to_thread(_request, page, socks, scope, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def _request(
    page: str, socks: tuple[str, int] | None, scope: Scope, body: bytes
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=30)
    try:
        if socks is not None:
            connection.sock = _dialled(socks, urlsplit(page).netloc)
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        connection.request(scope["method"], target, body or None, headers)
        answer = connection.getresponse()
        found = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.getheaders()]
        return answer.status, found, answer.read()
    finally:
        connection.close()


def _dialled(socks: tuple[str, int], host: str) -> socket.socket:
    """RFC 1928, without authentication; the name is resolved at the far end."""
    link = socket.create_connection(socks, timeout=60)
    with link.makefile("rb") as answers:
        link.sendall(b"\5\1\0")
        assert answers.read(2) == b"\5\0"
        name = host.encode()
        link.sendall(b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack("!H", 80))
        assert answers.read(10)[1] == 0, "the onion service cannot be reached"
    return link
