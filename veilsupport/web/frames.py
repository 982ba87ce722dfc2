"""The frames and close codes of the WebSocket. What they are for stands at the head of `socket`."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from veilsupport.web.shapes import (
    ClientId,
    DeskState,
    Digits,
    ErrorAnswer,
    Message,
    MessageState,
    Seq,
    SeqOrZero,
    Shape,
    Text,
    Token,
    User,
)

FRAME_MAX_BYTES: Final = 64 * 1024  # Room for 4,000 characters that a client writes as \uXXXX.


class SocketQuery(Shape):
    """For clients that cannot send a first frame."""

    token: Token | None = None
    after: Annotated[SeqOrZero | None, Digits] = None


# ---- from you ---------------------------------------------------------------------------------------------


class AuthFrame(Shape):
    """The first frame. Exactly one of `token` and `cookie`; `cookie` is for the desk's own pages."""

    type: Literal["auth"]
    token: Token | None = None
    cookie: Literal[True] | None = None
    after: SeqOrZero | None = Field(None, description="absent: only what comes from now on")


class SendFrame(Shape):
    """A message to the desk; answered by `ack` or `error`."""

    type: Literal["message"]
    content: Text
    id: ClientId | None = None


class ReadFrame(Shape):
    """Both ways: everything up to there has been looked at, on one of your devices."""

    type: Literal["read"] = "read"
    seq: Seq


class WritingFrame(Shape):
    """You are writing at this moment; at most one in five seconds is worth sending."""

    type: Literal["typing"]


class PingFrame(Shape):
    """For browsers, which cannot send a WebSocket's own ping; answered by `pong`."""

    type: Literal["ping"]


Heard = Annotated[SendFrame | ReadFrame | WritingFrame | PingFrame, Field(discriminator="type")]
HEARD: Final[TypeAdapter[SendFrame | ReadFrame | WritingFrame | PingFrame]] = TypeAdapter(Heard)


class _Named(BaseModel):
    """Only the id of a frame that does not fit otherwise."""

    id: ClientId | None = None


def id_in(text: str) -> str | None:
    """The client id of a frame that was refused, so that the client knows which one it was."""
    try:
        return _Named.model_validate_json(text).id
    except ValidationError:
        return None


# ---- from us -----------------------------------------------------------------------------------


class ReadyFrame(Shape):
    """The answer to `auth`; what is newer than your `after` follows."""

    type: Literal["ready"] = "ready"
    user: User
    last_seq: SeqOrZero
    read_seq: SeqOrZero
    states: list[MessageState]
    desk: DeskState


class MessageFrame(Message):
    """A message of either side."""

    type: Literal["message"] = "message"


class ChangedFrame(Message):
    """A message that you have was corrected or retracted: show it like this, in its place."""

    type: Literal["changed"] = "changed"


class AckFrame(Message):
    """Your message from this very socket, as it was kept."""

    type: Literal["ack"] = "ack"
    id: ClientId | None


class StateFrame(MessageState):
    """A message of yours has come further."""

    type: Literal["state"] = "state"


class TypingFrame(Shape):
    """An admin is writing at this moment."""

    type: Literal["typing"] = "typing"
    name: str


class DeskFrame(DeskState):
    """Desk or conversation have changed."""

    type: Literal["desk"] = "desk"


class PongFrame(Shape):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"


class ErrorFrame(ErrorAnswer):
    """About one of your frames; the socket stays open unless a close follows."""

    type: Literal["error"] = "error"
    id: ClientId | None = None


HEARD_FRAMES: Final = (AuthFrame, SendFrame, ReadFrame, WritingFrame, PingFrame)
TOLD_FRAMES: Final = (
    ReadyFrame,
    MessageFrame,
    ChangedFrame,
    AckFrame,
    StateFrame,
    TypingFrame,
    ReadFrame,
    DeskFrame,
    PongFrame,
    ErrorFrame,
)


# ---- the end ----------------------------------------------------------------------------------------------


class Close(IntEnum):
    """With which code a socket closes (RFC 6455 §7.4; from 4000 on they are ours)."""

    LEFT = 1000
    GOING_AWAY = 1001
    BINARY = 1003
    NOT_UTF8 = 1007
    TOO_LARGE = 1009
    NO_PONG = 1011
    RESTART = 1012
    BAD_AUTH = 4400
    SIGNED_OUT = 4401
    NO_AUTH = 4408
    REPLACED = 4409
    BURNED = 4410
    TOO_FAST = 4429
    UNAVAILABLE = 4503
    TOO_SLOW = 4508


# What happened, and what the client should do about it.
CLOSES: Final = {
    Close.LEFT: "you left",
    Close.GOING_AWAY: "we stop or start anew: connect again with a back-off, and `after`",
    Close.BINARY: "a binary frame; only text is spoken here",
    Close.NOT_UTF8: "a text frame that is not UTF-8",
    Close.TOO_LARGE: "a frame larger than 64 KiB",
    Close.NO_PONG: "no answer to our pings: connect again, with `after`",
    Close.RESTART: "as 1001",
    Close.BAD_AUTH: "the first frame, or the address, was no valid `auth`: a mistake in the client, do not try again",
    Close.SIGNED_OUT: "the token opens no session, or not any more: do not try again, sign in",
    Close.NO_AUTH: "no `auth` frame came in time: connect again",
    Close.REPLACED: "this session has too many sockets, and this was its oldest: do not try again by yourself",
    Close.BURNED: "the conversation was burned: forget it",
    Close.TOO_FAST: "too many frames or connections: wait as the `error` frame before said, or ten seconds",
    Close.UNAVAILABLE: "too many are connecting just now: connect again after ten seconds",
    Close.TOO_SLOW: "you read too slowly: connect again, with `after`",
}
