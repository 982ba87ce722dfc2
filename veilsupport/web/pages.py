"""The pages of a visitor: each shows itself, and most take one form.

Every form goes the same way (`Page`): read, check, act, and then 303, or the same page with one plain sentence and the
visitor's text kept. This is the place where a `VisitorError` becomes a page. Knows HTTP and the desk; the live
view is in `live`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.limits import Act, By, Limits
from veilsupport.model import BODY_MAX_CHARACTERS, Private, Session
from veilsupport.web.forms import Tokens, read_form, session_token, sign_in, sign_out
from veilsupport.web.guard import circuit_of
from veilsupport.web.look import Look, go_to, with_retry_after
from veilsupport.web.windows import Windows

HISTORY: Final = 50  # Messages on one page.
_CALM_SECONDS: Final = 20


@dataclass(slots=True)
class Visit:
    """One request for a page, as far as it has been read and checked.

    `purpose` and `bound_to` are what the form token of this page is made for. `once` is that token's one-time
    name; `error` is set when the page is shown again because of it.
    """

    request: Request
    now: float
    session: Session | None
    purpose: str = ""
    bound_to: bytes = b""
    form: Mapping[str, str] = field(default_factory=dict)
    once: bytes = b""
    error: VisitorError | None = None

    @property
    def text(self) -> str:
        """What the visitor wrote, to be shown again."""
        return self.form.get("message", "")

    @property
    def today(self) -> int:
        return int(self.now // 86400)


def signed_in(visit: Visit) -> Session:
    """The session of a page that only shows with one."""
    assert visit.session is not None
    return visit.session


def take(limits: Limits, act: Act, visit: Visit, *, account: bytes = b"") -> None:
    """VisitorError (429) when this circuit, session, account or everyone together is too fast.

    `account` is who someone says they are before the desk knows.
    """
    whose: dict[By, object] = {}
    if circuit := circuit_of(visit.request.scope):
        whose[By.CIRCUIT] = circuit
    if visit.session is not None:
        whose |= {By.SESSION: visit.session.token_hash, By.ACCOUNT: visit.session.visitor.id}
    if account:
        whose[By.ACCOUNT] = account
    wait = limits.take(act, whose, now=visit.now)
    if wait > 0:
        raise VisitorError(
            "That was a bit fast for this desk. Nothing was sent.",
            status=429,
            code="too_fast",
            retry_after_seconds=wait,
        )


class Pages:
    """What each page shows (`show_…`) and what its form does."""

    def __init__(
        self,
        *,
        desk: Desk,
        limits: Limits,
        tokens: Tokens,
        look: Look,
        windows: Windows,
        clock: Callable[[], float],
    ) -> None:
        self.desk = desk
        self.windows = windows
        self.limits = limits
        self.tokens = tokens
        self.look = look
        self.clock = clock
        self._account_key = secrets.token_bytes(32)

    def visit(self, request: Request) -> Visit:
        """What can be known of a request before its form is read."""
        token = session_token(request)
        session = self.desk.open_session(token) if token is not None else None
        return Visit(request, self.clock(), session)

    # ---- coming in ------------------------------------------------------------------------------------

    def show_desk(self, visit: Visit) -> Response:
        if visit.session is not None and visit.error is None:
            return go_to("/chat")
        return self.look.page("desk.html", line_is_up=self.desk.line_is_up, **self._form(visit))

    async def start(self, visit: Visit) -> Response:
        """The first message. From a browser that has a conversation already (a second window) it goes there."""
        if visit.session is not None:
            await self._say(visit)
            return go_to("/chat")
        take(self.limits, Act.START, visit)
        signed = await self.desk.visitor_starts(visit.text, seed=visit.once, now=visit.now)
        return sign_in(go_to("/chat"), signed.token)

    def show_return(self, visit: Visit) -> Response:
        return self.look.page("return.html", code=visit.form.get("code", ""), **self._form(visit))

    async def come_back(self, visit: Visit) -> Response:
        take(self.limits, Act.LOGIN, visit)
        signed = await self.desk.visitor_returns(Private(visit.form.get("code", "")), now=visit.now)
        return sign_in(go_to("/chat"), signed.token)

    def show_account(self, visit: Visit) -> Response:
        return self.look.page("account.html", email=visit.form.get("email", ""), **self._form(visit))

    async def enter_account(self, visit: Visit) -> Response:
        """Sign in, or create the account, by which of the two buttons was pressed."""
        email, password = Private(visit.form.get("email", "")), Private(visit.form.get("password", ""))
        name = email.reveal().strip().casefold().encode()
        take(self.limits, Act.LOGIN, visit, account=hashlib.blake2b(name, key=self._account_key).digest())
        enter = self.desk.visitor_registers if "create" in visit.form else self.desk.visitor_logs_in
        signed = await enter(email, password, now=visit.now)
        return sign_in(go_to("/chat"), signed.token)

    # ---- the conversation -----------------------------------------------------------------------------

    def show_chat(self, visit: Visit) -> Response:
        return self._show_chat(visit, live=True)

    def show_calm_chat(self, visit: Visit) -> Response:
        return self._show_chat(visit, live=False)

    def _show_chat(self, visit: Visit, *, live: bool) -> Response:
        code = signed_in(visit).pending_code
        return self.look.chat_page("chat.html", live=live, code=code.reveal() if code else "", **self._form(visit))

    async def keep_code(self, visit: Visit) -> Response:
        await self.desk.visitor_keeps_code(signed_in(visit))
        return go_to(visit.request.url.path)

    def show_stub(self, _visit: Visit) -> Response:
        return self.look.frame("stub.html")

    def show_latest(self, visit: Visit) -> Response:
        session = signed_in(visit)
        messages = self.look.messages(self.desk.history(session, limit=HISTORY), today=visit.today)
        return self.look.frame(
            "view.html",
            refresh=f"{_CALM_SECONDS};url=/chat/latest",
            live=False,
            line_is_up=self.desk.line_is_up,
            messages=messages,
        )

    def show_compose(self, visit: Visit) -> Response:
        return self.look.frame("compose.html", **self._form(visit))

    async def say(self, visit: Visit) -> Response:
        await self._say(visit)
        return go_to("/chat/compose#m")  # The fragment brings the focus back: facts/nojs.md, 3.

    def show_write(self, visit: Visit) -> Response:
        return self.look.chat_page("write.html", **self._form(visit))

    async def write(self, visit: Visit) -> Response:
        """The large form; also where the composer's "longer" button brings its text, unsent."""
        if "longer" in visit.form:
            return self.show_write(visit)
        await self._say(visit)
        return go_to("/chat")

    async def _say(self, visit: Visit) -> None:
        take(self.limits, Act.SEND, visit)
        await self.desk.visitor_says(signed_in(visit), visit.text, once=visit.once, now=visit.now)

    def show_older(self, visit: Visit) -> Response:
        given = visit.request.query_params.get("before", "")
        before = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None
        messages = self.desk.history(signed_in(visit), before=before, limit=HISTORY)
        first = messages[0].seq if messages else 1
        return self.look.chat_page(
            "older.html",
            messages=self.look.messages(messages, today=visit.today),
            empty=not messages,
            before=first if first > 1 else None,
        )

    # ---- going ----------------------------------------------------------------------------------------

    def show_leave(self, visit: Visit) -> Response:
        code = signed_in(visit).pending_code
        return self.look.chat_page("leave.html", code=code.reveal() if code else "", **self._form(visit))

    async def leave(self, visit: Visit) -> Response:
        session = signed_in(visit)
        await self.desk.visitor_leaves(session)
        self.windows.end_session(session.token_hash)
        return sign_out(go_to("/left"))

    def show_burn(self, visit: Visit) -> Response:
        return self.look.chat_page("burn.html", **self._form(visit))

    async def burn(self, visit: Visit) -> Response:
        await self.desk.visitor_burns(signed_in(visit), now=visit.now)
        return sign_out(go_to("/burned"))

    def show_left(self, _visit: Visit) -> Response:
        return self.look.page("gone.html", burned=False)

    def show_burned(self, _visit: Visit) -> Response:
        return self.look.page("gone.html", burned=True)

    # ---------------------------------------------------------------------------------------------------

    def signed_out(self, visit: Visit, *, frame: bool) -> Response:
        """In place of a page that needs a session. Text that came with the request is handed back."""
        if not frame and not visit.text:
            return go_to("/")
        show = self.look.frame if frame else self.look.page
        return show("signed_out.html", status=403 if visit.text else 200, text=visit.text)

    def _form(self, visit: Visit) -> dict[str, Any]:
        """What every template with a form needs."""
        return {
            "token": self.tokens.issue(visit.purpose, visit.bound_to, now=visit.now),
            "here": _own_address(visit.request),
            "text": visit.text,
            "error": visit.error,
            "max_characters": BODY_MAX_CHARACTERS,
        }


class Page:
    """One row's end point: shows the page, or takes its form."""

    def __init__(
        self,
        pages: Pages,
        show: Callable[[Pages, Visit], Response],
        act: Callable[[Pages, Visit], Awaitable[Response]] | None,
        *,
        purpose: str,
        needs_session: bool,
        frame: bool,
    ) -> None:
        self._pages = pages
        self._show = show
        self._act = act
        self._purpose = purpose
        self._needs_session = needs_session
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._pages.visit(Request(scope, receive))
        visit.purpose = self._purpose
        if self._needs_session and visit.session is not None:
            visit.bound_to = visit.session.token_hash
        response = await self._answer(visit)
        await response(scope, receive, send)

    async def _answer(self, visit: Visit) -> Response:
        if visit.request.method in ("GET", "HEAD"):
            return self._shown(visit)
        if visit.request.method != "POST" or self._act is None:
            raise VisitorError("This page does not take that.", status=405, code="method")
        try:
            return await self._acted(visit, self._act)
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

    def _shown(self, visit: Visit) -> Response:
        if self._needs_session and visit.session is None:
            return self._pages.signed_out(visit, frame=self._frame)
        return self._show(self._pages, visit)

    async def _acted(self, visit: Visit, act: Callable[[Pages, Visit], Awaitable[Response]]) -> Response:
        visit.form = await read_form(visit.request)
        if self._needs_session and visit.session is None:
            return self._pages.signed_out(visit, frame=self._frame)
        if visit.form.get("here") != _own_address(visit.request):
            return self._pages.look.proxied(visit.request.headers["host"])
        token = visit.form.get("token", "")
        visit.once = self._pages.tokens.read(token, visit.purpose, visit.bound_to, now=visit.now)
        return await act(self._pages, visit)


def _own_address(request: Request) -> str:
    """Stands in every form: a proxy that rewrites onion links rewrites it too, and so gives itself away."""
    return f"http://{request.headers['host']}/"
