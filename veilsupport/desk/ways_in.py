"""How a visitor comes in and goes: by a first arrival, return code, e-mail and password; and their sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from veilsupport import crypto
from veilsupport.desk.core import Core, minute_of
from veilsupport.errors import Duplicate, NotFound, SealError, VisitorError
from veilsupport.model import Private, Session, SessionEntry, Visitor, session_id
from veilsupport.store import NewCredential, NewSession, NewVisitor

PASSWORD_MIN_CHARACTERS: Final = 8
GONE: Final = "This conversation is not here any more: it was erased."
_DAMAGED: Final = "The key of this conversation was damaged on our disk. Please start a new one."
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_EMAIL_MAX: Final = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
_PASSWORD_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a browser gets: `token` goes into its cookie. `visitor` is the id."""

    token: Private
    visitor: bytes


class WaysIn(Core):
    """Credentials and sessions."""

    async def visitor_arrives(self, *, now: float) -> tuple[SignedIn, Private]:
        """A visitor who has not written yet, and the return code; the conversation begins with the first message."""
        token = crypto.new_token()
        code = crypto.new_code()
        new = self._new_visitor(token, code, shown=False)
        await self.store.add_visitor(new, minute=minute_of(now))
        return SignedIn(token, new.id), code

    def _new_visitor(self, token: Private, code: Private | None = None, *, shown: bool = True) -> NewVisitor:
        """Keys, a return code and a session; `shown`: the code rests with the session until it is confirmed."""
        code = code or crypto.new_code()
        keys = crypto.new_key_pair()
        id = crypto.random_bytes(16)
        root = crypto.code_root(self.key.pepper, code)
        wrapped = crypto.wrap(root.wrapping_key, keys.private, b"code" + id)
        session = _new_session(token, id, keys.private, code if shown else None)
        return NewVisitor(id, keys.public, NewCredential(root.lookup, "code", None, wrapped), session)

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
        salt = crypto.new_salt()
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
        visitor, private_key = await self._opened_by_password(crypto.email_lookup(self.key.pepper, email), password)
        return await self._sign_in(visitor, private_key, now)

    async def _opened_by_password(self, lookup: bytes, password: Private) -> tuple[bytes, bytes]:
        """(visitor's id, their private key). VisitorError: 401, or 503 when too many wait.

        As slow for an unknown address as for a known one.
        """
        found = self.store.credential(lookup)
        stand_in = crypto.derive(self.key.pepper, "veil-no-salt", lookup)
        wrapping_key = await self._passwords.wrapping_key(password, found.salt if found and found.salt else stand_in)
        if found is None:
            raise _wrong_password()
        try:
            return found.visitor, crypto.unwrap(wrapping_key, found.wrapped_key, b"email" + found.visitor)
        except SealError:
            raise _wrong_password() from None

    async def _sign_in(self, visitor: bytes, private_key: bytes, now: float) -> SignedIn:
        token = crypto.new_token()
        session = _new_session(token, visitor, private_key, None)
        try:
            await self.store.add_session(visitor, session, minute=minute_of(now))
        except NotFound:  # burned at this very moment
            raise VisitorError(GONE, status=404, code="gone") from None
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

    async def visitor_keeps_code(self, session: Session) -> None:
        """The visitor says that the return code is kept: it is forgotten here."""
        await self.store.forget_code(session.token_hash)

    async def visitor_leaves(self, session: Session) -> None:
        """End this session; the conversation stays and the code goes on working."""
        await self.store.end_session(session.token_hash)
        self._tell_signed_out(session.visitor.id, session.token_hash)

    def sessions(self, session: Session) -> list[SessionEntry]:
        """All sessions of this visitor, oldest first."""
        found = self.store.sessions(session.visitor.id)
        return [SessionEntry(session_id(token_hash), minute) for token_hash, minute in found]

    async def visitor_ends_session(self, session: Session, id: str) -> None:
        """End one of one's own sessions by its id. VisitorError (404): there is none."""
        for token_hash, _ in self.store.sessions(session.visitor.id):
            if session_id(token_hash) == id:
                await self.store.end_session(token_hash)
                self._tell_signed_out(session.visitor.id, token_hash)
                return
        raise VisitorError("There is no such session.", status=404, code="not_found")

    async def visitor_renews(self, session: Session, *, now: float) -> SignedIn:
        """A new token in the place of this session's. VisitorError (404): it was ended at this very moment."""
        token = crypto.new_token()
        visitor = session.visitor.id
        code = session.pending_code
        try:
            await self.store.replace_session(
                session.token_hash,
                visitor,
                _new_session(token, visitor, session.private_key, code),
                minute=minute_of(now),
            )
        except NotFound:
            raise VisitorError(GONE, status=404, code="gone") from None
        self._tell_signed_out(visitor, session.token_hash)
        return SignedIn(token, visitor)

    async def visitor_changes_password(self, session: Session, email: Private, old: Private, new: Private) -> None:
        """A new password; every other session of this visitor ends. VisitorError: 400 weak, 401 wrong, 503 busy."""
        _check_password(email, new)
        lookup = crypto.email_lookup(self.key.pepper, email)
        visitor, private_key = await self._opened_by_password(lookup, old)
        if visitor != session.visitor.id:
            raise _wrong_password()
        salt = crypto.new_salt()
        wrapping_key = await self._passwords.wrapping_key(new, salt)
        wrapped = crypto.wrap(wrapping_key, private_key, b"email" + visitor)
        ended = await self.store.change_credential(
            lookup, salt=salt, wrapped_key=wrapped, visitor=visitor, kept=session.token_hash
        )
        for token_hash in ended:
            self._tell_signed_out(visitor, token_hash)


def _new_session(token: Private, visitor: bytes, private_key: bytes, code: Private | None) -> NewSession:
    root = crypto.token_root(token)
    sealed_code = crypto.wrap_text(root.wrapping_key, code.reveal(), b"code" + visitor) if code else None
    return NewSession(root.lookup, crypto.wrap(root.wrapping_key, private_key, b"session" + visitor), sealed_code)


def _wrong_password() -> VisitorError:
    return VisitorError("E-mail address and password do not belong together.", status=401, code="wrong_password")


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
    if len(plain) > _PASSWORD_MAX:
        raise VisitorError("Please choose a shorter password.", code="weak_password")
