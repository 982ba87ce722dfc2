"""The REST API: every end point is a row of the table, and all of them go the same way.

    guard (Host, origin, size) → row by path and method → token → body or query against its shape → limit → the desk

What each asks and answers are types in `shapes`; `openapi` makes the document from the same rows. Errors leave as
`VisitorError` and become JSON in `guard`. Raw ASGI: a send is the hottest path we have. Knows HTTP and the desk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.desk import Desk, SignedIn
from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.limits import Act
from veilsupport.model import Private, Session, Site
from veilsupport.web import frames, refusals, shapes
from veilsupport.web.forms import plausible_token
from veilsupport.web.guard import TEMPLATE
from veilsupport.web.origins import Origins
from veilsupport.web.pace import Pace
from veilsupport.web.reading import Reading
from veilsupport.web.shapes import Shape
from veilsupport.web.toll import paced

ROOT: Final = "/api/v1"
SOCKET_PATH: Final = f"{ROOT}/ws"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as it is checked. `site`: whose page asks; "" is the desk's own, and programs'."""

    now: float
    site: str
    session: Session | None
    id: str = ""  # what stood in the path

    @property
    def signed_in(self) -> Session:
        """The session of an end point that needs one."""
        assert self.session is not None
        return self.session


class Acts:
    """What the end points do. Each takes the call and what was asked, and gives the answer's shape or None."""

    def __init__(self, desk: Desk, sites: Callable[[], Mapping[str, Site]]) -> None:
        self._desk = desk
        self._sites = sites

    # ---- coming in and going -------------------------------------------------------------------------------

    async def register(self, call: Call, asked: shapes.Credentials) -> Shape:
        """Make an account with e-mail address and password."""
        signed = await self._desk.visitor_registers(Private(asked.email), Private(asked.password), now=call.now)
        return _signed_in(signed, asked.email)

    async def log_in(self, call: Call, asked: shapes.Credentials) -> Shape:
        """Sign in with e-mail address and password."""
        signed = await self._desk.visitor_logs_in(Private(asked.email), Private(asked.password), now=call.now)
        return _signed_in(signed, asked.email)

    async def arrive(self, call: Call, _: shapes.Arrival) -> Shape:
        """Start without saying who you are. The answer holds the return code, which is told this once."""
        signed, code = await self._desk.visitor_arrives(now=call.now)
        user = shapes.User(id=signed.visitor.hex(), email=None)
        return shapes.Started(user=user, token=signed.token.reveal(), code=code.reveal())

    async def come_back(self, call: Call, asked: shapes.ReturnCode) -> Shape:
        """Come back with a return code."""
        return _signed_in(await self._desk.visitor_returns(Private(asked.code), now=call.now))

    async def refresh(self, call: Call, _: shapes.Nothing) -> Shape:
        """A new token in the place of this one, which ends at once, with its sockets."""
        return _signed_in(await self._desk.visitor_renews(call.signed_in, now=call.now))

    async def log_out(self, call: Call, _: shapes.Nothing) -> None:
        """End this session. The conversation stays."""
        await self._desk.visitor_leaves(call.signed_in)

    async def sessions(self, call: Call, _: shapes.Nothing) -> Shape:
        """All your sessions."""
        own = call.signed_in.id
        found = self._desk.sessions(call.signed_in)
        lines = [shapes.SessionLine(id=it.id, since=shapes.at(it.made_minute), current=it.id == own) for it in found]
        return shapes.SessionList(sessions=lines)

    async def end_session(self, call: Call, _: shapes.Nothing) -> None:
        """End one of your sessions, with its sockets."""
        await self._desk.visitor_ends_session(call.signed_in, call.id)

    async def change_password(self, call: Call, asked: shapes.PasswordChange) -> None:
        """A new password. All your other sessions end."""
        email, old, new = Private(asked.email), Private(asked.password), Private(asked.new_password)
        try:
            await self._desk.visitor_changes_password(call.signed_in, email, old, new)
        except VisitorError as error:
            if error.code == "weak_password":
                error.field = "new_password"
            raise

    async def burn(self, call: Call, _: shapes.Nothing) -> None:
        """Burn: erase everything here, and ask the admins' apps to erase it there. Cannot be undone."""
        await self._desk.visitor_burns(call.signed_in, now=call.now)

    # ---- the conversation ----------------------------------------------------------------------------------

    async def send(self, call: Call, asked: shapes.Outgoing) -> Shape:
        """Write to the desk. 200 means that it is on our disk, and due to the admins."""
        message = await self._desk.visitor_says(
            call.signed_in, asked.message, once=shapes.once_of(asked.id), now=call.now, site=call.site
        )
        return shapes.Kept(message=shapes.Message(**shapes.fields_of(message)), id=asked.id)

    async def history(self, call: Call, asked: shapes.HistoryQuery) -> Shape:
        """The conversation, page by page."""
        reading = Reading(self._desk, call.signed_in)
        if asked.after is not None:
            found = reading.history_after(asked.after, limit=asked.limit + 1)
            found = [message for message in found if asked.before is None or message.seq < asked.before]
            shown = found[: asked.limit]
        else:
            found = reading.history(before=asked.before, limit=asked.limit + 1)
            shown = found[-asked.limit :]
        messages = [shapes.Message(**shapes.fields_of(message)) for message in shown]
        return shapes.History(messages=messages, more=len(found) > len(shown))

    async def status(self, call: Call, _: shapes.Nothing) -> Shape:
        """Whether the desk is open, and how far your messages have come."""
        return shapes.Status(**standing_of(self._desk, call.signed_in, call.site, now=call.now))

    async def read(self, call: Call, asked: shapes.ReadMark) -> None:
        """You have looked at everything up to there; your other devices are told."""
        await self._desk.visitor_reads(call.signed_in, asked.seq)

    async def upgrade(self, _: Call, __: frames.SocketQuery) -> None:
        """The WebSocket. Whoever comes without asking for one is told so."""
        raise VisitorError("A WebSocket is spoken here.", status=426, code="upgrade")

    async def site(self, call: Call, asked: shapes.SiteQuery) -> Shape:
        """How the desk presents itself on a site."""
        sites = self._sites()
        name = asked.name if asked.name is not None else call.site
        if name not in sites:
            raise VisitorError("There is no such site.", status=404, code="not_found", field="name")
        site, own = sites[name], sites[""]
        return shapes.SiteAnswer(
            name=site.name,
            title=site.title,
            greeting=site.greeting or own.greeting,
            accent=site.accent,
            languages=list(site.languages),
            **attendance_of(self._desk, site.name, now=call.now),
            answer_minutes=self._desk.answer_minutes(now=call.now),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One end point.

    `asks` is the shape of the body or, for GET, of the query; `answers` that of the answer, None without one (204).
    `limit`: which of `limits` it is subject to. `codes`: refusals of its own, beyond those that follow from the rest.
    """

    method: str
    path: str  # below ROOT; {id} is the one part that varies
    does: Callable[[Acts, Call, Any], Awaitable[Shape | None]]
    asks: type[Shape] = shapes.Nothing
    answers: type[Shape] | None = None
    status: int = 200
    needs_token: bool = True
    limit: Act | None = None
    codes: tuple[str, ...] = ()

    @property
    def takes_no_body(self) -> bool:
        """Whether nothing has to be sent."""
        return not any(field.is_required() for field in self.asks.model_fields.values())

    @property
    def summary(self) -> str:
        return (self.does.__doc__ or "").strip()


TABLE: Final = (
    Row(
        "POST",
        "/auth/register",
        Acts.register,
        shapes.Credentials,
        shapes.SignedIn,
        status=201,
        needs_token=False,
        limit=Act.START,
        codes=("bad_email", "weak_password", "taken", "busy", "puzzle", "full"),
    ),
    Row(
        "POST",
        "/auth/login",
        Acts.log_in,
        shapes.Credentials,
        shapes.SignedIn,
        needs_token=False,
        limit=Act.LOGIN,
        codes=("wrong_password", "gone", "busy", "puzzle"),
    ),
    Row(
        "POST",
        "/auth/anonymous",
        Acts.arrive,
        shapes.Arrival,
        shapes.Started,
        status=201,
        needs_token=False,
        limit=Act.START,
        codes=("puzzle", "full"),
    ),
    Row(
        "POST",
        "/auth/return",
        Acts.come_back,
        shapes.ReturnCode,
        shapes.SignedIn,
        needs_token=False,
        limit=Act.RETURN,
        codes=("unknown_code", "gone", "damaged"),
    ),
    Row("POST", "/auth/refresh", Acts.refresh, answers=shapes.SignedIn, limit=Act.RETURN, codes=("gone",)),
    Row("POST", "/auth/logout", Acts.log_out, status=204),
    Row("GET", "/auth/sessions", Acts.sessions, answers=shapes.SessionList, limit=Act.READ),
    Row("DELETE", "/auth/sessions/{id}", Acts.end_session, status=204, codes=("not_found",)),
    Row(
        "POST",
        "/auth/password",
        Acts.change_password,
        shapes.PasswordChange,
        status=204,
        limit=Act.LOGIN,
        codes=("weak_password", "wrong_password", "busy"),
    ),
    Row(
        "POST",
        "/chat/send",
        Acts.send,
        shapes.Outgoing,
        shapes.Kept,
        limit=Act.SEND,
        codes=("empty", "too_long", "blocked", "wait_for_answer", "gone", "full"),
    ),
    Row("GET", "/chat/history", Acts.history, shapes.HistoryQuery, shapes.History, limit=Act.READ),
    Row("GET", "/chat/status", Acts.status, answers=shapes.Status, limit=Act.READ),
    Row("POST", "/chat/read", Acts.read, shapes.ReadMark, status=204, limit=Act.READ),
    Row("DELETE", "/account", Acts.burn, status=204),
    Row("GET", "/ws", Acts.upgrade, frames.SocketQuery, status=101, needs_token=False, codes=("upgrade",)),
    Row(
        "GET",
        "/site",
        Acts.site,
        shapes.SiteQuery,
        shapes.SiteAnswer,
        needs_token=False,
        limit=Act.LOOK,
        codes=("not_found",),
    ),
)


class Api:
    """The ASGI application below /api/v1."""

    def __init__(
        self,
        *,
        desk: Desk,
        pace: Pace,
        origins: Origins,
        sites: Callable[[], Mapping[str, Site]],
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._pace = pace
        self._origins = origins
        self._clock = clock
        self._acts = Acts(desk, sites)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except (StoreError, Unavailable):
            raise refusals.unavailable() from None
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """Read, check, act, answer."""
        rows, id = _rows_at(scope["path"])
        scope[TEMPLATE] = ROOT + next(iter(rows.values())).path
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in rows:
            return _other_method(method, rows)
        row = rows[method]
        now = self._clock()
        session = self._session(scope) if row.needs_token else None
        asked = await _asked(row, scope, receive)
        call = Call(now, self._origins.site_of(scope) or "", session, id)
        with paced(self._pace, row.limit, scope, asked, session=session, site=call.site, now=now):
            given = await row.does(self._acts, call, asked)
        if given is None:
            return Response(status_code=row.status)
        return Response(given.model_dump_json(), row.status, media_type="application/json")

    def _session(self, scope: Scope) -> Session:
        """VisitorError (401): no token, or none that opens a session."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, value = given.decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not value:
            raise VisitorError("This needs a token: sign in first.", status=401, code="no_token")
        token = plausible_token(value.strip())
        session = self._desk.open_session(token) if token is not None else None
        if session is None:
            raise VisitorError("This session has ended. Please sign in again.", status=401, code="bad_token")
        return session


def _by_path() -> Mapping[str, Mapping[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in TABLE:
        found.setdefault(ROOT + row.path, {})[row.method] = row
    return found


_PATHS: Final = _by_path()


def _rows_at(path: str) -> tuple[Mapping[str, Row], str]:
    """The rows of a path by method, and what stands in it for {id}. VisitorError (404): there are none."""
    if path in _PATHS and "{" not in path:
        return _PATHS[path], ""
    parent, _, id = path.rpartition("/")
    if id and f"{parent}/{{id}}" in _PATHS:
        return _PATHS[f"{parent}/{{id}}"], id
    raise VisitorError("There is no such end point.", status=404, code="not_found")


def _other_method(method: str, rows: Mapping[str, Row]) -> Response:
    response = Response(status_code=204)
    if method != "OPTIONS":
        response = refusals.answer(VisitorError("This end point does not take that.", status=405, code="method"))
    response.headers["allow"] = ", ".join([*rows, *(["HEAD"] if "GET" in rows else []), "OPTIONS"])
    return response


async def _asked(row: Row, scope: Scope, receive: Receive) -> Shape:
    """Query or body in the row's shape; whichever of the two it does not take must be empty. VisitorError: 400, 415."""
    query = query_of(scope)
    if row.method == "GET":
        return refusals.checked(lambda: row.asks.model_validate(query))
    refusals.checked(lambda: shapes.Nothing.model_validate(query))
    body = (await receive()).get("body", b"")
    if not body and row.takes_no_body:
        return row.asks()
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise VisitorError("The body needs `Content-Type: application/json`.", status=415, code="not_json")
    return refusals.checked(lambda: row.asks.model_validate_json(body))


def query_of(scope: Scope) -> dict[str, str]:
    """The query's parameters. VisitorError (400): one of them stands there twice, or they cannot be read."""
    try:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise VisitorError("This query cannot be read.", code="malformed") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise VisitorError("A parameter stands in this query twice.", code="unknown_field")
    return query


def _signed_in(signed: SignedIn, email: str | None = None) -> shapes.SignedIn:
    user = shapes.User(id=signed.visitor.hex(), email=email)
    return shapes.SignedIn(user=user, token=signed.token.reveal())


def attendance_of(desk: Desk, site: str, *, now: float) -> dict[str, Any]:
    """What visitors of that site are told before they write, in every shape that tells it."""
    attendance = desk.attendance(site, now=now)
    return {
        "open": attendance.line_is_up,
        "staffed": attendance.staffed,
        "away": attendance.away or None,
        "archived": attendance.archived,
    }


def desk_of(desk: Desk, session: Session, site: str, *, now: float) -> dict[str, Any]:
    """What `DeskState` and `DeskFrame` are made of. `site`: where a conversation that is none yet would begin."""
    conversation = desk.conversation(session)
    return {
        **attendance_of(desk, conversation.site if conversation else site, now=now),
        "answer_minutes": desk.answer_minutes(now=now),
        "conversation": conversation.standing.value if conversation else None,
    }


def standing_of(desk: Desk, session: Session, site: str, *, now: float) -> dict[str, Any]:
    """What `Status` is made of, and `ReadyFrame` but for its user. `site` as above."""
    conversation = desk.conversation(session)
    return {
        "desk": shapes.DeskState(**desk_of(desk, session, site, now=now)),
        "last_seq": conversation.last_seq if conversation else 0,
        "read_seq": conversation.read_seq if conversation else 0,
        "states": [shapes.MessageState(**shapes.state_of(*each)) for each in Reading(desk, session).progress()],
    }
