"""One row of the route table: a page, and how its form is taken.

Every form goes the same way: read, check, act, and then 303, or the same page with one plain sentence and the
visitor's text kept. This is the place where a `VisitorError` becomes a page. What a page shows and does is in `pages`,
`doors` and `embed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.web.forms import plausible_token, read_form
from veilsupport.web.look import with_retry_after
from veilsupport.web.pages import Pages, Visit, own_address


@dataclass(frozen=True, slots=True)
class Row:
    """One page; a `{site}` in its path is the name of one.

    `purpose` names the kind of its form's tokens; an act without one takes a form that someone else made, which
    cannot have a token. A `frame` is shown inside /chat.
    """

    path: str
    show: Callable[[Pages, Visit], Response]
    act: Callable[[Pages, Visit], Awaitable[Response]] | None = None
    purpose: str = ""
    needs_session: bool = False
    frame: bool = False
    # Takes forms from any origin: no session may count there, neither one that the browser sends by itself (a cookie)
    # nor one that the other page puts into a field, which would sign the visitor in as somebody else.
    from_anywhere: bool = False
    # The session comes in the form's field `session`: browsers give a frame on someone else's page no cookies.
    session_in_form: bool = False


class Page:
    """A row's end point: shows the page, or takes its form."""

    def __init__(self, pages: Pages, row: Row) -> None:
        self._pages = pages
        self._row = row

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._pages.visit(Request(scope, receive), with_cookie=not self._row.session_in_form)
        visit.purpose = self._row.purpose
        if self._row.needs_session and visit.session is not None:
            visit.bound_to = visit.session.token_hash
        response = await self._answer(visit)
        await response(scope, receive, send)

    async def _answer(self, visit: Visit) -> Response:
        if visit.request.method in ("GET", "HEAD"):
            return self._looked_at(visit)
        if visit.request.method != "POST" or self._row.act is None:
            raise VisitorError("This page does not take that.", status=405, code="method")
        try:
            return await self._acted(visit, self._row.act)
        except VisitorError as error:
            visit.error = error
        except (StoreError, Unavailable):
            visit.error = VisitorError(
                "The desk cannot keep anything at this moment, so nothing was sent. Please try again soon.",
                status=503,
                code="unavailable",
                retry_after_seconds=60,
            )
        response = self._shown(visit)
        response.status_code = visit.error.status
        return with_retry_after(response, visit.error)

    def _looked_at(self, visit: Visit) -> Response:
        """VisitorError: too fast. No browser shows that page within a frame, so a frame comes again by itself."""
        try:
            self._pages.pace.look(visit.request.scope, session=visit.session, now=visit.now)
        except VisitorError as error:
            if not (self._row.frame or self._row.session_in_form):
                raise
            return with_retry_after(self._pages.soon(visit, error, embedded=self._row.session_in_form), error)
        return self._shown(visit)

    def _shown(self, visit: Visit) -> Response:
        if self._row.needs_session and visit.session is None:
            return self._pages.signed_out(visit, frame=self._row.frame)
        return self._row.show(self._pages, visit)

    async def _acted(self, visit: Visit, act: Callable[[Pages, Visit], Awaitable[Response]]) -> Response:
        visit.form = await read_form(visit.request)
        if self._row.session_in_form:
            self._open_session_of_form(visit)
        if self._row.needs_session and visit.session is None:
            return self._pages.signed_out(visit, frame=self._row.frame)
        if not self._row.purpose:
            return await act(self._pages, visit)
        if visit.form.get("here") != own_address(visit.request):
            return self._pages.look.proxied(visit.request.headers["host"])
        token = visit.form.get("token", "")
        visit.once = self._pages.tokens.read(token, visit.purpose, visit.bound_to, now=visit.now)
        return await act(self._pages, visit)

    def _open_session_of_form(self, visit: Visit) -> None:
        token = plausible_token(visit.form.get("session", ""))
        visit.session = self._pages.desk.open_session(token) if token is not None else None
        if visit.session is not None:
            visit.bound_to = visit.session.token_hash
