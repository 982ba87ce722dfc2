"""What goes into the store and comes out of it: ids, hashes and sealed bytes, never an opened body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilsupport.model import Author, Conversation, DeliveryKind, Progress


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


@dataclass(frozen=True, slots=True)
class NewMessage:
    """`seal` is called inside the transaction with the sequence number, because the body is bound to it."""

    author: Author
    seal: Callable[[int], bytes]
    deliveries: Sequence[NewDelivery]  # kind MESSAGE: they carry this message; others only belong to its conversation
    once: bytes | None = None
    site: str = ""  # of the conversation, if this message makes it


@dataclass(frozen=True, slots=True)
class Taken:
    """An incoming stanza: its hashed key, and where its archive now stands (None: it is in no archive)."""

    key: bytes
    archive: bytes | None
    position: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a message went. `again` means that this very one had been kept before."""

    conversation: Conversation
    seq: int
    reopened: bool = False
    again: bool = False


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


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    stanza_id: str
    admin: bytes
    kind: DeliveryKind
    alias: str
    site: str
    conversation: bytes | None
    seq: int | None
    made_minute: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """Message `seq` has come as far as `progress`."""

    conversation: bytes
    seq: int
    progress: Progress
