"""The browser in miniature against a real server: an ASGI application that passes each request on over HTTP."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from tests.browser import Browser


def browser_at(page: str) -> Browser:
    """A fresh profile for the page at that loopback address."""
    return Browser(_passing_on_to(page), host=urlsplit(page).netloc, circuit=None)


def _passing_on_to(page: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        status, headers, answer = await asyncio.to_thread(_request, page, scope, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def _request(page: str, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=20)
    try:
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        connection.request(scope["method"], target, body or None, headers)
        answer = connection.getresponse()
        found = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.getheaders()]
        return answer.status, found, answer.read()
    finally:
        connection.close()
