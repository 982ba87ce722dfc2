"""What a visitor may do in their conversation: start it, write, read, burn it."""

from __future__ import annotations

import statistics
from typing import Final

from veilsupport import crypto
from veilsupport.crypto import KeyPair
from veilsupport.desk import aliases, requests
from veilsupport.desk.core import accept, minute_of
from veilsupport.desk.listener import Listener
from veilsupport.desk.requests import Tally
from veilsupport.desk.ways_in import GONE, SignedIn, WaysIn
from veilsupport.errors import Duplicate, NotFound, SealError, StoreError, VisitorError
from veilsupport.model import (
    Author,
    Conversation,
    Message,
    MessageState,
    Progress,
    ReadUpTo,
    Request,
    Session,
    Site,
    Standing,
    Visitor,
)
from veilsupport.store import Kept, NewDelivery, NewMessage, StoredMessage

BLOCKED: Final = (
    "This conversation was ended by the desk: you can read it and burn it, but nothing more goes to the people who"
    " answer."
)
_READ_BACK: Final = 20  # messages whose length is counted, where their number has no limit
ANSWERS_LOOKED_AT: Final = 50
ANSWERS_NEEDED: Final = 5  # fewer say nothing about the next one, and something about the last


class Visitors(WaysIn):
    """The visitor's half of the desk: their conversation."""

    _answer_known_at = -1
    _answer_minutes: int | None = None

    async def visitor_starts(self, body: str, *, seed: bytes, now: float, site: str = "") -> SignedIn:
        """A first message makes visitor, conversation, return code and session in one transaction.

        `seed` is the start form's one-time secret: the same seed with the same body gives the same session, so
        a double click or a reload neither starts nor posts twice. With another body it gives nothing (409):
        whoever saw the form must not come into the conversation by it. VisitorError also: empty, too long.
        """
        body = accept(body)
        token = crypto.token_from_seed(self.key.forms, seed)
        if session := self.open_session(token):
            if not self.store.was_posted(session.visitor.id, _once(seed, body)):
                raise VisitorError(
                    "This form was sent before. Please send your message again.", status=409, code="used"
                )
            return SignedIn(token, session.visitor.id)
        new = self._new_visitor(token)
        visitor = Visitor(new.id, new.public_key)
        first = self._request(visitor, body, seed, site, now)
        try:
            kept = await self.store.add_visitor(new, minute=minute_of(now), first=first, aliases=aliases.candidates())
        except Duplicate:  # the same form, sent twice at once: the other one was first
            self._repeats.forget(visitor.id)
            return await self.visitor_starts(body, seed=seed, now=now, site=site)
        except StoreError:  # nobody was rung; each further try comes as another visitor, and must not fold the last
            self._repeats.forget(visitor.id)
            raise
        if kept is not None:
            self._tell_said(kept, _message(kept, Author.VISITOR, "", body))
        return SignedIn(token, visitor.id)

    def has_begun(self, seed: bytes) -> bool:
        """Whether something was started with that seed, and its session goes on."""
        return self.open_session(crypto.token_from_seed(self.key.forms, seed)) is not None

    def has_said(self, session: Session, body: str, *, once: bytes) -> bool:
        """Whether this very text from this very form is kept already. VisitorError: empty, too long."""
        return self.store.was_posted(session.visitor.id, _once(once, accept(body)))

    async def visitor_says(self, session: Session, body: str, *, once: bytes, now: float, site: str = "") -> Message:
        """Keep a message and its deliveries. The same `once` (a form's nonce) with the same body posts once.

        The first message makes the conversation, as one of `site`. VisitorError: empty, too long, blocked, gone, or as
        much as there may be before the first answer.
        """
        body = accept(body)
        conversation = self.conversation(session)
        if conversation:
            site = conversation.site
            self._check_standing(session, conversation, body, once)
        if conversation is None or conversation.request is Request.FOLDED:
            new = self._request(session.visitor, body, once, site, now)
        else:
            new = self._visitors_message(session.visitor, body, once, site)
        try:
            kept = await self.store.add_message(
                session.visitor.id, new, minute=minute_of(now), aliases=aliases.candidates()
            )
        except NotFound:
            raise VisitorError(GONE, status=404, code="gone") from None
        if not kept.again:
            self._tallies.add(session.visitor.id, body)
        message = _message(kept, Author.VISITOR, "", body)
        self._tell_said(kept, message)
        return message

    def conversation(self, session: Session) -> Conversation | None:
        """None until the first message."""
        return self.store.conversation(session.visitor.id)

    def visitor_types(self, session: Session) -> None:
        """The visitor is writing at this moment; whoever shows that to the admins is told."""
        conversation = self.conversation(session)
        if conversation and conversation.standing is Standing.OPEN and self.site(conversation.site).typing:
            self.on_typing(conversation)

    async def visitor_reads(self, session: Session, seq: int) -> None:
        """The visitor has looked at everything up to `seq`; their other open pages are told."""
        if await self.store.mark_read_by_visitor(session.visitor.id, seq):
            self.listeners.tell(session.visitor.id, ReadUpTo(seq))
            conversation = self.conversation(session)
            if conversation and self.site(conversation.site).read_marks:
                self.on_read(conversation.id, seq)

    def answer_minutes(self, *, now: float) -> int | None:
        """How long the middle one of the latest answers took; None while too few are known. Looked up once a minute."""
        if minute_of(now) != self._answer_known_at:
            waits = self.store.answer_minutes(last=ANSWERS_LOOKED_AT)
            self._answer_known_at = minute_of(now)
            self._answer_minutes = int(statistics.median(waits)) if len(waits) >= ANSWERS_NEEDED else None
        return self._answer_minutes

    def history_after(self, session: Session, seq: int, *, limit: int = 50) -> list[Message]:
        """The oldest messages after sequence number `seq`, oldest first."""
        found = self.store.messages_after(session.visitor.id, seq, limit=limit)
        return _opened(session, found)

    def history(self, session: Session, *, before: int | None = None, limit: int = 50) -> list[Message]:
        """The newest messages before sequence number `before`, oldest first."""
        found = self.store.messages(session.visitor.id, before=before, limit=limit)
        return _opened(session, found)

    def changed(self, session: Session, *, before: int, limit: int = 50) -> list[Message]:
        """Those among the newest messages before sequence number `before` that were corrected or retracted."""
        found = self.store.messages(session.visitor.id, before=before, limit=limit)
        return _opened(session, [stored for stored in found if stored.state is not MessageState.SAID])

    def progress(self, session: Session, *, limit: int = 50) -> list[tuple[int, Progress]]:
        """(sequence number, how far it has come) of the visitor's own among the newest messages, oldest first."""
        found = self.store.messages(session.visitor.id, before=None, limit=limit)
        return [(stored.seq, stored.progress) for stored in found if stored.author is Author.VISITOR]

    async def visitor_burns(self, session: Session, *, now: float) -> None:
        """Erase visitor, conversation, codes and sessions here, and ask the admins' clients to do the same."""
        conversation = self.conversation(session)
        notices: list[NewDelivery] = []
        if conversation and conversation.request is not Request.FOLDED:  # of such a one nobody has heard
            stays = self._what_stays(conversation.id)
            notices = self._news_of(conversation, f"{conversation.alias} has burned this conversation. {stays}")
        await self._burn(session.visitor.id, notices, now=now)

    def listen(self, session: Session) -> Listener:
        """Events of this visitor's conversation from now on. Close it (or use `with`) when the page is gone."""
        return self.listeners.add(session.visitor.id, session.token_hash)

    def _check_standing(self, session: Session, conversation: Conversation, body: str, once: bytes) -> None:
        """VisitorError: it is blocked, or a request with enough in it; but what was kept before is answered as such."""
        if conversation.standing is Standing.BLOCKED:
            raise VisitorError(BLOCKED, status=403, code="blocked")
        if conversation.request is Request.ACCEPTED:
            return
        site = self.site(conversation.site)
        if self._tally(session, site).has_room(site, body) or self.store.was_posted(conversation.id, _once(once, body)):
            return
        raise requests.enough()

    def _tally(self, session: Session, site: Site) -> Tally:
        known = self._tallies.known(session.visitor.id)
        if known is None:
            known = Tally.of(self.history(session, limit=max(site.request_messages, _READ_BACK)))
            self._tallies.keep(session.visitor.id, known)
        return known

    def _request(self, visitor: Visitor, body: str, once: bytes, site: str, now: float) -> NewMessage:
        """A message that is the first, or comes into a folded conversation."""
        alike, folds = self._repeats.said(visitor.id, site, body, now=now)
        return self._visitors_message(visitor, body, once, site, alike=alike, folds=folds)

    def _visitors_message(
        self, visitor: Visitor, body: str, once: bytes, site: str, *, alike: bytes | None = None, folds: bool = False
    ) -> NewMessage:
        def seal(seq: int) -> bytes:
            return crypto.seal(visitor.public_key, visitor.id, Author.VISITOR, seq, "", body)

        return NewMessage(
            Author.VISITOR,
            seal,
            [self._folded(body)] if folds else self._of_visitor(visitor.id, site, body),
            _once(once, body),
            site,
            copy=self._copy(visitor.id, Author.VISITOR, "", body),
            folds=folds,
            alike=alike,
            unfold=self._unfolded,
        )


def _once(nonce: bytes, body: str) -> bytes:
    """Names one sending of one text."""
    return crypto.derive(nonce, "veil-once", body.encode())


def _message(kept: Kept, author: Author, name: str, body: str) -> Message:
    conversation = kept.conversation
    return Message(conversation.id, kept.seq, author, name, body, conversation.last_minute, Progress.KEPT)


def _opened(session: Session, found: list[StoredMessage]) -> list[Message]:
    keys = KeyPair(session.visitor.public_key, session.private_key)
    return [_message_in(stored, keys, session.visitor.id) for stored in found]


def _message_in(stored: StoredMessage, keys: KeyPair, visitor: bytes) -> Message:
    """A damaged body is shown as such in its place, so that one bad block does not hide a conversation."""
    try:
        name, body = crypto.open_sealed(keys, stored.sealed, visitor, stored.author, stored.seq)
    except SealError:
        name, body = "", "(This message was damaged on our disk and cannot be shown.)"
    return Message(visitor, stored.seq, stored.author, name, body, stored.minute, stored.progress, stored.state)
