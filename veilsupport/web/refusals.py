"""What programs are told when something cannot be done: one shape, stable codes, and the field where one can tell.

The one place where a `VisitorError`, an unfit body and a store that does not keep become JSON. Messages are constants;
of what was sent only the name of an unknown field is repeated, and that in `field`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import ValidationError
from starlette.responses import Response

from veilsupport.errors import VisitorError
from veilsupport.web import frames, shapes
from veilsupport.web.puzzle import PuzzleError

T = TypeVar("T")

# Every code that an answer of the API may carry: (status, what it means). The OpenAPI document lists it.
CODES: Final = {
    "malformed": (400, "the body or frame is not a JSON object"),
    "unknown_field": (400, "a field or query parameter that does not exist here, or is given twice"),
    "missing": (400, "a field is missing"),
    "invalid": (400, "a field does not have the form it needs"),
    "empty": (400, "there is nothing in it"),
    "too_long": (400, "longer than it may be"),
    "bad_email": (400, "does not look like an e-mail address"),
    "weak_password": (400, "too short, too long, or the address itself"),
    "no_token": (401, "this needs `Authorization: Bearer …`"),
    "bad_token": (401, "the session is unknown or was ended: sign in again"),
    "wrong_password": (401, "address and password do not belong together"),
    "blocked": (403, "the desk has ended this conversation; it can be read"),
    "wrong_origin": (403, "asked from a page that is not listed for any site"),
    "puzzle": (
        403,
        "many come just now, or guess at this account: a person has to answer the question in `puzzle`",
    ),
    "proxied": (403, "came through a proxy that takes visitors out of Tor"),
    "not_found": (404, "there is no such thing"),
    "unknown_code": (404, "no conversation has this return code"),
    "gone": (404, "the conversation was erased at this very moment"),
    "method": (405, "not with this method; `Allow` says which"),
    "slow": (408, "the body did not arrive in time; nothing was kept"),
    "wait_for_answer": (409, "as much as may be written before the first answer; after it, this may be sent again"),
    "taken": (409, "the e-mail address is in use"),
    "damaged": (410, "the conversation's key was damaged on our disk"),
    "too_large": (413, "more than the API takes at once"),
    "not_json": (415, "the body needs `Content-Type: application/json`"),
    "wrong_host": (421, "the desk does not answer to this address"),
    "upgrade": (426, "a WebSocket is spoken here"),
    "too_fast": (429, "slower, please; `Retry-After` says how long to wait"),
    "broken": (500, "a bug of ours; the desk starts again, and what was kept is kept"),
    "busy": (503, "too many people are signing in just now"),
    "full": (503, "too much waits to be handed over to the admins; nothing was kept"),
    "unavailable": (503, "the disk does not take anything at this moment; nothing was kept"),
}

_FIELDS: Final = {  # which field the desk's own refusals are about
    "bad_email": "email",
    "weak_password": "password",
    "wrong_password": "password",
    "unknown_code": "code",
    "taken": "email",
    "empty": "message",
    "too_long": "message",
}

# pydantic's kinds of error → our code. Whatever else it finds is `invalid`.
_KINDS: Final = {
    "json_invalid": "malformed",
    "model_type": "malformed",
    "dict_type": "malformed",
    "extra_forbidden": "unknown_field",
    "missing": "missing",
    "union_tag_not_found": "missing",
    "string_too_long": "too_long",
    "string_too_short": "empty",
}
_SENTENCES: Final = {
    "malformed": "This is not a JSON object.",
    "unknown_field": "There is no such field here.",
    "missing": "This field is missing.",
    "too_long": "This is too long.",
    "empty": "There is nothing in this field.",
    "invalid": "This field does not have the form it needs.",
}
_FIELD_MAX: Final = 64


def unavailable() -> VisitorError:
    """The store did not keep it."""
    return VisitorError(
        "The desk cannot keep anything at this moment, so nothing was sent. Please try again soon.",
        status=503,
        code="unavailable",
        retry_after_seconds=60,
    )


def checked(check: Callable[[], T]) -> T:
    """What `check` makes of what was sent. VisitorError (400) names the first field that does not fit."""
    try:
        return check()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    code = _KINDS.get(first["type"], "invalid")
    # For a frame, pydantic puts the frame's type in front of the field; for a missing type the place is empty.
    names = [step for step in first["loc"] if isinstance(step, str)][-1:]
    field = names[0][:_FIELD_MAX] if names else "type" if first["type"].startswith("union_tag") else None
    raise VisitorError(_SENTENCES[code], code=code, field=field)


def body_of(error: VisitorError) -> shapes.Error:
    return shapes.Error(code=error.code, message=error.message, field=error.field or field_of(error))


def field_of(error: VisitorError) -> str | None:
    return _FIELDS.get(error.code)


def retry_after_of(error: VisitorError) -> int | None:
    """Whole seconds; rounded up, so that whoever waits that long has waited long enough."""
    return None if error.retry_after_seconds is None else max(1, math.ceil(error.retry_after_seconds))


def answer(error: VisitorError) -> Response:
    """The HTTP answer."""
    wait = retry_after_of(error)
    content = shapes.ErrorAnswer(error=body_of(error), retry_after=wait)
    if isinstance(error, PuzzleError):
        puzzle = shapes.Puzzle(id=error.puzzle.id, question=error.puzzle.question)
        content = shapes.PuzzleAnswer(error=body_of(error), retry_after=wait, puzzle=puzzle)
    response = Response(content.model_dump_json(), error.status, media_type="application/json")
    if wait is not None:
        response.headers["retry-after"] = str(wait)
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if error.status == 426:
        response.headers["upgrade"] = "websocket"
    return response


def frame(error: VisitorError, *, id: str | None = None) -> frames.ErrorFrame:
    """The same on a WebSocket, about the frame with that client id."""
    body = body_of(error)
    if body.field == "message":  # So it is called over REST; in a frame the text is the content.
        body = body.model_copy(update={"field": "content"})
    return frames.ErrorFrame(error=body, id=id, retry_after=retry_after_of(error))
