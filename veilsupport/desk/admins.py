"""What an admin may do: answer, and command. Each takes effect together with the stanza that brought it, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilsupport import commands, crypto
from veilsupport.commands import Command
from veilsupport.desk.core import Core, accept, minute_of
from veilsupport.errors import AdminError, NotFound, VisitorError
from veilsupport.model import (
    Admin,
    Author,
    Conversation,
    DeliveryKind,
    Intake,
    Message,
    Progress,
    Standing,
    StandingChanged,
    Typing,
)
from veilsupport.store import NewDelivery, NewMessage, Taken

LIST_MAX: Final = 30  # conversations in one answer to !list: a phone's screen or two
_GONE: Final = "That conversation is gone; nothing was sent to anyone."
_DONE: Final = {Standing.CLOSED: "closed", Standing.OPEN: "reopened", Standing.BLOCKED: "blocked"}


class Admins(Core):
    """The admins' half of the desk."""

    async def admin_says(
        self, admin: Admin, alias: str, body: str, *, intake: Intake, now: float, echo: str = ""
    ) -> None:
        """An answer goes into the conversation; the other admins are told, and `echo`, if any, goes back.

        Duplicate: this intake took effect before. AdminError: no such alias, empty or too long text.
        """
        conversation, public_key = self._called(alias)
        try:
            body = accept(body)
        except VisitorError as error:
            raise AdminError(error.message) from None

        def seal(seq: int) -> bytes:
            return crypto.seal(public_key, conversation.id, Author.ADMIN, seq, admin.name, body)

        others = [other for other in self.admins if other != admin]
        told = self._deliveries(DeliveryKind.NOTICE, others, f"{admin.name}: {body}")
        told += self._deliveries(DeliveryKind.NOTICE, [admin] if echo else [], echo)
        new = NewMessage(Author.ADMIN, seal, told)
        try:
            kept = await self.store.add_message(conversation.id, new, minute=minute_of(now), taken=self._taken(intake))
        except NotFound:  # burned at this very moment
            raise AdminError(_GONE) from None
        message = Message(
            conversation.id,
            kept.seq,
            Author.ADMIN,
            admin.name,
            body,
            kept.conversation.last_minute,
            Progress.KEPT,
        )
        self._tell_said(kept, message)

    def admin_types(self, admin: Admin, alias: str) -> None:
        """An admin is writing to that conversation at this moment; unknown aliases are ignored."""
        found = self.store.conversation_called(alias)
        if found:
            self.listeners.tell(found[0].id, Typing(admin.name))

    async def admin_commands(self, admin: Admin, command: Command, *, intake: Intake, now: float) -> None:
        """Carry out a `!` command; its answer is queued as a notice, and so is what is wrong with it.

        Duplicate: this intake took effect before.
        """
        try:
            await self._carry_out(admin, command, intake, now)
        except AdminError as error:
            await self.tell(admin, error.message, intake=intake, now=now)

    async def _carry_out(self, admin: Admin, command: Command, intake: Intake, now: float) -> None:
        match command.verb:
            case "help":
                await self.tell(admin, commands.help_text(), intake=intake, now=now)
            case "list":
                await self.tell(admin, self._list(now), intake=intake, now=now)
            case "status":
                await self.tell(admin, "\n".join([*self.status(), *self._counts()]), intake=intake, now=now)
            case "close":
                await self._set_standing(admin, command, Standing.CLOSED, intake, now)
            case "reopen":
                await self._set_standing(admin, command, Standing.OPEN, intake, now)
            case "block":
                await self._set_standing(admin, command, Standing.BLOCKED, intake, now)
            case "burn":
                await self._admin_burns(admin, command, intake, now)
            case _:
                raise AdminError("This command is not for here.")

    async def tell(self, admin: Admin, text: str, *, intake: Intake | None = None, now: float) -> None:
        """Queue a notice for one admin, together with the stanza that it answers. Duplicate as above."""
        notices = self._deliveries(DeliveryKind.NOTICE, [admin], text)
        await self.store.queue(notices, minute=minute_of(now), taken=self._taken(intake) if intake else None)
        self.wake.set()

    async def skip(self, intake: Intake, *, now: float) -> None:
        """A stanza that needs nothing done: remember only that it was seen. Duplicate as above."""
        await self.store.queue((), minute=minute_of(now), taken=self._taken(intake))

    def open_aliases(self) -> list[str]:
        """Open conversations, the one with the newest message first."""
        return [conversation.alias for conversation in self.store.conversations(Standing.OPEN, limit=1000)]

    # ---- within ----------------------------------------------------------------------------------------------

    async def _set_standing(
        self, admin: Admin, command: Command, standing: Standing, intake: Intake, now: float
    ) -> None:
        conversation = self._named(command)
        try:
            await self.store.set_standing(
                conversation.id,
                standing,
                minute=minute_of(now),
                notices=self._news(admin, conversation.alias, _DONE[standing]),
                taken=self._taken(intake),
            )
        except NotFound:  # burned at this very moment
            raise AdminError(_GONE) from None
        self.listeners.tell(conversation.id, StandingChanged(standing))
        self.wake.set()

    async def _admin_burns(self, admin: Admin, command: Command, intake: Intake, now: float) -> None:
        conversation = self._named(command)
        notices = self._news(admin, conversation.alias, "burned")
        await self._burn(conversation.id, notices, now=now, taken=self._taken(intake))

    def _news(self, admin: Admin, alias: str, done: str) -> Sequence[NewDelivery]:
        """What was done, to the one who did it and to the others."""
        others = [other for other in self.admins if other != admin]
        return [
            *self._deliveries(DeliveryKind.NOTICE, [admin], f"{alias} is {done}."),
            *self._deliveries(DeliveryKind.NOTICE, others, f"{admin.name} has {done} {alias}."),
        ]

    def _named(self, command: Command) -> Conversation:
        if command.alias is None:
            raise AdminError(f"Which conversation? Write: !{command.verb} heron-42")
        return self._called(command.alias)[0]

    def _called(self, alias: str) -> tuple[Conversation, bytes]:
        """The conversation and its visitor's public key. AdminError names the nearest when there is none."""
        found = self.store.conversation_called(alias)
        if found is None:
            near = commands.nearest(alias, self.open_aliases())
            hint = f" Did you mean {' or '.join(near)}?" if near else " !list shows the open ones."
            raise AdminError(f"There is no conversation {alias}; nothing was sent to anyone.{hint}")
        return found

    def _list(self, now: float) -> str:
        found = self.store.conversations(Standing.OPEN, limit=LIST_MAX)
        if not found:
            return "No conversation is open."
        return "\n".join(_line(each, minute_of(now)) for each in found)

    def _counts(self) -> list[str]:
        open_ones = self.store.count_conversations(Standing.OPEN)
        return [f"Conversations open: {open_ones}", f"Waiting to be delivered: {self.store.backlog()}"]

    def _taken(self, intake: Intake) -> Taken:
        def hashed(text: str) -> bytes:
            return crypto.derive(self.key.pepper, "veil-intake", text.encode())

        archive = hashed(intake.archive) if intake.archive is not None else None
        return Taken(hashed(intake.key), archive, intake.position)


def _line(conversation: Conversation, minute: int) -> str:
    site = f" ({conversation.site})" if conversation.site else ""
    return f"{conversation.alias}{site}: {_ago(minute - conversation.last_minute)}"


def _ago(minutes: int) -> str:
    """How long ago the last message was, as one says it."""
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 48 * 60:
        return f"{minutes // 60} h ago"
    return f"{minutes // (24 * 60)} days ago"
