"""What a visitor may do: start, come back, write, read, leave, burn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from veilsupport import crypto
from veilsupport.desk import aliases
from veilsupport.desk.core import Core, accept, minute_of
from veilsupport.desk.listener import Listener
from veilsupport.errors import Duplicate, NotFound, SealError, VisitorError
from veilsupport.model import (
    Author,
    Conversation,
    DeliveryKind,
    Message,
    Private,
    Progress,
    Session,
    Standing,
    Visitor,
)
from veilsupport.store import (
    Kept,
    NewCredential,
    NewDelivery,
    NewMessage,
    NewSession,
    NewVisitor,
    StoredMessage,
)

PASSWORD_MIN_CHARACTERS: Final = 8
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_EMAIL_MAX: Final = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
_DAMAGED: Final = "The key of this conversation was damaged on our disk. Please start a new one."
_GONE: Final = "This conversation is not here any more: it was erased."


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a browser gets: `token` goes into its cookie. `visitor` is the id."""

    token: Private
    visitor: bytes


class Visitors(Core):
    """The visitor's half of the desk."""

    async def visitor_starts(self, body: str, *, seed: bytes, now: float) -> SignedIn:
        """A first message makes visitor, conversation, return code and session in one transaction.

        `seed` is the start form's one-time secret: the same seed gives the same session, so a double click or a
        reload neither starts nor posts twice, while another body under it is a further message. VisitorError:
        empty, too long.
        """
        body = accept(body)
        token = crypto.token_from_seed(self.key.forms, seed)
        if session := self.open_session(token):
            await self.visitor_says(session, body, once=seed, now=now)
            return SignedIn(token, session.visitor.id)
        keys = crypto.new_key_pair()
        visitor = Visitor(crypto.random_bytes(16), keys.public)
        code = crypto.new_code()
        root = crypto.code_root(self.key.pepper, code)
        credential = NewCredential(
            root.lookup, "code", None, crypto.wrap(root.wrapping_key, keys.private, b"code" + visitor.id)
        )
        new = NewVisitor(visitor.id, keys.public, credential, _new_session(token, visitor.id, keys.private, code))
        first = self._visitors_message(visitor, body, seed)
        try:
            kept = await self.store.add_visitor(new, minute=minute_of(now), first=first, aliases=aliases.candidates())
        except Duplicate:  # the same form, sent twice at once: the other one was first
            return await self.visitor_starts(body, seed=seed, now=now)
        if kept is not None:
            self._tell_said(kept, _message(kept, Author.VISITOR, "", body))
        return SignedIn(token, visitor.id)

    async def visitor_says(self, session: Session, body: str, *, once: bytes, now: float) -> Message:
        """Keep a message and its deliveries. The same `once` (a form's nonce) with the same body posts once.

        The first message makes the conversation. VisitorError: empty, too long, blocked, gone.
        """
        body = accept(body)
        conversation = self.conversation(session)
        if conversation and conversation.standing is Standing.BLOCKED:
            raise VisitorError("This conversation has been ended by the desk.", status=403, code="blocked")
        new = self._visitors_message(session.visitor, body, once)
        try:
            kept = await self.store.add_message(
                session.visitor.id, new, minute=minute_of(now), aliases=aliases.candidates()
            )
        except NotFound:
            raise VisitorError(_GONE, status=404, code="gone") from None
        message = _message(kept, Author.VISITOR, "", body)
        self._tell_said(kept, message)
        return message

    async def visitor_returns(self, code: Private, *, now: float) -> SignedIn:
        """A new session by return code. VisitorError (404) when nobody has it."""
        root = crypto.code_root(self.key.pepper, code)
        found = self.store.credential(root.lookup)
        if found is None:
            raise VisitorError(
                "No conversation has this code. Please look at the seven words once more; their order matters.",
                status=404,
                code="unknown_code",
            )
        try:
            private_key = crypto.unwrap(root.wrapping_key, found.wrapped_key, b"code" + found.visitor)
        except SealError:  # the row was found by the same secret
            raise VisitorError(_DAMAGED, status=410, code="damaged") from None
        return await self._sign_in(found.visitor, private_key, now)

    async def visitor_registers(self, email: Private, password: Private, *, now: float) -> SignedIn:
        """A visitor with e-mail and password. VisitorError: malformed or weak (400), taken (409), busy (503)."""
        _check_email(email)
        _check_password(email, password)
        keys = crypto.new_key_pair()
        visitor = Visitor(crypto.random_bytes(16), keys.public)
        salt = crypto.random_bytes(16)
        wrapping_key = await self._passwords.wrapping_key(password, salt)
        wrapped = crypto.wrap(wrapping_key, keys.private, b"email" + visitor.id)
        credential = NewCredential(crypto.email_lookup(self.key.pepper, email), "email", salt, wrapped)
        token = crypto.new_token()
        new = NewVisitor(visitor.id, keys.public, credential, _new_session(token, visitor.id, keys.private, None))
        try:
            await self.store.add_visitor(new, minute=minute_of(now))
        except Duplicate:
            raise VisitorError("This e-mail address is in use already.", status=409, code="taken") from None
        return SignedIn(token, visitor.id)

    async def visitor_logs_in(self, email: Private, password: Private, *, now: float) -> SignedIn:
        """VisitorError: 401, or 503 when too many wait. As slow for an unknown address as for a known one."""
        lookup = crypto.email_lookup(self.key.pepper, email)
        found = self.store.credential(lookup)
        stand_in = crypto.derive(self.key.pepper, "veil-no-salt", lookup)[:16]
        salt = found.salt if found and found.salt else stand_in
        wrapping_key = await self._passwords.wrapping_key(password, salt)
        wrong = VisitorError("E-mail address and password do not belong together.", status=401, code="wrong_password")
        if found is None:
            raise wrong
        try:
            private_key = crypto.unwrap(wrapping_key, found.wrapped_key, b"email" + found.visitor)
        except SealError:
            raise wrong from None
        return await self._sign_in(found.visitor, private_key, now)

    async def _sign_in(self, visitor: bytes, private_key: bytes, now: float) -> SignedIn:
        token = crypto.new_token()
        session = _new_session(token, visitor, private_key, None)
        try:
            await self.store.add_session(visitor, session, minute=minute_of(now))
        except NotFound:  # burned at this very moment
            raise VisitorError(_GONE, status=404, code="gone") from None
        return SignedIn(token, visitor)

    def open_session(self, token: Private) -> Session | None:
        """The session that this token opens, with the visitor's private key; None when there is none.

        One whose row was damaged on disk is as good as none: the visitor can still come back by code.
        """
        root = crypto.token_root(token)
        found = self.store.session(root.lookup)
        if found is None:
            return None
        code = None
        try:
            private_key = crypto.unwrap(root.wrapping_key, found.wrapped_key, b"session" + found.visitor)
            if found.sealed_code is not None:
                code = Private(crypto.unwrap_text(root.wrapping_key, found.sealed_code, b"code" + found.visitor))
        except SealError:
            return None
        return Session(root.lookup, Visitor(found.visitor, found.public_key), private_key, code)

    def conversation(self, session: Session) -> Conversation | None:
        """None until the first message."""
        return self.store.conversation(session.visitor.id)

    def history(self, session: Session, *, before: int | None = None, limit: int = 50) -> list[Message]:
        """The newest messages before sequence number `before`, oldest first."""
        found = self.store.messages(session.visitor.id, before=before, limit=limit)
        return [_opened(session, stored) for stored in found]

    async def visitor_keeps_code(self, session: Session) -> None:
        """The visitor says that the return code is kept: it is forgotten here."""
        await self.store.forget_code(session.token_hash)

    async def visitor_leaves(self, session: Session) -> None:
        """End this session; the conversation stays and the code goes on working."""
        await self.store.end_session(session.token_hash)

    async def visitor_burns(self, session: Session, *, now: float) -> None:
        """Erase visitor, conversation, codes and sessions here, and ask the admins' clients to do the same."""
        conversation = self.conversation(session)
        notices: list[NewDelivery] = []
        if conversation:
            text = f"{conversation.alias} has burned this conversation. Please delete what you still have of it."
            notices = self._deliveries(DeliveryKind.NOTICE, self.admins, text)
        await self._burn(session.visitor.id, notices, now=now)

    def listen(self, session: Session) -> Listener:
        """Events of this visitor's conversation from now on. Close it (or use `with`) when the page is gone."""
        return self.listeners.add(session.visitor.id)

    def _visitors_message(self, visitor: Visitor, body: str, once: bytes) -> NewMessage:
        def seal(seq: int) -> bytes:
            return crypto.seal(visitor.public_key, visitor.id, Author.VISITOR, seq, "", body)

        return NewMessage(Author.VISITOR, seal, self._to_all(body), crypto.derive(once, "veil-once", body.encode()))


def _new_session(token: Private, visitor: bytes, private_key: bytes, code: Private | None) -> NewSession:
    root = crypto.token_root(token)
    sealed_code = crypto.wrap_text(root.wrapping_key, code.reveal(), b"code" + visitor) if code else None
    return NewSession(root.lookup, crypto.wrap(root.wrapping_key, private_key, b"session" + visitor), sealed_code)


def _message(kept: Kept, author: Author, name: str, body: str) -> Message:
    conversation = kept.conversation
    return Message(conversation.id, kept.seq, author, name, body, conversation.last_minute, Progress.KEPT)


def _opened(session: Session, stored: StoredMessage) -> Message:
    """A damaged body is shown as such in its place, so that one bad block does not hide a conversation."""
    visitor = session.visitor.id
    try:
        name, body = crypto.open_sealed(session.private_key, stored.sealed, visitor, stored.author, stored.seq)
    except SealError:
        name, body = "", "(This message was damaged on our disk and cannot be shown.)"
    return Message(visitor, stored.seq, stored.author, name, body, stored.minute, stored.progress)


def _check_email(email: Private) -> None:
    if len(email.reveal()) > _EMAIL_MAX or not _EMAIL.fullmatch(email.reveal().strip()):
        raise VisitorError("This does not look like an e-mail address.", code="bad_email")


def _check_password(email: Private, password: Private) -> None:
    plain = password.reveal()
    if len(plain) < PASSWORD_MIN_CHARACTERS or plain.casefold() == email.reveal().strip().casefold():
        raise VisitorError(
            f"Please choose a password of at least {PASSWORD_MIN_CHARACTERS} characters, and not the address itself.",
            code="weak_password",
        )
    if len(plain) > 1000:
        raise VisitorError("Please choose a shorter password.", code="weak_password")
