"""The web edge: the pages of a visitor without scripts, over the desk.

    socket → shim (tor's line, patience) → uvicorn → guard (Host, Origin, size, headers) → the table below → desk

`build` makes the application, `serve` runs it. Every path stands in the table, with what it shows, what its form
does, and what it needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from veilsupport.desk import Desk
from veilsupport.errors import VisitorError
from veilsupport.limits import Limits
from veilsupport.web.forms import Tokens
from veilsupport.web.guard import Guard
from veilsupport.web.live import Live
from veilsupport.web.look import Look
from veilsupport.web.pages import Page, Pages, Visit
from veilsupport.web.server import serve
from veilsupport.web.windows import Windows

__all__ = ["Site", "build", "serve"]


@dataclass(frozen=True, slots=True)
class Row:
    """One page. `purpose` names the kind of its form's tokens; a frame is shown inside /chat."""

    path: str
    show: Callable[[Pages, Visit], Response]
    act: Callable[[Pages, Visit], Awaitable[Response]] | None = None
    purpose: str = ""
    needs_session: bool = False
    frame: bool = False


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
)


class Site:
    """The ASGI application."""

    def __init__(self, app: ASGIApp, windows: Windows) -> None:
        self._app = app
        self._windows = windows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def end_streams(self) -> None:
        """Every open live view ends now, and none opens again: the server is about to stop."""
        self._windows.end_all()


def build(
    desk: Desk,
    limits: Limits,
    *,
    key: bytes,
    name: str,
    greeting: str,
    onion: Callable[[], str | None],
    clock: Callable[[], float],
    on_bug: Callable[[BaseException], None],
) -> Site:
    """The application.

    `key`: 32 secret bytes for form tokens; a new one makes every open form expire. `name` and `greeting`: the
    operator's words on the first page. `onion`: our address ("….onion") once it is known; requests over a circuit
    are refused before. `clock`: Unix seconds. `on_bug`: told of exceptions that are our fault; it must only
    note them and set the stop event.
    """
    look = Look(name=name, greeting=greeting)
    windows = Windows()
    pages = Pages(desk=desk, limits=limits, tokens=Tokens(key), look=look, windows=windows, clock=clock)
    routes = [Route(row.path, _end_point(pages, row)) for row in TABLE]
    routes += [
        Route("/chat/live", Live(pages)),
        Route("/check", _check),
        Route(look.css_path, _stylesheet(look)),
    ]
    router = Router(routes, redirect_slashes=False, default=_nowhere)
    return Site(Guard(router, look=look, onion=onion, on_bug=on_bug), windows)


def _end_point(pages: Pages, row: Row) -> Page:
    return Page(pages, row.show, row.act, purpose=row.purpose, needs_session=row.needs_session, frame=row.frame)


async def _check(_request: Request) -> Response:
    """For our own fetch through Tor, which proves that the address is reachable."""
    return Response(status_code=204)


def _stylesheet(look: Look) -> Callable[[Request], Awaitable[Response]]:
    async def stylesheet(_request: Request) -> Response:
        headers = {"cache-control": "public, max-age=31536000, immutable"}  # Its name holds its hash.
        return Response(look.css, media_type="text/css", headers=headers)

    return stylesheet


async def _nowhere(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise VisitorError("The address has a mistake in it, or leads to something that is gone.", status=404)
