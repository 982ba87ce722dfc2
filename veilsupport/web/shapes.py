"""What programs send us and get: the bodies, queries and answers of the API. The WebSocket's are in `frames`.

These types check what comes in and make the OpenAPI document; there is no second description of them. Unknown
fields are refused, nothing is converted. The API says `user` for a visitor and `content` for a body, because its shape
is fixed. Knows neither HTTP nor the desk; `refusals` says what is wrong with what does not fit.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from veilsupport import model
from veilsupport.model import BODY_MAX_CHARACTERS, Author, Progress

HISTORY_DEFAULT: Final = 50
HISTORY_MAX: Final = 200
TOKEN_MAX: Final = 256
SEQ_MAX: Final = 10**15 - 1  # Fifteen digits, which a JavaScript number holds exactly.

_AUTHORS: Final[dict[Author, AuthorName]] = {Author.VISITOR: "user", Author.ADMIN: "admin", Author.DESK: "desk"}
_STATES: Final[dict[Progress, State]] = {
    Progress.KEPT: "kept",
    Progress.HANDED_OVER: "handed_over",
    Progress.ON_DEVICE: "on_device",
    Progress.READ: "read",
}
_CHANGES: Final[dict[model.MessageState, Change | None]] = {
    model.MessageState.SAID: None,
    model.MessageState.CORRECTED: "corrected",
    model.MessageState.RETRACTED: "retracted",
}


class Shape(BaseModel):
    """Strict, closed and frozen. Neither its repr nor an error about it shows what was sent."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ()


def _whole(value: object) -> object:
    """JSON knows one kind of number, and some write 7 as 7.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digits(value: object) -> object:
    """A number as it stands in a query; pydantic alone would also take "1.0", " 1" and "1_0"."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,15}", value):
            raise ValueError("digits only")
        return int(value)
    return value


Seq = Annotated[
    int, Field(ge=1, le=SEQ_MAX, description="place in the conversation, counted from 1"), BeforeValidator(_whole)
]
SeqOrZero = Annotated[
    int, Field(ge=0, le=SEQ_MAX, description="0, or the greatest `seq` that you have"), BeforeValidator(_whole)
]
Digits = BeforeValidator(_digits)
ClientId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="made by the client: the same id with the same text is kept once, however often it is sent",
    ),
]
# One character that is left when the desk has taken out what can harm a page or a phone (desk/core.py, `clean`).
_VISIBLE: Final = r"[^\s\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
Text = Annotated[str, Field(min_length=1, max_length=BODY_MAX_CHARACTERS, json_schema_extra={"pattern": _VISIBLE})]
# What a password or an address must look like is the desk's rule, and so are its words about it; here it is only told.
Email = Annotated[str, Field(json_schema_extra={"format": "email", "minLength": 3, "maxLength": 254})]
Password = Annotated[str, Field(json_schema_extra={"minLength": 8, "maxLength": 1000})]
Token = Annotated[str, Field(min_length=1, max_length=TOKEN_MAX, description="what signing in gave")]
AuthorName = Literal["user", "admin", "desk"]
State = Literal["kept", "handed_over", "on_device", "read"]
Change = Literal["corrected", "retracted"]
StandingName = Literal["open", "closed", "blocked"]
Minute = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\dZ$", description="UTC; nothing finer is kept")]


# ---- asked -----------------------------------------------------------------------------------------------


class Nothing(Shape):
    """No fields."""


class Solution(Shape):
    """The answer to a puzzle that a refusal has asked."""

    id: str = Field(min_length=1, max_length=100, description="as the puzzle's")
    answer: str = Field(max_length=100, description="a word or a number; case does not matter")


class Arrival(Shape):
    """Starting without saying who you are; the body may be left out."""

    puzzle: Solution | None = Field(None, description="after a refusal with code `puzzle`")


class Credentials(Shape):
    """Signing in, or making the account."""

    email: Email
    password: Password
    puzzle: Solution | None = Field(None, description="after a refusal with code `puzzle`")


class ReturnCode(Shape):
    """The words with which someone comes back."""

    code: str = Field(min_length=1, max_length=400, description="seven words; case and blanks do not matter")


class PasswordChange(Shape):
    """The old password proves that it is you."""

    email: Email
    password: Password
    new_password: Password


class Outgoing(Shape):
    """A message to the desk."""

    message: Text
    id: ClientId | None = None


class ReadMark(Shape):
    """Everything up to there has been looked at."""

    seq: Seq


class HistoryQuery(Shape):
    """Which part of the conversation; without `before` and `after` the newest messages."""

    before: Annotated[Seq | None, Digits] = Field(
        None, description="only messages older than this `seq`; the newest of them"
    )
    after: Annotated[SeqOrZero | None, Digits] = Field(
        None, description="only messages newer than this `seq`; the oldest of them"
    )
    limit: Annotated[int, Digits] = Field(HISTORY_DEFAULT, ge=1, le=HISTORY_MAX, description="how many at most")


class SiteQuery(Shape):
    """Which site; without a name the one that lists the request's Origin, else the desk's own page."""

    name: str | None = Field(None, max_length=100, description="a site's name; empty: the desk's own page")


# ---- answered --------------------------------------------------------------------------------------------


class Error(Shape):
    """What went wrong."""

    code: str = Field(description="stable, for programs")
    message: str = Field(description="one sentence, for people")
    field: str | None = Field(description="which field was not right, where one can tell")


class ErrorAnswer(Shape):
    """Every answer that is not 2xx."""

    error: Error
    retry_after: int | None = Field(None, ge=1, description="seconds to wait; with 429 and 503")


class Puzzle(Shape):
    """A question for a person, of a few words; good once, for half an hour."""

    id: str
    question: str


class PuzzleAnswer(ErrorAnswer):
    """The refusal with code `puzzle`: ask the person, and send the same again with `puzzle`."""

    puzzle: Puzzle


class User(Shape):
    """A visitor."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    email: str | None = Field(description="null unless it was in this very request: it is stored nowhere")


class SignedIn(Shape):
    """A new session."""

    user: User
    token: Token


class Started(SignedIn):
    """A new session of someone who stays unknown."""

    code: str = Field(description="the return code: seven words, told this once")


class SessionLine(Shape):
    """One of your sessions."""

    id: str = Field(pattern="^[0-9a-f]{16}$")
    since: Minute
    current: bool = Field(description="the one that asks")


class SessionList(Shape):
    """Oldest first."""

    sessions: list[SessionLine]


class Message(Shape):
    """One message of the conversation."""

    seq: Seq
    author: AuthorName
    name: str = Field(description="an admin's public name; empty for the others")
    content: str
    at: Minute
    state: State = Field(description="how far your message has come; only ever grows")
    change: Change | None = Field(
        description="`corrected`: not the first words; `retracted`: taken back, and `content` is empty; else null"
    )


class Kept(Shape):
    """The message as it was kept."""

    message: Message
    id: ClientId | None


class History(Shape):
    """Oldest first."""

    messages: list[Message]
    more: bool = Field(description="there are further ones in the direction that was asked for")


class DeskState(Shape):
    """How things stand between the conversation and the desk."""

    open: bool = Field(description="whether the admins can be reached at this moment")
    staffed: bool = Field(description="whether one of them is there; only with both call the desk open")
    away: str | None = Field(description="what visitors are told while nobody is there; null while somebody is")
    archived: bool = Field(
        description="whether those who answer keep a copy of what is said that they can open later; tell the visitor"
    )
    answer_minutes: int | None = Field(description="how long answers usually take, where that is known")
    conversation: StandingName | None = Field(
        description="`closed` opens again by itself with the next message; `blocked` can read and not send;"
        " null before the first message"
    )


class MessageState(Shape):
    """How far one of your messages has come."""

    seq: Seq
    state: State


class Status(Shape):
    """`states`: your own among the newest fifty messages, oldest first."""

    desk: DeskState
    last_seq: SeqOrZero
    read_seq: SeqOrZero
    states: list[MessageState]


class SiteAnswer(Shape):
    """How a site presents itself."""

    name: str
    title: str
    greeting: str
    accent: str = Field(description="#rrggbb, or empty")
    languages: list[str] = Field(description="BCP 47")
    open: bool
    staffed: bool
    away: str | None
    archived: bool
    answer_minutes: int | None


# ---- the desk's values in these shapes --------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def at(minute: int) -> str:
    """`minute` is a Unix minute."""
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%MZ}"


def fields_of(message: model.Message) -> dict[str, Any]:
    """What `Message` and the frames that carry one are made of."""
    return {
        "seq": message.seq,
        "author": _AUTHORS[message.author],
        "name": message.name,
        "content": message.body,
        "at": at(message.minute),
        "state": _STATES[message.progress],
        "change": _CHANGES[message.state],
    }


def state_of(seq: int, progress: Progress) -> dict[str, Any]:
    """What `MessageState` and `StateFrame` are made of."""
    return {"seq": seq, "state": _STATES[progress]}


def once_of(id: str | None) -> bytes:
    """The desk's one-time name for a message with that client id; without one, a name that never comes again."""
    if id is None:
        return secrets.token_bytes(32)
    return blake2b(id.encode(), digest_size=32, person=b"veil client id").digest()
