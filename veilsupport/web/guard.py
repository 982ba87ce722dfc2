"""What every request passes before a page sees it, and every answer on its way out.

In: the right Host (421), no proxy that takes visitors out of Tor, our own Origin on whatever changes
something, a body of bounded size that arrives in bounded time. Out: the fixed headers, and none that tell our clock or
software. It is also the one place where a bug ends: a plain page for the visitor, a report to the application.

Raw ASGI, because starlette's own middleware base would buffer streams. Knows no page and not the desk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilsupport import log
from veilsupport.errors import StoreError, VisitorError
from veilsupport.web import refusals
from veilsupport.web.look import Look
from veilsupport.web.origins import Headers, Origins, is_api, is_own, is_preflight, origin_of
from veilsupport.web.shim import circuit_of

BODY_MAX_BYTES: Final = 64 * 1024
API_BODY_MAX_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 60.0  # 64 KiB over a bad circuit.

_LOOPBACK: Final = re.compile(rb"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?")

# Tor Browser sends none of these; a tor2web proxy, or a front that someone put up, does.
_PROXY_HEADERS: Final = frozenset(
    {b"x-tor2web", b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

_DROPPED: Final = frozenset({b"server", b"date", b"last-modified", b"etag", b"x-powered-by"})
_ADDED: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # With no-referrer Firefox says `Origin: null` on our own forms, and the check below would fail.
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex, noarchive"),
)


# Where in a scope the template of its route stands, when it is none of starlette's.
TEMPLATE: Final = "veilsupport.template"


def template_of(scope: Scope) -> str:
    """`/s/{site}`: of our own table, and never what was asked for; "none" when it did not come to any route."""
    route = scope.get("route")
    return str(route.path if route is not None else scope.get(TEMPLATE, "none"))


_NO_DISK: Final = VisitorError(
    "The desk cannot read its disk at this moment. Please try again soon.",
    status=503,
    code="unavailable",
    retry_after_seconds=60,
)


class Guard:
    """Wraps the application.

    `onion` gives our onion address once it is known. `on_bug` is told of every exception that is nobody's
    fault but ours, so that the process can end. `from_anywhere` tells of a path whether forms on
    other people's pages may be sent there. `on_answer` is told of each as it begins: template of its route, status.
    `on_refusal` is told of each that refuses, and what was asked.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        look: Look,
        onion: Callable[[], str | None],
        on_bug: Callable[[BaseException], None],
        origins: Origins,
        from_anywhere: Callable[[str], bool] = lambda _path: False,
        on_answer: Callable[[str, int], None] = lambda route, status: None,
        on_refusal: Callable[[Scope], None] = lambda scope: None,
    ) -> None:
        self._app = app
        self._origins = origins
        self._from_anywhere = from_anywhere
        self._look = look
        self._onion = onion
        self._on_bug = on_bug
        self._on_answer = on_answer
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return  # No lifespan is spoken here.
        for_others = self._origins.headers(scope) if is_api(scope) else []
        answer = _Answer(send, for_others, on_start=lambda status: self._count(scope, status))
        with log.request():
            await self._serve(scope, receive, answer)

    def _count(self, scope: Scope, status: int) -> None:
        self._on_answer(template_of(scope), status)
        if 400 <= status < 500:
            self._on_refusal(scope)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._pass(scope, receive, answer)
        except VisitorError as error:
            await self._refusal(scope, error)(scope, receive, answer)
        except Exception as error:
            cause = _alone(error)
            if isinstance(cause, StoreError):  # the disk would not give what was asked for; it may the next time
                if scope["type"] == "http" and not answer.started:
                    await self._refusal(scope, _NO_DISK)(scope, receive, answer)
                return
            log.logger.error("A request met a bug: %s", log.place(cause))
            self._on_bug(cause)
            if not answer.started:
                await self._refusal(scope, _BROKEN)(scope, receive, answer)
            raise  # uvicorn closes the connection.

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        self._check_host(scope)
        names = {name for name, _ in scope["headers"]}
        if names & _PROXY_HEADERS:
            await self._proxied(scope)(scope, receive, answer)
            return
        if not self._from_anywhere(scope["path"]):
            self._check_origin(scope)
        if scope["type"] == "websocket":
            await self._app(scope, receive, answer)
            return
        if is_preflight(scope):
            await Response(status_code=204)(scope, receive, answer)
            return
        try:
            body = await _read_body(scope, receive, API_BODY_MAX_BYTES if is_api(scope) else BODY_MAX_BYTES)
        except VisitorError:
            answer.close_after = True  # The rest of the body is still to come.
            raise
        if body is not None:
            await self._app(scope, _replay(body, receive), answer)

    def _refusal(self, scope: Scope, error: VisitorError) -> Response:
        return refusals.answer(error) if is_api(scope) else self._look.problem(error)

    def _proxied(self, scope: Scope) -> Response:
        if is_api(scope):
            sentence = "This came through a proxy that takes visitors out of Tor, so nothing was done."
            return refusals.answer(VisitorError(sentence, status=403, code="proxied"))
        return self._look.proxied(self._onion() or "")

    def _check_origin(self, scope: Scope) -> None:
        """Forms on other people's pages cannot act in our visitor's name, and cannot sign them in as another.

        Nor can their scripts, and no WebSocket of theirs opens, but for the listed origins at the API.
        """
        if is_own(scope) or (scope["type"] == "http" and scope["method"] in _SAFE_METHODS):
            return
        if origin_of(scope) is None or (is_api(scope) and self._origins.site_of(scope) is not None):
            return
        raise VisitorError(
            "This was sent from another page, so nothing was done. Open the desk itself and try again.",
            status=403,
            code="wrong_origin",
        )

    def _check_host(self, scope: Scope) -> None:
        """The Host header, which must be one of our names: an onion's on a circuit, loopback's on loopback."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1:
            if circuit_of(scope) is None and _LOOPBACK.fullmatch(hosts[0]):
                return
            onion = self._onion()
            if circuit_of(scope) is not None and onion and hosts[0] == onion.encode():
                return
        raise VisitorError(
            "This desk does not answer to the address you used. Look at the address bar again.",
            status=421,
            code="wrong_host",
        )


class _Answer:
    """`send`, with our headers and those for other people's pages; remembers whether the answer has begun.

    When it is our fault that nothing was done, and the log has a line of it, the answer names that line's request: a
    visitor who tells the operator helps to find it. Elsewhere the number would help nobody, and is not sent.
    """

    def __init__(self, send: Send, for_others: Headers, *, on_start: Callable[[int], None]) -> None:
        self._send = send
        self._for_others = for_others
        self._on_start = on_start
        self.started = False
        self.close_after = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self._start(101)
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self._start(message["status"])
            message = {**message, "headers": self._headers(message["headers"]) + self._reference(message["status"])}
        await self._send(message)

    def _start(self, status: int) -> None:
        self.started = True
        self._on_start(status)

    @staticmethod
    def _reference(status: int) -> list[tuple[bytes, bytes]]:
        if status < 500 or not log.is_time_for(f"status {status}"):
            return []
        log.logger.warning("A request was answered with status %d.", status)
        return [(b"x-request-id", log.request_id().encode())]

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name for name, _ in given}
        kept = [(name, value) for name, value in given if name not in _DROPPED]
        added = [(name, value) for name, value in _ADDED if name not in names]
        return kept + added + self._for_others + ([(b"connection", b"close")] if self.close_after else [])


_BROKEN: Final = VisitorError(
    "The desk made a mistake and is starting again. What it told you was kept is kept. Try again in a minute.",
    status=500,
    code="broken",
)


def _alone(error: Exception) -> BaseException:
    """The one exception that a TaskGroup wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body; None when the client left before its end. VisitorError: too large, too slow."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise VisitorError(
            "Your text did not arrive in time. Nothing was kept; please send it again.", status=408, code="slow"
        ) from None


def _too_large() -> VisitorError:
    return VisitorError(
        "That is more than this desk takes at once. Go back, and send it in smaller parts.",
        status=413,
        code="too_large",
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` as if nothing had been read: the body in one piece, then whatever follows it."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again
