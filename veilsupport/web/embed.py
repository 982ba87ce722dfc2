"""The desk in a frame on a site's own pages, without scripts and without cookies.

Browsers give a frame on someone else's page no cookies, or ones of its own for each site around it. So the session
travels in a hidden field of the frame's one form, and never in an address. Hence what differs from /chat:

    the answer to a POST is the page itself, not 303, because only a form's answer can carry the field on; the
      form's one-time name makes a reload post nothing twice;
    the page is one document, form first and messages after it, and in live mode it does not end: what happens is
      streamed into the answer of the POST (see `live`). What is being written stays, as nothing is loaded anew;
    it cannot come back by itself when the connection is lost, because only the visitor can send a form: it says
      so, and every button of it keeps the draft.

The site's origins, and no others, may show the frame. A page around it can still lie about what it shows, so
the frame offers the way into a window of its own, where the address can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.errors import VisitorError
from veilsupport.model import Private
from veilsupport.web.attended import Attended
from veilsupport.web.doors import hand_over_to_window
from veilsupport.web.forms import plausible_token
from veilsupport.web.live import View
from veilsupport.web.pages import Pages, Visit, signed_in
from veilsupport.web.shim import circuit_of

# What came with the form may have been kept: that there is no live view must not look like a refusal of it.
_NOT_LIVE: Final = "Too many are here to show new messages as they come. Press Refresh after a while to see them."
_WINDOW: Final = "embedded"  # One name for all: a frame that was loaded anew takes its own earlier place.


def show_embed(pages: Pages, visit: Visit) -> Response:
    if visit.session is None:
        gone = bool(visit.form.get("session"))
        attended = pages.attended(visit.site)
        return pages.look.embedded("embed_start.html", gone=gone, attended=attended, **pages.form(visit))
    visit.bound_to = visit.session.token_hash
    if "calm" in visit.form:
        return _Embedded(pages, visit, live=False)
    try:
        pages.open_stream(visit)
    except VisitorError:
        visit.error = visit.error or VisitorError(_NOT_LIVE)
        return _Embedded(pages, visit, live=False)
    return _Embedded(pages, visit, live=True)


async def act_embedded(pages: Pages, visit: Visit) -> Response:
    """By which button was pressed; Enter presses the first, `say`."""
    if visit.session is None:
        return await _start(pages, visit)
    match visit.form.get("do", "say"):
        case "say":
            await pages.send_beside_messages(visit)
            visit.form = {**visit.form, "message": ""}
        case "keep":
            await pages.desk.visitor_keeps_code(visit.session)
            visit.session = pages.desk.open_session(_token(visit))
        case "calm":
            visit.form = {**visit.form, "calm": "1"}
        case "live":
            visit.form = {name: value for name, value in visit.form.items() if name != "calm"}
        case "window":
            return hand_over_to_window(pages, visit, _token(visit))
        case "leave":
            await pages.desk.visitor_leaves(visit.session)
            return pages.look.embedded("embed_left.html", site=visit.site)
    return show_embed(pages, visit)


async def _start(pages: Pages, visit: Visit) -> Response:
    if visit.form.get("session"):
        raise VisitorError(
            "You are not signed in here any more, or this conversation was erased. Nothing was sent.",
            status=403,
            code="signed_out",
        )
    pages.begin(visit)
    signed = await pages.desk.visitor_starts(visit.text, seed=visit.once, now=visit.now, site=visit.site.name)
    visit.form = {**visit.form, "session": signed.token.reveal(), "message": ""}
    visit.session = pages.desk.open_session(signed.token)
    return show_embed(pages, visit)


def _token(visit: Visit) -> Private:
    token = plausible_token(visit.form.get("session", ""))
    assert token is not None  # It has just opened the session.
    return token


class _EmbeddedView(View):
    """The stream of a page whose head is the form."""

    def __init__(self, pages: Pages, visit: Visit, answer: _Embedded) -> None:
        circuit = circuit_of(visit.request.scope)
        window = pages.windows.open(signed_in(visit).token_hash, _WINDOW, circuit)
        super().__init__(pages, signed_in(visit), visit.site, window)
        self._answer = answer
        self.status = answer.status_code

    def headers(self, nonce: str) -> Mapping[str, str]:
        return {**self._answer.headers, **self._look.embedded_headers(self._site, nonce)}

    def head(self, messages: str, attended: Attended) -> str:
        return self._answer.html(messages, attended)

    def tail(self) -> str:
        return f'<style nonce="{self._nonce}">.lost{{animation-delay:0s}}</style>' + super().tail()


class _Embedded(Response):
    """The page with the conversation: whole when calm, else without an end."""

    def __init__(self, pages: Pages, visit: Visit, *, live: bool) -> None:
        super().__init__(media_type="text/html")
        del self.headers["content-length"]
        self._pages = pages
        self._visit = visit
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._live:
            await _EmbeddedView(self._pages, self._visit, self).run(receive, send)
            return
        site = self._visit.site
        html = self.html(self._pages.latest(self._visit), self._pages.attended(site))
        headers = {**self.headers, **self._pages.look.embedded_headers(site)}
        await Response(html, self.status_code, headers, "text/html")(scope, receive, send)

    def html(self, messages: str, attended: Attended) -> str:
        """Up to the end of the messages when live, else whole."""
        visit = self._visit
        code = signed_in(visit).pending_code
        return self._pages.look.render(
            "embed.html",
            live=self._live,
            calm="calm" in visit.form,
            session=visit.form["session"],
            code=code.reveal() if code else "",
            attended=attended,
            messages=messages,
            **self._pages.form(visit),
        )
