"""What goes into the store and comes out of it: ids, hashes and sealed bytes, never an opened body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilsupport.model import Author, Conversation, DeliveryKind, MessageState, Progress


@dataclass(frozen=True, slots=True)
class NewSession:
    token_hash: bytes
    wrapped_key: bytes
    sealed_code: bytes | None


@dataclass(frozen=True, slots=True)
class NewCredential:
    lookup: bytes
    kind: str
    salt: bytes | None
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class NewVisitor:
    id: bytes
    public_key: bytes
    credential: NewCredential
    session: NewSession


@dataclass(frozen=True, slots=True)
class NewDelivery:
    stanza_id: str
    admin: bytes
    kind: DeliveryKind
    sealed: bytes
    held: bool = False  # until somebody asks for it
    apart: bool = False  # for the staff room: belongs to no conversation, though it is queued with one's message


@dataclass(frozen=True, slots=True)
class NewMessage:
    """`seal` is called inside the transaction with the sequence number, because the body is bound to it.

    `claimed_by`: whose the conversation becomes, if it is nobody's; `if_claimed` are due in that case only. `folds`: it
    makes a folded conversation, or leaves it so; `deliveries` is then the one that is held for nobody. `unfold` is
    called inside the transaction for each that was held so, and makes what is due now instead.
    """

    author: Author
    seal: Callable[[int], bytes]
    deliveries: Sequence[NewDelivery]  # kind MESSAGE: they carry this message; others only belong to its conversation
    once: bytes | None = None
    site: str = ""  # of the conversation, if this message makes it
    claimed_by: bytes | None = None
    if_claimed: Sequence[NewDelivery] = ()
    handles: Sequence[bytes] = ()
    copy: Callable[[int], bytes] | None = None  # as `seal`, for the archive; None: it is not on
    folds: bool = False
    alike: bytes | None = None  # of the conversation, if this message makes it
    unfold: Unfold | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """An incoming stanza: its hashed key, and where its archive now stands, sealed (None: it is in no archive)."""

    key: bytes
    archive: bytes | None
    position: bytes | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a message went. `again` means that this very one had been kept before."""

    conversation: Conversation
    seq: int
    reopened: bool = False
    again: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class StoredSession:
    visitor: bytes
    public_key: bytes
    wrapped_key: bytes
    sealed_code: bytes | None


@dataclass(frozen=True, slots=True)
class StoredCredential:
    visitor: bytes
    public_key: bytes
    salt: bytes | None
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class StoredMessage:
    seq: int
    author: Author
    progress: Progress
    minute: int
    sealed: bytes
    state: MessageState


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """A message as the archive has it."""

    seq: int
    author: Author
    minute: int
    state: MessageState
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Handled:
    """The message that a handle names, and what is needed to seal it anew."""

    conversation: Conversation
    public_key: bytes
    message: StoredMessage


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    stanza_id: str
    admin: bytes
    kind: DeliveryKind
    alias: str
    site: str
    conversation: bytes | None
    seq: int | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """Message `seq` has come as far as `progress`."""

    conversation: bytes
    seq: int
    progress: Progress


Unfold = Callable[[StoredDelivery], Sequence[NewDelivery]]
