"""The pages of a visitor: each shows itself, and most take one form.

Knows HTTP and the desk. How a form is taken is in `row`; the live view in `live`; what stands on other people's
pages in `doors` and `embed`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.limits import Act
from veilsupport.model import BODY_MAX_CHARACTERS, Message, Private, Session, Site
from veilsupport.web import attended, forms
from veilsupport.web.attended import Attended
from veilsupport.web.forms import Tokens
from veilsupport.web.look import Look
from veilsupport.web.pace import Pace, Solution
from veilsupport.web.puzzle import Puzzle, PuzzleError
from veilsupport.web.reading import Reading
from veilsupport.web.shim import circuit_of
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
    site: Site  # the one that the address names, or the conversation's, or the desk's own
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

    @property
    def solution(self) -> Solution:
        """What the form holds to a puzzle."""
        return Solution(self.form.get("puzzle", ""), self.form.get("answer", ""), self.once)


def signed_in(visit: Visit) -> Session:
    """The session of a page that only shows with one."""
    assert visit.session is not None
    return visit.session


class Pages:
    """What each page shows (`show_…`) and what its form does."""

    def __init__(
        self,
        *,
        desk: Desk,
        pace: Pace,
        tokens: Tokens,
        look: Look,
        windows: Windows,
        clock: Callable[[], float],
        sites: Callable[[], Mapping[str, Site]],
    ) -> None:
        self.desk = desk
        self.sites = sites
        self.windows = windows
        self.pace = pace
        self.tokens = tokens
        self.look = look
        self.clock = clock

    def visit(self, request: Request, *, with_cookie: bool = True) -> Visit:
        """What can be known of a request before its form is read. VisitorError (404): the address names no site."""
        token = forms.session_token(request) if with_cookie else None
        session = self.desk.open_session(token) if token is not None else None
        return Visit(request, self.clock(), session, self._site(request, session))

    def _site(self, request: Request, session: Session | None) -> Site:
        sites = self.sites()
        named = request.path_params.get("site")
        if named is not None:
            if not named or named not in sites:
                raise VisitorError(
                    "The address has a mistake in it, or leads to something that is gone.", status=404, code="not_found"
                )
            return sites[named]
        conversation = self.desk.conversation(session) if session is not None else None
        return sites.get(conversation.site if conversation else "", sites[""])

    def sign_in(self, response: Response, token: Private) -> Response:
        return forms.sign_in(response, token, path=self.look.prefix + "/")

    def sign_out(self, response: Response) -> Response:
        return forms.sign_out(response, path=self.look.prefix + "/")

    # ---- coming in ------------------------------------------------------------------------------------

    def show_desk(self, visit: Visit) -> Response:
        if visit.session is not None and visit.error is None:
            return self.look.go_to("/chat")
        return self.desk_page(visit)

    def desk_page(self, visit: Visit, *, brought: bool = False) -> Response:
        """`brought`: the text in the box was written on someone else's page."""
        visit.purpose = "start"
        return self.look.page("desk.html", attended=self.attended(visit.site), brought=brought, **self.form(visit))

    async def start(self, visit: Visit) -> Response:
        """The first message. From a browser that has a conversation already (a second window) it goes there."""
        if visit.session is not None:
            self._refuse_to_mix(visit, visit.session)
            await self.send(visit)
            return self.look.go_to("/chat")
        self.begin(visit)
        signed = await self.desk.visitor_starts(visit.text, seed=visit.once, now=visit.now, site=visit.site.name)
        return self.sign_in(self.look.go_to("/chat"), signed.token)

    def begin(self, visit: Visit) -> None:
        """A conversation is about to begin. VisitorError: 429, 503; PuzzleError (403)."""
        if visit.once and self.desk.has_begun(visit.once):  # A double click must not be told that nothing was sent.
            self.pace.take(Act.KNOCK, visit.request.scope, now=visit.now)
            return
        self.pace.start(visit.request.scope, visit.solution, site=visit.site.name, now=visit.now)

    def open_stream(self, visit: Visit) -> None:
        """A live view is about to open. VisitorError: 429, 503."""
        if self.windows.are_full(signed_in(visit).token_hash, circuit_of(visit.request.scope)):
            raise VisitorError(
                "Too many live views are open at this moment.", status=503, code="busy", retry_after_seconds=30
            )
        self.pace.take(Act.STREAM, visit.request.scope, session=visit.session, now=visit.now)

    def soon(self, visit: Visit, error: VisitorError, *, embedded: bool = False) -> Response:
        """In place of a frame that cannot be shown now: it comes again by itself when there is hope."""
        show = self.look.embedded if embedded else self.look.frame
        wait = max(5, round(error.retry_after_seconds or 0) + 1)
        response = show("stub.html", site=visit.site, seconds=wait, place=visit.request.scope["path"])
        response.status_code = error.status
        return response

    def _refuse_to_mix(self, visit: Visit, session: Session) -> None:
        """Nobody becomes one and the same person to us, on two sites, without knowing it."""
        conversation = self.desk.conversation(session)
        if conversation is not None and conversation.site != visit.request.path_params.get("site", ""):
            raise VisitorError(
                "This browser is in another conversation with us already, begun elsewhere. Nothing was sent. Go there,"
                " or leave it first and then send this again.",
                status=409,
                code="elsewhere",
            )

    def show_return(self, visit: Visit) -> Response:
        return self.look.page("return.html", code=visit.form.get("code", ""), **self.form(visit))

    async def come_back(self, visit: Visit) -> Response:
        with self.pace.returning(visit.request.scope, now=visit.now):
            signed = await self.desk.visitor_returns(Private(visit.form.get("code", "")), now=visit.now)
        await self._end_earlier(visit)
        return self.sign_in(self.look.go_to("/chat"), signed.token)

    def show_account(self, visit: Visit) -> Response:
        return self.look.page("account.html", email=visit.form.get("email", ""), **self.form(visit))

    async def enter_account(self, visit: Visit) -> Response:
        """Sign in, or create the account, by which of the two buttons was pressed."""
        email, password = Private(visit.form.get("email", "")), Private(visit.form.get("password", ""))
        if "create" in visit.form:
            self.begin(visit)
            signed = await self.desk.visitor_registers(email, password, now=visit.now)
        else:
            with self.pace.signing_in(visit.request.scope, email, visit.solution, now=visit.now):
                signed = await self.desk.visitor_logs_in(email, password, now=visit.now)
        await self._end_earlier(visit)
        return self.sign_in(self.look.go_to("/chat"), signed.token)

    async def _end_earlier(self, visit: Visit) -> None:
        """Whoever signs in anew has done with the session that this browser held before."""
        if visit.session is not None:
            await self.desk.visitor_leaves(visit.session)

    # ---- the conversation -----------------------------------------------------------------------------

    def show_chat(self, visit: Visit) -> Response:
        return self._show_chat(visit, live=True)

    def show_calm_chat(self, visit: Visit) -> Response:
        return self._show_chat(visit, live=False)

    def _show_chat(self, visit: Visit, *, live: bool) -> Response:
        code = signed_in(visit).pending_code
        return self.look.chat_page(
            "chat.html",
            live=live,
            code=code.reveal() if code else "",
            samples=self.look.samples(visit.site) if live else "",
            socket_host=visit.request.headers["host"] if live else "",
            **self.form(visit),
        )

    async def keep_code(self, visit: Visit) -> Response:
        await self.desk.visitor_keeps_code(signed_in(visit))
        return self.look.go_to(visit.request.url.path)

    def show_stub(self, visit: Visit) -> Response:
        return self.look.frame("stub.html", site=visit.site)

    def show_latest(self, visit: Visit) -> Response:
        return self.look.frame(
            "view.html",
            site=visit.site,
            refresh=f"{_CALM_SECONDS};url={self.look.prefix}/chat/latest",
            live=False,
            attended=self.attended(visit.site),
            messages=self.latest(visit),
        )

    def latest(self, visit: Visit) -> str:
        """The newest messages, and what has to be known before writing."""
        session = signed_in(visit)
        history = Reading(self.desk, session).history(limit=HISTORY)
        messages = self.look.messages(history, today=visit.today, site=visit.site)
        return messages + self.look.standing(self.desk.conversation(session))

    def show_compose(self, visit: Visit) -> Response:
        return self.look.frame("compose.html", **self.form(visit))

    async def say(self, visit: Visit) -> Response:
        await self.send_beside_messages(visit)
        return self.look.go_to("/chat/compose#m")  # The fragment brings the focus back: facts/nojs.md, 3.

    def show_write(self, visit: Visit) -> Response:
        return self.look.chat_page("write.html", **self.form(visit))

    async def write(self, visit: Visit) -> Response:
        """The large form; also where the composer's "longer" button brings its text, unsent."""
        if "longer" in visit.form:
            return self.show_write(visit)
        await self.send(visit)
        return self.look.go_to("/chat")

    async def send(self, visit: Visit) -> Message:
        if self.desk.has_said(signed_in(visit), visit.text, once=visit.once):  # As in `begin`.
            self.pace.take(Act.PAGE, visit.request.scope, session=visit.session, now=visit.now)
        else:
            self.pace.send(visit.request.scope, signed_in(visit), now=visit.now)
        return await self.desk.visitor_says(
            signed_in(visit), visit.text, once=visit.once, now=visit.now, site=visit.site.name
        )

    async def send_beside_messages(self, visit: Visit) -> None:
        """From a form that stands below the messages: what stood there before counts as looked at.

        That they were sent to a browser says nothing: a stream is open for hours with nobody there. Without scripts
        only writing shows a person, and who answers has looked at what they answer. The larger box
        is on a page without messages, so nothing follows from it; scripts tell of reading by themselves.
        """
        message = await self.send(visit)
        # The message is kept: that the mark is not must not make the visitor send it again.
        with contextlib.suppress(StoreError, Unavailable):
            await self.desk.visitor_reads(signed_in(visit), message.seq - 1)

    def show_older(self, visit: Visit) -> Response:
        given = visit.request.query_params.get("before", "")
        before = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None
        found = Reading(self.desk, signed_in(visit)).history(before=before, limit=HISTORY + 1)
        messages = found[-HISTORY:]
        return self.look.chat_page(
            "older.html",
            site=visit.site,
            messages=self.look.messages(messages, today=visit.today, site=visit.site),
            empty=not messages,
            before=messages[0].seq if len(found) > len(messages) else None,
        )

    # ---- going ----------------------------------------------------------------------------------------

    def show_leave(self, visit: Visit) -> Response:
        code = signed_in(visit).pending_code
        return self.look.chat_page("leave.html", code=code.reveal() if code else "", **self.form(visit))

    async def leave(self, visit: Visit) -> Response:
        session = signed_in(visit)
        await self.desk.visitor_leaves(session)
        self.windows.end_session(session.token_hash)
        return self.sign_out(self.look.go_to("/left"))

    def show_burn(self, visit: Visit) -> Response:
        return self.look.chat_page("burn.html", **self.form(visit))

    async def burn(self, visit: Visit) -> Response:
        await self.desk.visitor_burns(signed_in(visit), now=visit.now)
        return self.sign_out(self.look.go_to("/burned"))

    def show_left(self, visit: Visit) -> Response:
        return self.look.page("gone.html", site=visit.site, burned=False)

    def show_burned(self, visit: Visit) -> Response:
        return self.look.page("gone.html", site=visit.site, burned=True)

    # ---------------------------------------------------------------------------------------------------

    def signed_out(self, visit: Visit, *, frame: bool) -> Response:
        """In place of a page that needs a session. Text that came with the request is handed back."""
        if not frame and not visit.text:
            return self.look.go_to("/")
        show = self.look.frame if frame else self.look.page
        return show("signed_out.html", status=403 if visit.text else 200, site=visit.site, text=visit.text)

    def attended(self, site: Site) -> Attended:
        """Whether somebody is there for visitors of that site, at this moment."""
        return attended.attended(self.desk.attendance(site.name, now=self.clock()))

    def _puzzle(self, visit: Visit) -> Puzzle | None:
        """What the form asks: before it is sent, where it will be needed; and whatever it was refused for."""
        if isinstance(visit.error, PuzzleError):
            return visit.error.puzzle
        if visit.session is not None or visit.purpose not in _PUZZLED:
            return None
        if not (self.pace.is_pressed or visit.solution.id):
            return None
        return self.pace.puzzle(visit.solution, now=visit.now)

    def form(self, visit: Visit) -> dict[str, Any]:
        """What every template with a form needs."""
        return {
            "site": visit.site,
            "token": self.tokens.issue(visit.purpose, visit.bound_to, now=visit.now),
            "here": own_address(visit.request),
            "text": visit.text,
            "error": visit.error,
            "puzzle": self._puzzle(visit),
            "max_characters": BODY_MAX_CHARACTERS,
        }


_PUZZLED: Final = frozenset({"start", "embed", "account"})


def own_address(request: Request) -> str:
    """Stands in every form: a proxy that rewrites onion links rewrites it too, and so gives itself away."""
    return f"http://{request.headers['host']}/"
