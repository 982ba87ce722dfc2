"""What the three parts of the desk share: store, keys, admins, listeners, and the checks of a text."""

from __future__ import annotations

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from veilsupport import crypto
from veilsupport.crypto import ApplianceKey, Passwords
from veilsupport.desk.listener import Listeners
from veilsupport.errors import VisitorError
from veilsupport.model import (
    BODY_MAX_CHARACTERS,
    Admin,
    DeliveryKind,
    Ended,
    LineChanged,
    Message,
    Progressed,
    Said,
    StandingChanged,
)
from veilsupport.store import Kept, Moved, NewDelivery, Store, Taken

UNASSIGNED: Final = b"\0" * 32  # recipient of what is due while nobody is configured to get it

# Control characters but for line feed and tab; and the marks that reorder or hide text around them (bidirectional
# embeddings, overrides and isolates, Unicode UAX #9 §2), with which a line can be made to read as another one. The
# last ones are no characters; XML forbids them, and a server hangs up on whoever sends them.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The same text without what can harm a page or a phone; line ends become line feeds."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", unicodedata.normalize("NFC", text)).strip()


def accept(text: str) -> str:
    """A message's text, cleaned. VisitorError when nothing is left or it is too long."""
    if len(text) > 4 * BODY_MAX_CHARACTERS:  # normalising takes time that grows with the square of the length
        raise too_long()
    body = clean(text)
    if not body:
        raise VisitorError("There is nothing in your message yet. Please write something.", code="empty")
    if len(body) > BODY_MAX_CHARACTERS:
        raise too_long()
    return body


def too_long() -> VisitorError:
    return VisitorError(
        f"Your message is too long: at most {BODY_MAX_CHARACTERS:,} characters. Please shorten it or send it in parts.",
        code="too_long",
    )


def minute_of(now: float) -> int:
    return int(now // 60)


class Core:
    """What every part of the desk holds. `status` gives the lines that other parts add to `!status`."""

    def __init__(
        self,
        store: Store,
        key: ApplianceKey,
        admins: Sequence[Admin],
        *,
        status: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.store = store
        self.key = key
        self.admins = tuple(admins)
        self.status = status
        self.wake = asyncio.Event()
        self.on_typing: Callable[[str], None] = lambda alias: None  # told whose visitor is writing at this moment
        self.listeners = Listeners()
        self._passwords = Passwords()
        self._line_is_up = False
        self._admin_of = {self.admin_id(admin): admin for admin in self.admins}

    def close(self) -> None:
        """End every open page's view; nothing is written after this."""
        self.listeners.tell_all(Ended(burned=False))
        self._passwords.close()

    @property
    def line_is_up(self) -> bool:
        """Whether the admins' server can be reached at this moment."""
        return self._line_is_up

    def line_changed(self, up: bool) -> None:
        if up != self._line_is_up:
            self._line_is_up = up
            self.listeners.tell_all(LineChanged(up))

    def admin_id(self, admin: Admin) -> bytes:
        """How the store names an admin: a keyed hash, because a JID names a person."""
        return crypto.derive(self.key.pepper, "veil-admin", admin.address.reveal().casefold().encode())

    def _deliveries(self, kind: DeliveryKind, admins: Iterable[Admin], text: str) -> list[NewDelivery]:
        return [self._delivery(kind, self.admin_id(admin), text) for admin in admins]

    def _delivery(self, kind: DeliveryKind, admin: bytes, text: str) -> NewDelivery:
        stanza_id = secrets.token_hex(16)
        return NewDelivery(stanza_id, admin, kind, crypto.wrap_text(self.key.outbox, text, stanza_id.encode()))

    def _to_all(self, text: str) -> list[NewDelivery]:
        """A visitor's words, to everyone who answers; while nobody does, kept until somebody is configured."""
        if not self.admins:
            return [self._delivery(DeliveryKind.MESSAGE, UNASSIGNED, text)]
        return self._deliveries(DeliveryKind.MESSAGE, self.admins, text)

    async def _burn(
        self, visitor: bytes, notices: Sequence[NewDelivery], *, now: float, taken: Taken | None = None
    ) -> None:
        """Erase everything of that visitor, and ask the admins' clients to remove what they were sent."""

        def retract(stanza_id: str, admin: bytes) -> NewDelivery:
            return self._delivery(DeliveryKind.RETRACT, admin, stanza_id)

        await self.store.burn(visitor, minute=minute_of(now), retract=retract, notices=notices, taken=taken)
        self.listeners.tell(visitor, Ended(burned=True))
        self.wake.set()

    def _tell_said(self, kept: Kept, message: Message) -> None:
        """After a commit: the open pages first, then the XMPP edge."""
        if kept.again:
            return
        if kept.reopened:
            self.listeners.tell(message.conversation, StandingChanged(kept.conversation.standing))
        self.listeners.tell(message.conversation, Said(message))
        self.wake.set()

    def _tell_moved(self, moved: Iterable[Moved]) -> None:
        for step in moved:
            self.listeners.tell(step.conversation, Progressed(step.seq, step.progress))
