"""What an admin says: answers, corrections, retractions. Each takes effect with the stanza that brought it, and once.

Also how the desk speaks to an admin, and who may do what where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from veilsupport import commands, crypto
from veilsupport.desk.core import Core, accept, minute_of
from veilsupport.errors import AdminError, NotFound, VisitorError
from veilsupport.model import (
    Admin,
    Author,
    Conversation,
    DeliveryKind,
    Intake,
    Message,
    MessageState,
    Progress,
    Role,
    Standing,
    Typing,
)
from veilsupport.store import Kept, NewDelivery, NewMessage

GONE: Final = "That conversation is gone; nothing was sent to anyone."
NOT_YOURS: Final = "That is not yours to do on this site, so nothing was done or sent."


class Answers(Core):
    """What admins say to visitors, and the desk to admins."""

    async def admin_says(
        self,
        admin: Admin,
        alias: str,
        body: str,
        *,
        intake: Intake | None,
        now: float,
        echo: str = "",
        in_room: bool = False,
    ) -> Message:
        """An answer goes into the conversation, which is the admin's from now on if it was nobody's.

        `in_room`: it stands in the conversation's room already, so nobody has to be told; else the others are, and
        `echo`, if any, goes back. Duplicate: this intake took effect before. AdminError: no such alias, empty or too
        long text, or not theirs to answer.
        """
        admin = self._present(admin)
        conversation, public_key = self._called(alias, admin, Role.ANSWERS)
        body = accepted(body)
        told = [] if in_room else self._to_others(admin, conversation, f"{admin.name}: {body}")
        told += self._deliveries(DeliveryKind.NOTICE, [admin] if echo else [], echo)
        return await self._say(admin, conversation, public_key, body, told, intake=intake, now=now)

    async def admin_corrects(
        self, admin: Admin, handle: str, body: str, *, intake: Intake, now: float, in_room: bool = False
    ) -> None:
        """Other words in the place of an answer (XEP-0308); errors as above, or nothing is known by that handle."""
        body = accepted(body)
        await self._change(admin, handle, body, MessageState.CORRECTED, intake, now, in_room)

    async def admin_retracts(
        self, admin: Admin, handle: str, *, intake: Intake, now: float, in_room: bool = False
    ) -> None:
        """An answer is taken back (XEP-0424); errors as above."""
        await self._change(admin, handle, "", MessageState.RETRACTED, intake, now, in_room)

    def admin_types(self, admin: Admin, alias: str) -> None:
        """An admin is writing to that conversation at this moment; unknown aliases, and admins, are ignored."""
        found, present = self.store.conversation_called(alias), self._admin_of.get(self.admin_id(admin))
        if found and present and self.site(found[0].site).typing and present.role_at(found[0].site) >= Role.ANSWERS:
            self.listeners.tell(found[0].id, Typing(present.name))

    async def tell(
        self, admin: Admin, text: str, *, intake: Intake | None = None, now: float, place: bytes | None = None
    ) -> None:
        """Queue a notice for one admin, together with the stanza that it answers. Duplicate as above.

        `place`: the conversation in whose chat that was. NotFound: it is gone.
        """
        notices = self._deliveries(DeliveryKind.NOTICE, [admin], text)
        taken = self._taken(intake) if intake else None
        await self.store.queue(notices, minute=minute_of(now), conversation=place, taken=taken)
        self.wake.set()

    async def skip(self, intake: Intake, *, now: float) -> None:
        """A stanza that needs nothing done: remember only that it was seen. Duplicate as above."""
        await self.store.queue((), minute=minute_of(now), taken=self._taken(intake))

    def open_aliases(self, admin: Admin | None = None, *, folded: bool = False) -> list[str]:
        """Open conversations, of one admin's sites or all, the one with the newest message first.

        `folded`: also those that nobody has heard of, but by being listed.
        """
        return [each.alias for each in self._open_ones(admin, folded)]

    # ---- within ----------------------------------------------------------------------------------------------

    def _open_ones(self, admin: Admin | None, folded: bool) -> list[Conversation]:
        found = self.store.conversations(Standing.OPEN, limit=1000, folded=folded)
        return [each for each in found if admin is None or admin.role_at(each.site) >= Role.READS]

    async def _say(
        self,
        admin: Admin,
        conversation: Conversation,
        public_key: bytes,
        body: str,
        told: Sequence[NewDelivery],
        *,
        intake: Intake | None,
        now: float,
    ) -> Message:
        """Keep an accepted answer; `told` belong to its conversation. Without an account one claims nothing."""
        claimed = self._news_of(conversation, f"{admin.name} answers {conversation.alias}.", but_for=(admin,))
        new = NewMessage(
            Author.ADMIN,
            _sealed(conversation, public_key, admin, body),
            told,
            claimed_by=self.admin_id(admin) if admin.address else None,
            if_claimed=claimed,
            handles=self._handles(intake) if intake else (),
            copy=self._copy(conversation.id, Author.ADMIN, admin.name, body),
            unfold=self._unfolded,
        )
        taken = self._taken(intake) if intake else None
        try:
            kept = await self.store.add_message(conversation.id, new, minute=minute_of(now), taken=taken)
        except NotFound:  # burned at this very moment
            raise AdminError(GONE) from None
        self._repeats.forget(conversation.id)
        await self._inherit(admin, kept, claimed, now)
        minute = kept.conversation.last_minute
        message = Message(conversation.id, kept.seq, Author.ADMIN, admin.name, body, minute, Progress.KEPT)
        self._tell_said(kept, message)
        return message

    async def _inherit(self, admin: Admin, kept: Kept, news: Sequence[NewDelivery], now: float) -> None:
        """After an answer: an owner who is no admin any more owns nothing."""
        if kept.claimed or not admin.address or self.name_of(kept.conversation.owner):
            return
        try:
            await self.store.set_owner(kept.conversation.id, self.admin_id(admin), minute=minute_of(now), notices=news)
        except NotFound:  # burned at this very moment
            return

    async def _change(
        self, admin: Admin, handle: str, body: str, state: MessageState, intake: Intake, now: float, in_room: bool
    ) -> None:
        admin = self._present(admin)
        found = self.store.handled(self._hashed(handle))
        if found is None or admin.role_at(found.conversation.site) is Role.NONE:
            raise AdminError("It is not known here what you changed, so the visitor still sees it as it was.")
        conversation, stored = found.conversation, found.message
        if admin.role_at(conversation.site) < Role.ANSWERS:
            raise AdminError(NOT_YOURS)
        if stored.state is MessageState.RETRACTED and body:
            raise AdminError("You took that back before, so the visitor does not see this. Please write it anew.")
        copy = self._copy(conversation.id, Author.ADMIN, admin.name, body) if body else None
        done = f"{admin.name} corrected: {body}" if body else f"{admin.name} took an answer back."
        try:
            await self.store.change_message(
                conversation.id,
                stored.seq,
                _sealed(conversation, found.public_key, admin, body)(stored.seq),
                state,
                minute=minute_of(now),
                notices=[] if in_room else self._to_others(admin, conversation, done),
                handles=self._handles(intake),
                taken=self._taken(intake),
                copy=copy(stored.seq) if copy else None,
            )
        except NotFound:
            raise AdminError(GONE) from None
        self._tell_changed(
            Message(conversation.id, stored.seq, Author.ADMIN, admin.name, body, stored.minute, stored.progress, state)
        )

    def _to_others(self, admin: Admin, conversation: Conversation, text: str) -> list[NewDelivery]:
        """What this admin did elsewhere than in the room, to those who see the conversation."""
        return self._to_place(conversation.id, conversation.site, DeliveryKind.NOTICE, text, but_for=admin)

    def _called(self, alias: str, admin: Admin, role: Role) -> tuple[Conversation, bytes]:
        """The conversation and its visitor's public key. AdminError: there is none (of theirs), or not for them."""
        found = self.store.conversation_called(alias)
        theirs = admin.role_at(found[0].site) if found else Role.NONE
        if found is None or theirs is Role.NONE:
            near = commands.nearest(alias, self.open_aliases(admin, folded=True))
            hint = f" Did you mean {' or '.join(near)}?" if near else " !list shows the open ones."
            raise AdminError(f"There is no conversation {alias}; nothing was sent to anyone.{hint}")
        if theirs < role:
            raise AdminError(NOT_YOURS)
        return found


def accepted(body: str) -> str:
    """As a visitor's: cleaned. AdminError: nothing is left of it, or it is too long."""
    try:
        return accept(body)
    except VisitorError as error:
        raise AdminError(error.message) from None


def _sealed(conversation: Conversation, public_key: bytes, admin: Admin, body: str) -> Callable[[int], bytes]:
    def seal(seq: int) -> bytes:
        return crypto.seal(public_key, conversation.id, Author.ADMIN, seq, admin.name, body)

    return seal
