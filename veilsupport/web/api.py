"""The REST API: every end point is a row of the table, and all of them go the same way.

    guard (Host, origin, size) → row by path and method → token → body or query against its shape → limit → the desk

What each does stands in `acts`; what it asks and answers are types in `shapes`; `openapi` makes the document from the
same rows. Errors leave as `VisitorError` and become JSON in `guard`. Raw ASGI: a send is the hottest path we have.
Knows HTTP and the desk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from veilsupport.desk import Desk
from veilsupport.errors import StoreError, Unavailable, VisitorError
from veilsupport.limits import Act
from veilsupport.model import Session, Site
from veilsupport.web import frames, refusals, shapes
from veilsupport.web.acts import Acts, Call
from veilsupport.web.forms import plausible_token
from veilsupport.web.guard import TEMPLATE
from veilsupport.web.origins import Origins
from veilsupport.web.pace import Pace
from veilsupport.web.shapes import Shape
from veilsupport.web.toll import paced

ROOT: Final = "/api/v1"
SOCKET_PATH: Final = f"{ROOT}/ws"


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
