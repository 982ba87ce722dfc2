"""The web edge: the pages of a visitor without scripts, over the desk.

    socket → shim (tor's line, patience) → uvicorn → guard (Host, Origin, size, headers) → the table below → desk

`build` makes the application, `serve` runs it. Every path stands in the table, with what it shows, what its form
does, and what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from veilsupport import model
from veilsupport.breaker import Breaker
from veilsupport.desk import Desk
from veilsupport.errors import VisitorError
from veilsupport.limits import Limits
from veilsupport.web import doors, embed, openapi, scripts
from veilsupport.web.api import ROOT, Api
from veilsupport.web.badge import Badge
from veilsupport.web.forms import Tokens
from veilsupport.web.guard import Guard
from veilsupport.web.health import Sources, serve_health
from veilsupport.web.live import Live
from veilsupport.web.look import Look
from veilsupport.web.openapi import Manual
from veilsupport.web.origins import Origins
from veilsupport.web.pace import Pace
from veilsupport.web.pages import Pages
from veilsupport.web.row import Page, Row
from veilsupport.web.server import serve
from veilsupport.web.socket import Sockets
from veilsupport.web.windows import Windows

__all__ = ["Site", "Sources", "build", "serve", "serve_health"]


TABLE: Final = (
    Row("/", Pages.show_desk, Pages.start, "start"),
    Row("/return", Pages.show_return, Pages.come_back, "return"),
    Row("/account", Pages.show_account, Pages.enter_account, "account"),
    Row("/chat", Pages.show_chat, Pages.keep_code, "keep", needs_session=True),
    Row("/chat/calm", Pages.show_calm_chat, Pages.keep_code, "keep", needs_session=True),
    Row("/chat/stream", Pages.show_stub, needs_session=True, frame=True),
    Row("/chat/latest", Pages.show_latest, needs_session=True, frame=True),
    Row("/chat/compose", Pages.show_compose, Pages.say, "say", needs_session=True, frame=True),
    Row("/chat/write", Pages.show_write, Pages.write, "say", needs_session=True),
    Row("/chat/older", Pages.show_older, needs_session=True),
    Row("/chat/leave", Pages.show_leave, Pages.leave, "leave", needs_session=True),
    Row("/chat/burn", Pages.show_burn, Pages.burn, "burn", needs_session=True),
    Row("/left", Pages.show_left),
    Row("/burned", Pages.show_burned),
    # Through other people's sites.
    Row("/s/{site}", Pages.show_desk, Pages.start, "start"),
    Row("/s/{site}/return", Pages.show_return, Pages.come_back, "return"),
    Row("/s/{site}/account", Pages.show_account, Pages.enter_account, "account"),
    Row("/s/{site}/start", doors.show_text, doors.start_from_elsewhere, from_anywhere=True),
    Row("/s/{site}/arrived", doors.show_arrived, doors.arrive, "arrive"),
    Row("/embed/{site}", embed.show_embed, embed.act_embedded, "embed", session_in_form=True),
)


class Site:
    """The ASGI application. The prefix ends here: nothing within sees it in a path, `Look` writes it into links."""

    def __init__(
        self,
        app: ASGIApp,
        windows: Windows,
        sockets: Sockets,
        prefix: str,
        *,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._pace = pace
        self._clock = clock
        self._windows = windows
        self._sockets = sockets
        self._prefix = prefix

    @property
    def streams(self) -> int:
        """Live pages that are open."""
        return len(self._windows)

    @property
    def sockets(self) -> int:
        """WebSockets that are signed in."""
        return len(self._sockets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix and "path" in scope:
            ours = f"{scope['path']}/".startswith(self._prefix + "/")
            scope = {**scope, "path": (scope["path"].removeprefix(self._prefix) or "/") if ours else ""}  # "": nowhere
        await self._app(scope, receive, send)

    @property
    def remembered(self) -> int:
        """Strangers' doings that are remembered: what limits, guesses and puzzles hold."""
        return len(self._pace)

    def misbehaved(self, circuit: str) -> None:
        """Below HTTP: what came over that circuit was none."""
        self._pace.misbehaved(circuit, now=self._clock())

    def end_streams(self) -> None:
        """Every open live view and socket ends now, and none opens again: the server is about to stop."""
        self._windows.end_all()
        self._sockets.end_all()


class _Hall:
    """Sends each to its door: sockets, programs, and people to their pages."""

    def __init__(self, pages: ASGIApp, api: ASGIApp, sockets: ASGIApp) -> None:
        self._pages = pages
        self._api = api
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        elif scope["path"].startswith(ROOT + "/"):
            await self._api(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


def build(
    desk: Desk,
    limits: Limits,
    *,
    key: bytes,
    sites: Callable[[], Mapping[str, model.Site]],
    prefix: str = "",
    onion: Callable[[], str | None],
    clock: Callable[[], float],
    on_bug: Callable[[BaseException], None],
    on_answer: Callable[[str, int], None] = lambda route, status: None,
    breaker: Breaker | None = None,
    on_flood: Callable[[int], None] = lambda circuit: None,
) -> Site:
    """The application.

    `key`: 32 secret bytes for form tokens; a new one makes every open form expire. `sites`: by name, as
    they are now; "" is the desk's own page and always there. `prefix` stands before every path. `onion`: our
    address ("….onion") once it is known; requests over a circuit are refused before. `clock`: Unix seconds.
    `on_bug`: told of exceptions that are our fault; it must only note them and set the stop event.
    `on_answer`: told of every answer as it begins, by its route's template, with its status.
    `breaker`: while it is tripped, new conversations need a puzzle. `on_flood`: told the number of a circuit that
    should be closed.
    """
    look = Look(lambda: sites()[""], prefix=prefix)
    windows = Windows()
    pace = Pace(limits, key=key, breaker=breaker, on_flood=on_flood)
    pages = Pages(desk=desk, pace=pace, tokens=Tokens(key), look=look, windows=windows, clock=clock, sites=sites)
    routes = [Route(row.path, Page(pages, row)) for row in TABLE]
    routes += [
        Route("/chat/live", Live(pages)),
        Route("/badge/{site}.png", Badge(desk, sites, clock)),
        Route("/check", _check),
        Route("/api", Manual(look, pace, clock).show),
        Route("/api/openapi.json", _document(prefix)),
        Route(look.css_path, _stylesheet(look)),
    ]
    origins = Origins(sites)
    routes += scripts.routes(origins)
    router = Router(routes, redirect_slashes=False, default=_nowhere)
    api = Api(desk=desk, pace=pace, origins=origins, sites=sites, clock=clock)
    sockets = Sockets(desk=desk, pace=pace, origins=origins, clock=clock)
    guard = Guard(
        _Hall(router, api, sockets),
        look=look,
        onion=onion,
        on_bug=on_bug,
        origins=origins,
        from_anywhere=_is_from_anywhere,
        on_answer=on_answer,
        on_refusal=lambda scope: pace.refused(scope, now=clock()),
    )
    return Site(guard, windows, sockets, prefix, pace=pace, clock=clock)


_FROM_ANYWHERE: Final = tuple(compile_path(row.path)[0] for row in TABLE if row.from_anywhere)


def _is_from_anywhere(path: str) -> bool:
    return any(pattern.match(path) for pattern in _FROM_ANYWHERE)


async def _check(_request: Request) -> Response:
    """For our own fetch through Tor, which proves that the address is reachable."""
    return Response(status_code=204)


def _stylesheet(look: Look) -> Callable[[Request], Awaitable[Response]]:
    async def stylesheet(_request: Request) -> Response:
        headers = {"cache-control": "public, max-age=31536000, immutable"}  # Its name holds its hash.
        return Response(look.css, media_type="text/css", headers=headers)

    return stylesheet


def _document(prefix: str) -> Callable[[Request], Awaitable[Response]]:
    content = json.dumps(openapi.document(prefix), ensure_ascii=False)

    async def document(_request: Request) -> Response:
        return Response(content, media_type="application/json")

    return document


async def _nowhere(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise VisitorError("The address has a mistake in it, or leads to something that is gone.", status=404)
