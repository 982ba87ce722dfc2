"""The values that the desk and its edges pass to each other. Frozen, and without behaviour.

They know nothing of SQLite, HTTP, XMPP or Tor. Instants are Unix seconds (float) while they travel and whole
minutes (int) once they rest on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

BODY_MAX_CHARACTERS: Final = 4000

# What somebody may write before anybody has answered. Who is in distress writes line by line, and must not be stopped
# in the middle: twenty lines are more than that takes, and five full messages tell a long story. More is no more help
# to whoever answers first; and a thousand strangers who fill it up come to 20 MB.
REQUEST_MESSAGES: Final = 20
REQUEST_CHARACTERS: Final = 5 * BODY_MAX_CHARACTERS


class Private:
    """A string that must not reach a log: return code, e-mail, password, JID, token, onion key.

    Prints as `·` in str, repr, format and logs; equality and hash work. Only `reveal` gives the value, so a grep
    for `reveal(` lists every exit.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "·"

    def __format__(self, spec: str) -> str:
        return "·"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Private) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


class Author(StrEnum):
    """Who speaks in a conversation."""

    VISITOR = "visitor"
    ADMIN = "admin"
    DESK = "desk"  # the appliance itself: greeting, "conversation closed"


class Progress(IntEnum):
    """How far a visitor's message has come; it only ever grows."""

    KEPT = 0  # committed to our disk
    HANDED_OVER = 1  # the XMPP server has taken it (XEP-0198)
    ON_DEVICE = 2  # an admin's device has it (XEP-0184)
    READ = 3  # an admin has looked at it (XEP-0333)


class MessageState(StrEnum):
    """Whether a message still says what it said first."""

    SAID = "said"
    CORRECTED = "corrected"  # its author has replaced the words (XEP-0308)
    RETRACTED = "retracted"  # its author has taken the words back (XEP-0424); the body is empty


class Standing(StrEnum):
    """What state a conversation is in."""

    OPEN = "open"
    CLOSED = "closed"  # reopens by itself on the next message of either side
    BLOCKED = "blocked"  # the visitor can read but not send


class Request(IntEnum):
    """Whether an admin has taken a conversation on yet."""

    ACCEPTED = 0  # somebody has answered, or it is somebody's
    NEW = 1
    FOLDED = 2  # new, and it says what others said before it: it rang nobody, and is opened when asked for


@dataclass(frozen=True, slots=True)
class Visitor:
    """An anonymous person. `id` is 16 random bytes and also names their one conversation."""

    id: bytes
    public_key: bytes  # X25519, 32 bytes


@dataclass(frozen=True, slots=True)
class Session:
    """A visitor's signed-in browser, opened with its token for the length of one request."""

    token_hash: bytes
    visitor: Visitor
    private_key: bytes = field(repr=False)  # X25519, 32 bytes; lives only as long as this value
    pending_code: Private | None  # the return code, until the visitor says that it is kept

    @property
    def id(self) -> str:
        """What the visitor's own list of sessions calls it; opens nothing."""
        return session_id(self.token_hash)


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """One line of a visitor's own list of sessions."""

    id: str
    made_minute: int  # Unix minutes


def session_id(token_hash: bytes) -> str:
    return token_hash[:8].hex()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The thread between one visitor and the desk; exists from the first message on."""

    id: bytes  # the visitor's id
    alias: str  # what the admins call it: heron-42
    standing: Standing
    last_seq: int
    last_minute: int  # Unix minutes
    site: str = ""  # the site through which it was begun; "" is the desk's own page
    read_seq: int = 0  # the newest message that the visitor has looked at
    owner: bytes | None = None  # who has claimed it: the desk's id of an admin
    waiting_minute: int | None = None  # since when the visitor waits for an answer; None: not at all
    request: Request = Request.ACCEPTED
    alike: bytes | None = None  # shared by requests that began with the same words; random


@dataclass(frozen=True, slots=True)
class Message:
    """One utterance, opened. `seq` counts from 1 within its conversation and gives the order."""

    conversation: bytes
    seq: int
    author: Author
    name: str  # an admin's public name; empty for the others
    body: str
    minute: int  # Unix minutes
    progress: Progress
    state: MessageState = MessageState.SAID


@dataclass(frozen=True, slots=True)
class Site:
    """A place through which visitors come: the operator's own page, or someone else's that links or embeds it."""

    name: str  # in addresses: a to z, 0 to 9 and hyphens; "" is the desk's own page
    title: str
    greeting: str
    accent: str = ""  # #rrggbb, or "" for the desk's own colour
    languages: tuple[str, ...] = ()  # BCP 47, the first is the page's; () leaves it to the desk
    origins: tuple[str, ...] = ()  # exact origins (RFC 6454) whose pages may call the API and embed the chat
    hours: str = ""  # when somebody answers, in the words of `hours`; "" is always
    away: str = ""  # what visitors read while nobody does; "" leaves it to the desk
    typing: bool = True  # whether either side is shown that the other is writing
    read_marks: bool = True  # whether either side is shown that the other has read
    retention_days: int = 0  # older messages are erased; 0: none
    idle_days: int = 0  # conversations with nothing said for so long are erased whole; 0: none
    request_messages: int = REQUEST_MESSAGES  # that a visitor may write before the first answer; 0: any number
    request_characters: int = REQUEST_CHARACTERS  # in all of them together; 0: any number
    mark_words: tuple[str, ...] = ()  # words and phrases by which a message is marked for the admins


class Role(IntEnum):
    """What an admin may do on a site; each may also do what those before it may."""

    NONE = 0  # the site's conversations are not theirs: they do not even see them
    READS = 1
    ANSWERS = 2  # and claims, closes, reopens
    LEADS = 3  # and assigns, blocks, burns, and sets what holds for the whole site


class EndToEnd(StrEnum):
    """Whether what goes to an admin is encrypted from here to their device (OMEMO)."""

    REQUIRE = "require"  # or not sent at all
    PREFER = "prefer"  # wherever their devices can
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Admin:
    """Someone who answers. `address` is a bare JID, which only the XMPP edge understands."""

    name: str  # the public name: all a visitor ever sees of an admin
    address: Private
    role: Role = Role.LEADS  # on every site that `roles` does not name
    roles: tuple[tuple[str, Role], ...] = ()  # (site's name, role)
    end_to_end: EndToEnd = EndToEnd.PREFER
    notify_only: bool = False  # told that there is a message; its words only when asked for

    def role_at(self, site: str) -> Role:
        return dict(self.roles).get(site, self.role)


class DeliveryKind(StrEnum):
    """What the XMPP edge shall make of a delivery."""

    MESSAGE = "message"  # a visitor's words
    NEWS = "news"  # the same without its words: there is one
    NOTICE = "notice"  # the desk speaks to the admin: answers to commands, echoes, news
    RETRACT = "retract"  # ask the admin's client to remove an earlier stanza
    DESTROY = "destroy"  # a burned conversation's room, with its archive


class DeliveryStep(StrEnum):
    """What happened to a delivery, for those who count."""

    MADE = "made"  # about to be kept
    HELD = "held"  # leaves when its admin asks
    DUE = "due"  # seen to be due; it may have been made by an earlier run
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # an error came back: due again, later
    AGAIN = "again"  # the connection was lost with it: due again


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stanza that is due. The stanza id is our own and stays the same over every attempt.

    `admin` None: to the conversation's room; without a conversation either, to the staff room.
    """

    stanza_id: str
    admin: Admin | None
    kind: DeliveryKind
    conversation: bytes | None
    alias: str  # empty when it belongs to no conversation; for RETRACT: of the one that was burned
    body: str  # for RETRACT: the stanza id to be retracted; for DESTROY: the room's address
    site: str = ""  # the conversation's


@dataclass(frozen=True, slots=True)
class Room:
    """Where the admins of a conversation meet its visitor. `address` is a bare JID."""

    conversation: Conversation
    address: Private


@dataclass(frozen=True, slots=True)
class Attendance:
    """Whether somebody is there to answer, and what becomes of what is said, as visitors of one site are told."""

    line_is_up: bool  # the admins' server can be reached
    staffed: bool  # within hours, and somebody is there
    away: str = ""  # what to read while it is not staffed
    archived: bool = False  # a copy of what is said is kept that those who answer can open later


@dataclass(frozen=True, slots=True)
class Intake:
    """Identifies one incoming stanza, so that it takes effect once however often it arrives.

    `key` is the archive's id of the stanza where there is one (XEP-0359 stanza-id by our own server), else
    sender and stanza id. `archive` and `position` move the catch-up cursor in the same transaction; both are
    None when the stanza is in no archive.
    """

    key: str
    archive: str | None = None
    position: str | None = None
    handles: tuple[str, ...] = ()  # by what its sender's corrections and retractions will name it


# What a conversation's open pages are told, in the order in which it happened.


@dataclass(frozen=True, slots=True)
class Said:
    """A new message stands in the conversation."""

    message: Message


@dataclass(frozen=True, slots=True)
class Progressed:
    """Visitor's message `seq` has come further."""

    seq: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """The conversation was opened, closed or blocked."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    """The visitor has looked at everything up to `seq`, on one of their devices."""

    seq: int


@dataclass(frozen=True, slots=True)
class Typing:
    """An admin is writing an answer at this moment."""

    name: str  # the admin's public name


@dataclass(frozen=True, slots=True)
class Changed:
    """A message was corrected or retracted; this is how it reads now."""

    message: Message


@dataclass(frozen=True, slots=True)
class AttendanceChanged:
    """The line to the admins came up or went down, or somebody came or left: ask for it anew."""


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Nothing follows: this session was ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing follows: the conversation was burned, or the desk stops, or the reader was too slow."""

    burned: bool


Event = Said | Progressed | Changed | StandingChanged | ReadUpTo | Typing | AttendanceChanged | SignedOut | Ended
